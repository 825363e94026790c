"""The D-Bus connection against a real dbus-daemon: calls, trust in signals, reconnection, descriptors."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from dbus_fast import Message
from dbus_fast.aio import MessageBus
from jeepney import DBusAddress, new_method_call

from agent.dbus import Bus, BusDown, CallRefused, CallTimeout
from agent.login1 import Login1
from agent.login1_words import MANAGER, NAME, ROOT
from simulator.logind import SimSession
from tests.aio import looped
from tests.logind_rig import logind_rig

_MANAGER = DBusAddress(ROOT, bus_name=NAME, interface=MANAGER)


@looped
async def test_reads_the_sessions_with_what_decides_whether_they_count(tmp_path: Path) -> None:
    async with logind_rig(tmp_path) as rig:
        rig.logind.add(SimSession("3", hint=True))
        rig.logind.add(SimSession("c1", kind="greeter"))
        rig.logind.add(SimSession("9", remote=True))
        await rig.connect()
        sessions = {session.id: session for session in await Login1(rig.bus).sessions()}
    assert sessions.keys() == {"3", "c1", "9"}
    assert sessions["3"].locked
    assert [s.id for s in sessions.values() if s.on_the_tablet] == ["3"]


@looped
async def test_an_inhibitor_is_a_descriptor_and_closing_it_releases(tmp_path: Path) -> None:
    async with logind_rig(tmp_path) as rig:
        await rig.connect()
        descriptor = await Login1(rig.bus).inhibit("sleep:shutdown", "test")
        assert rig.logind.inhibited("sleep")
        os.close(descriptor)
        await rig.settle()
        assert not rig.logind.inhibited("sleep")


@looped
async def test_a_refused_call_brings_the_name_and_words_of_the_error(tmp_path: Path) -> None:
    async with logind_rig(tmp_path) as rig:
        rig.logind.refuse["LockSessions"] = "org.freedesktop.DBus.Error.AccessDenied"
        await rig.connect()
        with pytest.raises(CallRefused, match="refused by the rig") as caught:
            await Login1(rig.bus).lock_all()
    assert caught.value.name == "org.freedesktop.DBus.Error.AccessDenied"


@looped
async def test_a_call_that_nobody_answers_ends_by_its_time(tmp_path: Path) -> None:
    async with logind_rig(tmp_path) as rig:
        mute = await MessageBus(bus_address=rig.address).connect()
        mute.add_message_handler(lambda message: message.member == "Mute")
        await mute.request_name("ivma.test.Mute")
        await rig.connect()
        with pytest.raises(CallTimeout, match=r"Mute: no answer in 0\.05 s"):
            await rig.bus.call(
                new_method_call(DBusAddress("/", bus_name="ivma.test.Mute", interface="ivma.test.I"), "Mute"),
                timeout_s=0.05,
            )
        mute.disconnect()


@looped
async def test_without_a_bus_a_call_fails_at_once_and_start_returns(tmp_path: Path) -> None:
    bus = Bus(lambda: 0.1, f"unix:path={tmp_path}/nobody")
    bus.start()
    await bus.tried()
    with pytest.raises(BusDown):
        await bus.call(new_method_call(_MANAGER, "LockSessions"))
    await bus.close()


@looped
async def test_a_signal_of_an_impostor_is_not_believed(tmp_path: Path) -> None:
    async with logind_rig(tmp_path) as rig:
        told: list[bool] = []
        Login1(rig.bus).on_prepare(told.append, told.append)
        await rig.connect()
        impostor = await MessageBus(bus_address=rig.address).connect()
        forged = Message.new_signal(ROOT, MANAGER, "PrepareForSleep", "b", [True])
        impostor.send(forged)
        (us,) = [n for n in await _names(impostor) if n.startswith(":") and n != impostor.unique_name]
        forged = Message.new_signal(ROOT, MANAGER, "PrepareForSleep", "b", [True])
        forged.destination = us
        impostor.send(forged)
        await rig.settle()
        assert told == []
        rig.logind.prepare("suspend")
        await rig.settle()
        assert told == [True]
        impostor.disconnect()


@looped
async def test_comes_back_when_the_bus_does_and_tells_of_the_service(tmp_path: Path) -> None:
    async with logind_rig(tmp_path) as rig:
        presence: list[str] = []
        back = asyncio.Event()

        def appeared() -> None:
            presence.append("appeared")
            back.set()

        Login1(rig.bus).on_presence(appeared, lambda: presence.append("vanished"))
        await rig.connect()
        under_way = rig.bus.call(new_method_call(_MANAGER, "ListSessions"))
        await under_way
        back.clear()
        await rig.daemon.stop()
        await rig.daemon.start()
        await rig.logind.stop()
        await rig.logind.start()
        async with asyncio.timeout(10):
            await back.wait()
        assert presence == ["appeared", "vanished", "appeared"]
        assert await Login1(rig.bus).sessions() == []


@looped
async def test_logind_restarting_is_gone_and_back(tmp_path: Path) -> None:
    async with logind_rig(tmp_path) as rig:
        presence: list[str] = []
        Login1(rig.bus).on_presence(lambda: presence.append("appeared"), lambda: presence.append("vanished"))
        await rig.connect()
        await rig.logind.stop()
        await rig.logind.start()
        await rig.settle()
        assert presence == ["appeared", "vanished", "appeared"]


@looped
async def test_a_peer_that_is_no_bus_is_left_alone(tmp_path: Path) -> None:
    """Noise instead of D-Bus ends the attempt; nothing is raised, and calls say why they fail."""

    async def noise(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\xff" * 64 + b"\r\n")
        writer.close()

    server = await asyncio.start_unix_server(noise, tmp_path / "noise")
    bus = Bus(lambda: 0.1, f"unix:path={tmp_path}/noise")
    bus.start()
    await bus.tried()
    assert not bus.connected
    await bus.close()
    server.close()


async def _names(bus: MessageBus) -> list[str]:
    driver = "org.freedesktop.DBus"
    reply = await bus.call(
        Message(destination=driver, path="/org/freedesktop/DBus", interface=driver, member="ListNames")
    )
    assert reply is not None
    owner = await bus.call(
        Message(destination=driver, path="/org/freedesktop/DBus", interface=driver, member="GetNameOwner",
                signature="s", body=[NAME])
    )  # fmt: skip
    assert owner is not None
    return [name for name in reply.body[0] if name != owner.body[0]]


@looped
async def test_a_bus_that_is_away_is_tried_at_least_once_a_second(tmp_path: Path) -> None:
    """A lock may be waiting for it: it is not to wait for half a minute of patience as well."""
    waits: list[float] = []
    enough, sleep = asyncio.Event(), asyncio.sleep

    async def noted(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 20:
            enough.set()
        await sleep(0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agent.dbus.asyncio.sleep", noted)
        bus = Bus(lambda: 1.0, f"unix:path={tmp_path}/none")
        bus.start()
        async with asyncio.timeout(10):
            await enough.wait()
        await bus.close()
    assert max(waits) <= 1.0
