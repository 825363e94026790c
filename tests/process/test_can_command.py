"""`ivmactl can record | stats | watch` on a real simcan bus, and the leave that the agent gives to record."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import can
import pytest

from agent.can_desk import SECONDS_MAX, CanDesk
from agent.cli.__main__ import main
from agent.config import Can
from agent.control import Caller, ControlServer, Peer, Refusal
from agent.core.records import Record
from agent.core.types import BootNs, KeyPosition, SignalKind
from drivers.can_file import RESERVE, Recording
from drivers.vehicles import vw_mqb
from drivers.vehicles.codec import pack
from drivers.vehicles.watch import CompiledProfile
from simulator.can_hub import CanHub
from tests.can_rig import until

KLEMMEN, MOTOR = vw_mqb().frames
BUS = "powertrain"
ROOT = Caller(Peer(1, 0, frozenset()), lambda _step: None)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="recording is root's")


def desk(records: list[Record], channel: Path = Path("can0"), *, record: bool = True) -> CanDesk:
    bus = Can(name=BUS, interface="simcan", channel=str(channel), record=record)
    filters = CompiledProfile(vw_mqb(), BUS).filters()
    return CanDesk([bus], {BUS: filters}, {BUS: False}, records.append, lambda: BootNs(5))


@asynccontextmanager
async def bench(folder: Path, records: list[Record]) -> AsyncIterator[CanHub]:
    """A bus, and the agent's socket with the verbs of the desk."""
    async with CanHub(folder / "bus") as hub:
        server = ControlServer(
            folder / "sock", desk(records, folder / "bus").verbs(), group=None, audited=lambda *_: None
        )
        await server.start()
        try:
            yield hub
        finally:
            await server.close()


def drive(hub: CanHub) -> None:
    """Key on, an engine, and a frame that is none of the profile's."""
    for n in range(20):
        hub.send(KLEMMEN.encode({SignalKind.IGNITION: KeyPosition.ON}, n))
        hub.send(MOTOR.encode({SignalKind.ENGINE_SPEED: 800}, n))
        hub.send(pack(0x123, b"private!", extended=False))


async def ivmactl(hub: CanHub, *args: str, then: Callable[[CanHub], None] = drive) -> int:
    """The command in a thread; the bus speaks once it listens."""
    command = asyncio.create_task(asyncio.to_thread(main, list(args)))
    await until(lambda: bool(hub.members) or command.done())
    then(hub)
    return await command


@needs_root
@pytest.mark.parametrize(("form", "everything"), [("candump", False), ("candump", True), ("blf", False)])
def test_a_recording_holds_what_was_allowed_and_is_audited(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str, everything: bool
) -> None:
    file, records = tmp_path / f"start.{'log' if form == 'candump' else 'blf'}", list[Record]()

    async def run() -> int:
        async with bench(tmp_path, records) as hub:
            return await ivmactl(
                hub, "--socket", str(tmp_path / "sock"), "can", "record", str(file), "--seconds", "1",
                "--format", form, "--json", *(["--all"] if everything else []),
            )  # fmt: skip

    assert asyncio.run(run()) == 0
    said = json.loads(capsys.readouterr().out)
    with can.LogReader(file) as reader:
        ids = [message.arbitration_id for message in reader]
    assert len(ids) == said["frames"] == (60 if everything else 40)
    assert (0x123 in ids) is everything
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []
    begun, ended = records
    assert (begun.kind.name, ended.kind.name) == ("can.recording", "can.recorded")
    assert begun.as_dict()["scope"] == ("all" if everything else "profile")
    assert (ended.as_dict()["frames"], ended.as_dict()["size"]) == (len(ids), file.stat().st_size)


@needs_root
def test_a_file_that_is_there_is_not_touched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, records = tmp_path / "start.log", list[Record]()
    file.write_text("older")

    async def run() -> int:
        async with bench(tmp_path, records):
            args = ["--socket", str(tmp_path / "sock"), "can", "record", str(file), "--seconds", "1"]
            return await asyncio.to_thread(main, args)

    assert asyncio.run(run()) == 1
    assert "is there already" in capsys.readouterr().err
    assert file.read_text() == "older"
    assert records[-1].as_dict()["frames"] == 0


@pytest.mark.parametrize("form", ["candump", "blf"])
def test_a_recording_never_becomes_larger_than_it_may(tmp_path: Path, form: str) -> None:
    limit = 1 << 20
    recording = Recording(tmp_path / "full", form, "can0", limit)
    noise = [(n * 1000, pack(n % 0x700, os.urandom(8), extended=False)) for n in range(60_000)]
    assert recording.put(noise) is False
    size = recording.end()
    assert limit - 2 * RESERVE < size <= limit


def test_only_root_may_and_only_where_it_is_allowed() -> None:
    records = list[Record]()
    good = {"bus": BUS, "seconds": 60, "size": 1 << 20}
    asked = desk(records).verbs()["can.record"].run
    for args, caller, words in [
        (good, Caller(Peer(1, 1000, frozenset()), lambda _step: None), "only root"),
        (good | {"bus": "body"}, ROOT, "no bus"),
        (good | {"seconds": SECONDS_MAX + 1}, ROOT, "seconds"),
        (good | {"size": 1}, ROOT, "size"),
        (good | {"size": True}, ROOT, "size"),
    ]:
        with pytest.raises(Refusal, match=words):
            asked(args, caller)
    with pytest.raises(Refusal, match="is off"):
        desk(records, record=False).verbs()["can.record"].run(good, ROOT)
    assert records == []
    answer = asked(good, ROOT)
    assert isinstance(answer, dict)
    assert answer["filters"]
    assert [record.kind.name for record in records] == ["can.recording"]


def test_recording_is_off_unless_somebody_wants_it() -> None:
    assert Can(channel="can0").record is False


def test_stats_count_each_id_and_the_load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def run() -> int:
        async with CanHub(tmp_path / "bus") as hub:
            where = ["--interface", "simcan", "--channel", str(hub.path), "--seconds", "0.5"]
            code = await ivmactl(hub, "can", "stats", *where, "--bitrate", "500000", "--json")
            assert sum(hub.sent_by_pid.values()) == 0
            return code

    assert asyncio.run(run()) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["frames"] == 60
    assert said["ids"] == {"0A8": 40.0, "123": 40.0, "3C0": 40.0}
    bits = 20 * (2 * (47 + 64) + 47 + 8 * KLEMMEN.length)
    assert said["load_percent"] == round(100 * bits / 0.5 / 500_000, 1)


def test_watch_shows_signals_as_they_change(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def run() -> int:
        async with CanHub(tmp_path / "bus") as hub:
            where = ["--interface", "simcan", "--channel", str(hub.path), "--seconds", "0.5"]
            return await ivmactl(hub, "can", "watch", "vw-mqb", *where, "--json")

    assert asyncio.run(run()) == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["signal"], line["value"]) for line in said] == [("ignition", "on"), ("engine_speed", 800)]


def test_a_bus_that_is_not_there_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--interface", "simcan", "--channel", str(tmp_path / "nowhere")]
    assert main(["can", "stats", *where]) == 1
    assert "No such file" in capsys.readouterr().err
