"""Commands in the deterministic world: kept back, doubled, across kills, reboots and power cuts."""

from __future__ import annotations

import json
from collections import Counter
from functools import partial

import pytest

from agent.core.types import MS, SECOND, BootNs, KeyPosition
from simulator.compose_virtual import DEVICE, FLEET, Options, World
from simulator.faults.knobs import Step
from sync.documents import Command
from sync.keys import Signer, Verifier
from sync.signed import seal

CONTROL = Signer(b"\x07" * 32)
EVERY_S = 20


class ControlRoom:
    """Signs by what the depot has heard of the tablet, and keeps what it sent."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.sent: dict[str, str] = {}

    def send(self, verb: str) -> None:
        rows = self.world.depot.rows("SELECT boot_id, nonce, boot_ns FROM presence WHERE state = 'online'")
        if not rows or not rows[0][1]:
            return
        boot_id, nonce, boot_ns = rows[0]
        number = len(self.sent) + 1
        command = Command(
            id=f"{number:032x}", number=number, fleet=FLEET, device=DEVICE, boot_id=bytes(boot_id).hex(),
            nonce=bytes(nonce).hex(), latest_ms=boot_ns // MS + 3_000_000, verb=verb,  # type: ignore[arg-type]
        )  # fmt: skip
        self.sent[command.id] = seal(command, CONTROL)
        self.publish(command.id)

    def replay(self) -> None:
        """Somebody at the broker says everything again."""
        for id_ in self.sent:
            self.publish(id_)

    def publish(self, id_: str) -> None:
        topic = f"ivma/1/{FLEET}/{DEVICE}/command"
        self.world.broker.publish(topic, self.sent[id_].encode(), retain=False)


@pytest.mark.parametrize("seed", range(4))
def test_each_command_is_taken_once_whatever_fails_between(seed: int) -> None:
    world = World(seed, Options(commands=Verifier(CONTROL.public)))
    try:
        room = ControlRoom(world)
        rng = world.rng("control room")
        world.broker.duplicate_permille = 300
        world.at(BootNs(30 * SECOND), lambda: world.turn_key(KeyPosition.ON))
        for n in range(3, 40):
            verb = rng.choice(["lock", "revoke", "flush", "diagnostics"])
            world.at(BootNs(n * EVERY_S * SECOND), partial(room.send, verb))
            world.at(BootNs((n * EVERY_S + 7) * SECOND), room.replay)
        for at_s in (170, 410):
            world.at(BootNs((at_s + seed) * SECOND), lambda: world.tablet.kill_agent(2, Step.EFFECTS))
        world.at(BootNs((290 + seed) * SECOND), lambda: world.tablet.cut_power(2, Step.WRITES))
        world.at(BootNs(310 * SECOND), world.press_button)
        world.at(BootNs(500 * SECOND), lambda: setattr(world.network, "cut", True))
        world.at(BootNs(560 * SECOND), lambda: setattr(world.network, "cut", False))
        world.run_until(BootNs(1200 * SECOND))
        rows = world.depot.rows("SELECT kind, body FROM record ORDER BY chain, seq")
        taken = Counter(json.loads(body)["id"] for kind, body in rows if kind == "command.taken")
        answered = Counter(json.loads(body)["id"] for kind, body in rows if kind == "command.answered")
        reasons = {json.loads(body)["reason"] for kind, body in rows if kind == "order.refused"}
        assert len(taken) > 15
        assert set(taken) <= set(room.sent)
        assert max(taken.values()) == max(answered.values()) == 1
        assert set(answered) <= set(taken)
        assert len(taken) - len(answered) <= 3, "only what a kill or a cut came between has no answer"
        assert {"birth", "boot"} <= reasons
    finally:
        world.close()


def test_a_locked_tablet_that_stays_docked_opens_by_fresh_proof_and_with_one_record_each() -> None:
    world = World(9, Options(commands=Verifier(CONTROL.public)))
    try:
        room = ControlRoom(world)
        world.at(BootNs(30 * SECOND), lambda: world.turn_key(KeyPosition.ON))
        world.at(BootNs(100 * SECOND), lambda: room.send("lock"))
        world.run_until(BootNs(200 * SECOND))
        rows = world.depot.rows("SELECT body FROM record WHERE kind = 'enforcement.changed' ORDER BY seq")
        changes = [(json.loads(body)["posture"], json.loads(body)["rule"]) for (body,) in rows]
        assert changes == [
            ("locked", "tether.no_evidence"), ("usable", "tether.proven"),
            ("locked", "tether.ordered"), ("usable", "tether.proven"),
        ]  # fmt: skip
    finally:
        world.close()
