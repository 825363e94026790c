"""Pairing with real processes: the daemon, ivmactl and a simulated dock on a pty, whole and interrupted."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drivers.docks.reference.codec import Challenge, Message, Pair, Unpair
from simulator.docks.reference import PairFault
from simulator.docks.serial_device import PtyPlug, SerialDevice
from tests.agent_rig import bare, stop
from tests.aio import looped
from tests.dock_port import boot_now
from tests.firmware_rig import FirmwareDock, needs_gcc
from tests.pairing_rig import SERIAL, VEHICLE, WatchedDock, Workshop, is_paired, workshop


@looped
async def test_one_command_pairs_a_fresh_dock_and_a_restart_keeps_it(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        dock = shop.dock()
        shop.plug.plug(dock)
        async with shop.agent.running() as process:
            code, paired = await shop.pair()
            assert code == 0
            assert paired | {"port": ""} == {
                "dock": "dock", "serial": SERIAL, "vehicle_id": VEHICLE, "model": "Simulated reference dock",
                "firmware": "1.0", "port": "", "link_version": 1, "way": "new key", "proved": True,
            }  # fmt: skip
            assert dock.model.identity.key is not None
            await shop.tethered()
            code, shown = await shop.agent.ask("dock", "show")
            assert (code, shown["in"], shown["pending"]) == (0, "dock", [])
            assert shown["docks"][0]["serial"] == shown["docks"][0]["says_serial"] == SERIAL
            assert shown["docks"][0]["round_trip"]["p50_us"] > 0
            (record,) = await shop.kinds("dock.paired")
            assert record["serial"] == SERIAL
            assert record["uid"] == os.getuid()
            assert await stop(process) == 0
        assert shop.files() == [".key", ".toml"]
        assert all(file.stat().st_mode & 0o777 == 0o600 for file in shop.pairings.iterdir())
        assert shop.pairings.stat().st_mode & 0o777 == 0o700
        async with shop.agent.running():
            await shop.tethered()


@looped
async def test_the_installer_reads_what_was_done_and_what_works(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        dock = shop.dock()
        dock.model.set_inputs(boot_now(), kl15=True, vehicle_mv=12_600, dock_mv=12_000, tablet_ma=900)
        shop.plug.plug(dock)
        async with shop.agent.running():
            code, text = await shop.says("dock", "pair", "--port", str(shop.port), "--vehicle", VEHICLE)
            assert code == 0
            assert f"paired: dock is dock {SERIAL} in vehicle {VEHICLE}; it proved its key" in text
            await shop.tethered()
            code, text = await shop.says("dock", "test")
            assert code == 0, text
            for line in ("light", "buzzer", "latch", "closed and opened", "12.60 V", "round trip"):
                assert line in text
            assert "all that was tested works" in text
            (tested,) = await shop.kinds("dock.tested")
            assert (tested["ok"], tested["failed"]) == (True, "")
            code, text = await shop.says("dock", "show")
            assert (code, "the tablet is in: dock" in text) == (0, True)

            dock.model.set_inputs(boot_now(), latch_jammed=True)
            dock.kick()
            code, text = await shop.says("dock", "test", "dock")
            assert code == 1
            assert "it did not reach its place" in text


@looped
async def test_a_paired_dock_is_refused_until_its_service_contact_is_closed(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        dock = shop.dock(key=bytes(range(32)))
        shop.plug.plug(dock)
        async with shop.agent.running():
            code, text = await shop.says("dock", "pair", "--port", str(shop.port), "--vehicle", VEHICLE)
            assert code == 1
            assert "paired already, and its service contact is open" in text
            assert dock.model.identity.key == bytes(range(32))
            dock.model.service_contact = True
            code, _ = await shop.pair()
            assert code == 0
            dock.model.service_contact = False
            await shop.tethered()
            # And again, over the pairing that is in force.
            dock.model.service_contact = True
            before = dock.model.identity.key
            code, again = await shop.pair()
            assert (code, again["dock"]) == (0, "dock")
            assert dock.model.identity.key != before
            await shop.tethered()
            assert shop.files() == [".key", ".toml"]


@pytest.mark.parametrize("fault", list(PairFault))
@looped
async def test_a_dock_that_loses_its_supply_while_it_is_paired_can_be_paired(
    tmp_path: Path, fault: PairFault
) -> None:
    async with workshop(tmp_path) as shop:
        dock = shop.dock()
        dock.model.pair_fault = fault
        shop.plug.plug(dock)
        async with shop.agent.running():
            # Before storing: PAIR is sent again, unanswered as it was. After: the proof says that it took.
            code, answer = await shop.pair()
            assert (code, answer["way"]) == (0, "new key")
            await shop.tethered()


async def killed_at(
    shop: Workshop, dock: SerialDevice[WatchedDock], kind: type[Message], *, passes: bool
) -> None:
    """The agent is killed when the dock meets the first message of a kind after it was told to pair."""
    async with shop.agent.running() as process:
        begun: list[Message] = []

        def met(message: Message) -> bool:
            if isinstance(message, Pair):
                begun.append(message)
            if begun and isinstance(message, kind) and process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                return passes
            return process.returncode is None

        dock.model.met = met
        code, _ = await shop.says("dock", "pair", "--port", str(shop.port), "--vehicle", VEHICLE)
        assert code == 3  # the agent went away
        assert await process.wait() == -signal.SIGKILL
    dock.model.met = lambda _message: True


@pytest.mark.parametrize(
    ("kind", "passes", "recovered"),
    [
        (Pair, False, False),  # the dock never had the key
        (Pair, True, True),  # it has, and nobody heard it say so
        (Challenge, False, True),  # it has, and was not asked to prove it
        (Challenge, True, True),  # it proved it, and nobody heard
    ],
)
@looped
async def test_killed_while_it_pairs_the_next_start_finds_out_what_the_dock_has(
    tmp_path: Path, kind: type[Message], passes: bool, recovered: bool
) -> None:
    async with workshop(tmp_path) as shop:
        dock = shop.dock()
        shop.plug.plug(dock)
        await killed_at(shop, dock, kind, passes=passes)
        assert shop.files() == [".key", ".pending"]
        assert (dock.model.identity.key is not None) is recovered
        async with shop.agent.running():
            if recovered:
                await shop.tethered()
                assert [record["way"] for record in await shop.kinds("dock.paired")] == ["recovered"]
            else:
                code, _ = await shop.pair()
                assert code == 0
                await shop.tethered()
            assert shop.files() == [".key", ".toml"]


@looped
async def test_killed_over_a_pairing_in_force_whichever_key_the_dock_has_is_good(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        dock = shop.dock()
        shop.plug.plug(dock)
        async with shop.agent.running():
            assert (await shop.pair())[0] == 0
        dock.model.service_contact = True
        for passes in (False, True):
            before = dock.model.identity.key
            await killed_at(shop, dock, Pair, passes=passes)
            assert (dock.model.identity.key != before) is passes
            async with shop.agent.running():
                await shop.tethered()


@looped
async def test_pulled_out_while_it_pairs_it_is_paired_when_it_is_back(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        dock = shop.dock()
        shop.plug.plug(dock)
        async with shop.agent.running():
            loop = asyncio.get_running_loop()

            def met(message: Message) -> bool:
                if isinstance(message, Pair):
                    loop.call_soon(shop.plug.pull)  # it has the key; nothing of its answer arrives
                    dock.model.met = lambda _message: True
                return True

            dock.model.met = met
            code, text = await shop.says("dock", "pair", "--port", str(shop.port), "--vehicle", VEHICLE)
            assert (code, "pair again" in text) == (1, True)
            held = dock.model.identity.key
            assert held is not None
            shop.plug.plug(dock)
            code, answer = await shop.pair()
            assert (code, answer["way"]) == (0, "resumed")
            assert dock.model.identity.key == held
            await shop.tethered()


@looped
async def test_unpaired_on_both_sides_or_forgotten_on_one(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        dock = shop.dock()
        shop.plug.plug(dock)
        async with shop.agent.running():
            assert (await shop.pair())[0] == 0
            await shop.tethered()
            code, answer = await shop.agent.ask("dock", "unpair", "dock")
            assert (code, answer["dock_cleared"]) == (0, True)
            assert not is_paired(dock)
            assert shop.files() == []

            assert (await shop.pair("--name", "front"))[0] == 0
            shop.plug.pull()
            code, text = await shop.says("dock", "unpair", "front")
            assert (code, "--forget" in text) == (1, True)
            code, answer = await shop.agent.ask("dock", "unpair", "front", "--forget")
            assert (code, answer["dock_cleared"]) == (0, False)
            assert is_paired(dock)
            assert shop.files() == []
            assert [record["way"] for record in await shop.kinds("dock.unpaired")] == ["dock", "forgotten"]


@looped
async def test_an_unpair_whose_answer_is_lost_is_found_out(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        dock = shop.dock()
        shop.plug.plug(dock)
        async with shop.agent.running():
            assert (await shop.pair())[0] == 0

            def met(message: Message) -> bool:
                if isinstance(message, Unpair):  # it forgets, and its answer is never sent
                    dock.model.identity.key = None
                    dock.model.reset(boot_now())
                    return False
                return True

            dock.model.met = met
            code, answer = await shop.agent.ask("dock", "unpair", "dock")
            assert (code, answer["dock_cleared"]) == (0, True)


@needs_gcc
@looped
async def test_the_dock_in_c_is_paired_tested_and_unpaired(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        board = FirmwareDock(boot_now(), serial=SERIAL)
        board.set_inputs(boot_now(), locked=None)  # a board without a sense at its latch
        device = SerialDevice(board, boot_now)
        shop.plug.plug(device)
        async with shop.agent.running():
            assert (await shop.pair())[1]["way"] == "new key"
            assert board.paired()
            await shop.tethered()
            code, tested = await shop.agent.ask("dock", "test")
            found = {each["what"]: each["ok"] for each in tested["findings"]}
            assert (code, found["light"], found["buzzer"], found["seated"]) == (0, True, True, True)
            code, answer = await shop.agent.ask("dock", "unpair", "dock")
            assert (code, answer["dock_cleared"], board.paired()) == (0, True, False)
        device.close()


@looped
async def test_a_key_made_elsewhere_is_given_to_the_dock_or_found_in_it(tmp_path: Path) -> None:
    key = bytes(range(100, 132))
    key_file = tmp_path / "fleet.key"
    key_file.write_text(key.hex() + "\n")
    async with workshop(tmp_path) as shop:
        fresh, provisioned = shop.dock(), shop.dock("DK-000008", key=key)
        async with shop.agent.running():
            shop.plug.plug(fresh)
            code, answer = await shop.pair("--key-file", str(key_file))
            assert (code, answer["way"], fresh.model.identity.key) == (0, "given key", key)
            shop.plug.pull()
            shop.plug.plug(provisioned)
            code, answer = await shop.pair("--key-file", str(key_file), "--name", "yard")
            assert (code, answer["way"]) == (0, "provisioned")
            key_file.write_text("00" * 20)
            code, text = await shop.says(
                "dock", "pair", "--port", str(shop.port), "--vehicle", VEHICLE, "--key-file", str(key_file)
            )
            assert (code, "does not hold a key of 64 hex digits" in text) == (2, True)
            assert not list((tmp_path / "run").glob("handover*"))


def tethered_to(name: str) -> Callable[[dict[str, Any]], bool]:
    return lambda status: (status["tether"]["dock"], status["tether"]["state"]) == (name, "tethered")


@looped
async def test_a_tablet_of_a_pool_says_in_which_vehicle_it_is(tmp_path: Path) -> None:
    """Two vehicles with docks of one kind, behind the same port; and a third that is not ours."""
    async with workshop(tmp_path) as shop:
        vans = {"van-1": shop.dock("DK-1"), "van-2": shop.dock("DK-2")}
        async with shop.agent.running() as process:
            for name, dock in vans.items():
                shop.plug.plug(dock)
                code, answer = await shop.pair("--name", name)
                assert (code, answer["serial"]) == (0, dock.model.identity.serial.rstrip(b"\0").decode())
                await shop.tethered()
                shop.plug.pull()
            for name in ("van-1", "van-2"):
                shop.plug.plug(vans[name])
                await shop.until(tethered_to(name))
                code, shown = await shop.agent.ask("dock", "show")
                assert (code, shown["in"]) == (0, name)
                shop.plug.pull()
            assert await stop(process) == 0
        async with shop.agent.running():
            shop.plug.plug(vans["van-1"])
            await shop.until(tethered_to("van-1"))
            shop.plug.pull()
            shop.plug.plug(shop.dock("DK-3", key=bytes(32)))
            await shop.until(lambda status: status["tether"]["state"] == "foreign")
            code, shown = await shop.agent.ask("dock", "show")
            assert (code, shown["in"]) == (1, None)


@looped
async def test_two_docks_at_once_the_first_stays_and_the_other_takes_over_when_it_is_gone(
    tmp_path: Path,
) -> None:
    async with workshop(tmp_path) as shop:
        first, second = shop.dock("DK-1"), shop.dock("DK-2")
        side = PtyPlug(tmp_path / "ttySide")
        shop.plug.plug(first)
        side.plug(second)
        try:
            async with shop.agent.running():
                assert (await shop.pair("--name", "front"))[0] == 0
                await shop.tethered()
                code, _ = await shop.agent.ask(
                    "dock", "pair", "--port", str(side.path), "--vehicle", VEHICLE, "--name", "side"
                )
                assert code == 0
                _, shown = await shop.agent.ask("dock", "show")
                assert [dock["dock"] for dock in shown["docks"] if dock["here"]] == ["front", "side"]
                assert (await shop.agent.ask("status"))[1]["tether"]["dock"] == "front"
                shop.plug.pull()
                await shop.until(
                    lambda status: (
                        status["tether"]["dock"] == "side" and status["tether"]["state"] == "tethered"
                    )
                )
        finally:
            side.pull()


@looped
async def test_a_bad_pairing_is_recorded_and_the_others_stay_in_force(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        dock = shop.dock()
        shop.plug.plug(dock)
        async with shop.agent.running() as process:
            assert (await shop.pair())[0] == 0
            await shop.tethered()
            bad = shop.pairings / "side.toml"
            bad.write_text("this is no pairing")
            process.send_signal(signal.SIGHUP)
            await shop.agent.says("READY=1")
            assert any(str(bad) in record["problem"] for record in await shop.kinds("config.refused"))
            assert (await shop.agent.ask("status"))[1]["tether"]["state"] == "tethered"
            assert await stop(process) == 0
        async with shop.agent.running():
            await shop.tethered()
            assert any(str(bad) in record["problem"] for record in await shop.kinds("config.refused"))
            code, text = await shop.says("dock", "show")
            assert (code, str(bad) in text) == (1, True)


@looped
async def test_a_model_without_a_key_has_nothing_to_pair(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        shop.plug.plug(shop.dock())
        async with shop.agent.running():
            for model, words in (("control-lines", "hold no key"), ("acme", "`acme` is not registered")):
                code, text = await shop.says(
                    "dock", "pair", "--port", str(shop.port), "--vehicle", VEHICLE, "--model", model
                )
                assert (code, words in text) == (1, True), text


@looped
async def test_a_new_dock_takes_no_name_of_another_that_is_found_on_the_same_port(tmp_path: Path) -> None:
    """While a dock is paired the others of its port are out of the way, and still ours."""
    async with workshop(tmp_path) as shop:
        first, second = shop.dock("DK-1"), shop.dock("DK-2")
        async with shop.agent.running():
            shop.plug.plug(first)
            assert (await shop.pair())[1]["dock"] == "dock"
            shop.plug.pull()
            shop.plug.plug(second)
            code, text = await shop.says(
                "dock", "pair", "--port", str(shop.port), "--vehicle", VEHICLE, "--name", "dock"
            )
            assert (code, "dock is dock DK-1, and this is dock DK-2" in text) == (1, True), text
            assert not is_paired(second)
            assert (await shop.pair())[1]["dock"] == "dock-2"
            shop.plug.pull()
            shop.plug.plug(first)
            await shop.until(tethered_to("dock"))


@looped
async def test_lines_that_stand_for_proof_and_a_key_do_not_go_together(tmp_path: Path) -> None:
    lines = {
        "name": "cradle",
        "model": "control-lines",
        "port": tmp_path / "ttyNone",
        "lines": {"seated": "dsr"},
    }
    allow = {"tether": {"hint_lines": "allow"}}
    async with workshop(tmp_path) as shop:
        shop.plug.plug(shop.dock())
        async with shop.agent.running() as process:
            assert (await shop.pair())[0] == 0
            await shop.tethered()
            shop.agent.configure(bare(tmp_path, dock=[lines], policy=allow))
            process.send_signal(signal.SIGHUP)
            await shop.agent.says("READY=1")
            refused = await shop.kinds("config.refused")
            assert any("restrict is in force" in record["problem"] for record in refused)
            assert (await shop.agent.ask("dock", "unpair", "dock"))[0] == 0
            process.send_signal(signal.SIGHUP)
            await shop.agent.says("READY=1")
            code, text = await shop.says("dock", "pair", "--port", str(shop.port), "--vehicle", VEHICLE)
            assert (code, "set it to report or restrict" in text) == (1, True), text
            assert await stop(process) == 0
