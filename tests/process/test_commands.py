"""Signed commands with the real agent, Mosquitto, depot and `ivma-depot`: done once, bound, answered."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.agent_rig import stop
from tests.aio import looped
from tests.orders_rig import fleet
from tests.sync_rig import until


@looped
async def test_a_permit_and_a_lock_are_done_answered_and_on_record(tmp_path: Path) -> None:
    async with fleet(tmp_path) as tablet, tablet.running() as process:
        await tablet.online()
        await tablet.send(await tablet.command("permit", "--minutes", "20"))
        [permitted] = await tablet.answered(1)
        assert permitted["done"], permitted
        assert await tablet.usable()
        await tablet.send(await tablet.command("lock"))
        _, locked = await tablet.answered(2)
        assert (locked["verb"], locked["done"]) == ("lock", True)
        assert not await tablet.usable()
        assert (await tablet.grants())["permit"] is None
        assert [taken["verb"] for taken in tablet.at_depot("command.taken")] == ["permit", "lock"]
        assert [taken["id"] for taken in tablet.at_depot("command.taken")] == [permitted["id"], locked["id"]]
        changes = [(r["posture"], r["rule"]) for r in tablet.at_depot("enforcement.changed")]
        assert changes == [("usable", "grant.permit"), ("locked", "grant.revoked")]
        assert await stop(process) == 0


@looped
async def test_a_command_that_comes_again_is_done_once(tmp_path: Path) -> None:
    """Redelivered, replayed by the broker's other clients, and after a kill of the agent in the same boot."""
    async with fleet(tmp_path) as tablet:
        async with tablet.running() as process:
            await tablet.online()
            text = await tablet.command("diagnostics")
            for _ in range(3):
                await tablet.publish("command", text.encode())
            await tablet.answered(1)
            await tablet.send(await tablet.command("flush"))
            await tablet.answered(2)
            assert [r["verb"] for r in tablet.at_depot("command.taken")] == ["diagnostics", "flush"]
            process.send_signal(signal.SIGKILL)
            await process.wait()
        async with tablet.running() as process:
            await until(lambda: len(tablet.at_depot("agent.started")) == 2)
            await tablet.publish("command", text.encode())
            await until(lambda: bool(tablet.at_depot("order.refused")))
            assert [r["reason"] for r in tablet.at_depot("order.refused")] == ["birth"]
            assert len(tablet.at_depot("command.taken")) == 2
            [bundle] = tablet.at_depot("diagnostics.bundle")
            status = json.loads(bundle["status"])
            assert status["status"]["device"] == "tablet-1"
            assert await stop(process) == 0


@looped
async def test_a_reboot_voids_what_was_signed_before(tmp_path: Path) -> None:
    async with fleet(tmp_path) as tablet:
        async with tablet.running() as process:
            await tablet.online()
            text = await tablet.command("permit")
            assert await stop(process) == 0
        tablet.boot()
        async with tablet.running():
            await tablet.online()
            await tablet.publish("command", text.encode())
            await until(lambda: bool(tablet.at_depot("order.refused")))
            assert [r["reason"] for r in tablet.at_depot("order.refused")] == ["boot"]
            assert not await tablet.usable()
            assert tablet.at_depot("command.taken") == []


@looped
async def test_what_is_forged_altered_or_for_another_is_refused_and_recorded(tmp_path: Path) -> None:
    async with fleet(tmp_path) as tablet, tablet.running():
        await tablet.online()
        text = await tablet.command("lock")
        other = text.replace("BEGIN IVMA COMMAND", "BEGIN IVMA PERMIT")
        for payload in (b"", b"\xff", b"x" * 100_000, text[:-60].encode(), other.encode()):
            await tablet.publish("command", payload)
        await until(lambda: bool(tablet.at_depot("order.refused")))
        _, status = await tablet.ask("status")
        assert status["orders"]["refused"] == {"command": 5}
        assert len(tablet.at_depot("order.refused")) == 1, "a flood leaves one record in ten seconds"
        assert tablet.at_depot("command.taken") == []


@looped
@pytest.mark.parametrize("verb", ["log-level", "revoke", "reboot"])
async def test_the_other_verbs(tmp_path: Path, verb: str) -> None:
    async with fleet(tmp_path) as tablet:
        tablet.log = tmp_path / "agent.log"
        async with tablet.running():
            await tablet.online()
            if verb == "revoke":
                assert (await tablet.load(tablet.permit()))[0] == 0
                assert await tablet.usable()
            level = ["--level", "debug"] if verb == "log-level" else []
            await tablet.send(await tablet.command(verb, *level))
            [answer] = await tablet.answered(1)
            assert answer["done"], answer
            said = tablet.log.read_text()
            if verb == "revoke":
                assert not await tablet.usable()
            elif verb == "reboot":
                await until(lambda: '{"power": "reboot"' in tablet.log.read_text())  # type: ignore[union-attr]
            else:
                assert "debug" in answer["detail"]
                await tablet.publish("ack", b"rubbish")
                await tablet.publish("ack", b"rubbish again")
                await until(lambda: '"level": "debug"' in tablet.log.read_text())  # type: ignore[union-attr]
                assert '"level": "debug"' not in said.split("command.answered")[0]


@looped
async def test_a_fleet_key_changes_by_a_signed_word_and_both_open_what_they_sealed(tmp_path: Path) -> None:
    async with fleet(tmp_path) as tablet:
        tablet.control_room("new-fleet-key", "--generation", "2")
        text = await tablet.sign("fleet-key", "--generation", "2")
        tablet.depot.stop()
        tablet.depot.run()  # it reads the keys of its folder at its start
        async with tablet.running() as process:
            await tablet.online()
            await tablet.send(text)
            await until(lambda: bool(tablet.at_depot("sealing.changed")))
            assert await stop(process) == 0
        async with tablet.running() as process:
            await until(lambda: len(tablet.at_depot("agent.started")) == 2)
            assert await stop(process) == 0
        generations = {g for (g,) in tablet.depot.rows("SELECT generation FROM segment")}
        assert generations == {1, 2}
        assert tablet.depot.rows("SELECT count(*) FROM block WHERE NOT opened") == [(0,)]
        assert len(tablet.at_depot("sealing.changed")) == 1
