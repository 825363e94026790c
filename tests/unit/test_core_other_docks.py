"""Two paired docks at once: whose vehicle it is that the tablet judges."""

from __future__ import annotations

from typing import Any

from agent.core.catalogue import IGNITION_CHANGED, POWER_SAMPLE, TETHER_CHANGED
from agent.core.explain import status as shown
from agent.core.policy import Policy, TetherPolicy
from agent.core.types import SECOND, DockProof, Lock
from tests.core_driver import Core, status

POLICY = Policy(tether=TetherPolicy(refill_after_s=5))


class Docks:
    """Docks that answer by turns: STATUS at 5 Hz each, and a proof every 30 s each."""

    def __init__(self) -> None:
        self.core = Core(POLICY)
        self.core.start()
        self.proved: dict[str, int] = {}

    def run(self, seconds: float, **docks: dict[str, Any]) -> None:
        for _ in range(round(seconds * 5)):
            for name, said in docks.items():
                if self.core.now >= self.proved.get(name, -(10**18)) + 30 * SECOND:
                    self.proved[name] = self.core.now
                    self.core.see(DockProof(self.core.now, name, self.core.now))
                self.core.see(status(self.core.now, dock=name, **said))
            self.core.run(0.2)


def test_what_the_vehicle_of_another_dock_does_is_not_ours() -> None:
    docks = Docks()
    core = docks.core
    docks.run(8, van={"kl15": True})
    core.effects.clear()
    docks.run(60, van={"kl15": True}, car={"seated": False, "kl15": False, "vehicle_mv": 9000})
    assert core.usable()
    assert core.made(Lock) == []
    assert core.records(IGNITION_CHANGED) == []
    assert core.state.ignition.crank is None
    assert {record.as_dict()["vehicle_mv"] for record in core.records(POWER_SAMPLE)} == {12_600}


def test_once_moved_the_vehicle_is_that_of_the_dock_that_it_is_in() -> None:
    docks = Docks()
    core = docks.core
    docks.run(8, van={"kl15": True})
    docks.run(5, van={"seated": False, "kl15": True})
    assert not core.usable()
    docks.run(8, van={"seated": False, "kl15": True}, car={"kl15": False})
    assert core.usable()
    assert shown(core.state, POLICY, core.now)["tether"]["dock"] == "car"
    assert core.state.ignition.state.value == "off"
    last = core.records(TETHER_CHANGED)[-1].as_dict()
    assert (last["verdict"], last["dock"]) == ("tethered", "car")
