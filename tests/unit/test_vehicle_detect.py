"""Which profile fits: by frames of its own, by recordings of real vehicles, and on a live bus."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from agent.cli.__main__ import main as ivmactl
from agent.core.types import MS, BootNs, KeyPosition, SignalKind
from drivers.vehicles import bmw_e9x, ford, obd2, vw_mqb
from drivers.vehicles.codec import Profile, Value, pack
from drivers.vehicles.detect import Detector, Fit
from simulator.can_hub import CanHub
from tests.can_rig import until
from tests.simulation.test_can_recordings import RECORDINGS
from tests.system import lacking

PROFILES: list[Profile] = [entry.load()() for entry in entry_points(group="ivma.vehicles")]
ON: dict[SignalKind, Value] = {
    SignalKind.IGNITION: KeyPosition.ON, SignalKind.ENGINE_SPEED: 800, SignalKind.BATTERY: 12_500,
    SignalKind.ALTERNATOR: 14_000,
}  # fmt: skip


def spoken(profile: Profile, times: int = 5) -> Iterator[bytes]:
    """Each frame of a profile, as a vehicle would send it."""
    for counter in range(times):
        for frame in profile.frames:
            yield frame.encode(ON, counter)


def ranked(*frames: bytes) -> list[Fit]:
    detector = Detector(PROFILES)
    detector.feed(frames, BootNs(MS))
    return detector.ranking()


@pytest.mark.parametrize("profile", [each for each in PROFILES if each.frames], ids=lambda each: each.name)
def test_a_vehicle_is_known_by_its_own_frames(profile: Profile) -> None:
    first, second, *_ = ranked(*spoken(profile))
    assert first.profile == profile.name
    assert first.weight > second.weight
    assert all(frame.right for frame in first.frames)


def test_a_checksum_says_more_than_an_id() -> None:
    weights = {
        fit.profile: fit.weight for fit in ranked(*spoken(vw_mqb()), *spoken(ford()), *spoken(bmw_e9x()))
    }
    assert weights["vw-mqb"] > weights["bmw-e9x"] > weights["ford"] > 0


def test_an_id_that_is_another_makers_speaks_against_a_profile() -> None:
    """0x3C0 of another length, and 0x3B3 with numbers that mean nothing there."""
    frames = [pack(0x3C0, bytes(8), extended=False)] * 5
    frames += [pack(0x3B3, bytes([0xF0, number, *bytes(6)]), extended=False) for number in range(5)]
    fits = {fit.profile: fit for fit in ranked(*frames, *spoken(obd2()))}
    assert fits["vw-mqb"].weight == fits["ford"].weight == 0
    assert "Klemmen_Status_01 is another maker's" in fits["vw-mqb"].because
    assert fits["ford"].frames[0].refused == {"range": 5}


def test_nothing_heard_fits_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert {fit.weight for fit in ranked()} == {0}
    (tmp_path / "empty.log").touch()
    assert ivmactl(["vehicle", "detect", "--log", str(tmp_path / "empty.log")]) == 1
    assert "no profile fits; `generic`" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "profile"),
    [
        ("kona-ev-off-ready-off.log", "hyundai-kia"),
        ("kona-ev-no-key.log", "hyundai-kia"),
        ("vag-obd-start.log", "obd2"),
        ("skoda-obd-coasting.log", "obd2"),
        ("j1939-idling.log", "j1939"),
        ("j1939-key-on-engine-stopped.log", "j1939"),
    ],
)
def test_a_recording_is_told_by_its_frames(
    name: str, profile: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if not (RECORDINGS / name).exists():
        lacking(f"recording {name} is not beside the project ({RECORDINGS})")
    assert ivmactl(["vehicle", "detect", "--json", "--log", str(RECORDINGS / name)]) == 0
    ranking = json.loads(capsys.readouterr().out)["ranking"]
    assert ranking[0]["profile"] == profile
    assert [fit["weight"] for fit in ranking[1:]] == [0] * (len(ranking) - 1)


def test_a_live_bus_is_listened_to_and_never_spoken_on(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "can"
        async with CanHub(path) as hub:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "agent.cli", "vehicle", "detect", "--json", "--interface", "simcan",
                "--channel", str(path), "--seconds", "1", stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            await until(lambda: bool(hub.members))
            for frame in spoken(vw_mqb()):
                hub.send(frame)
            out, _ = await asyncio.wait_for(process.communicate(), 30)
            assert process.returncode == 0
            assert json.loads(out)["ranking"][0]["profile"] == "vw-mqb"
            assert sum(hub.sent_by_pid.values()) == 0

    asyncio.run(main())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["check", "volkswagen"], "`volkswagen` is not registered in ivma.vehicles; registered are bmw-e9x"),
        (["check", "/nowhere/car.toml"], "/nowhere/car.toml: cannot be read: No such file"),
        (["detect", "--channel", "nothing0"], "nothing0"),
        (["detect", "--log", "/nowhere.log"], "/nowhere.log"),
        (["detect", "--log", "BAD"], "line 2: expected candump -L's format"),
    ],
)
def test_what_cannot_be_done_is_said(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.log").write_text("(0.5) can0 3C0#11\nwhat is this\n")
    arguments = [str(tmp_path / "bad.log") if each == "BAD" else each for each in arguments]
    assert ivmactl(["vehicle", *arguments]) == 1
    assert words in capsys.readouterr().err


def test_a_profile_without_a_recording_is_marked_unproven(capsys: pytest.CaptureFixture[str]) -> None:
    assert ivmactl(["vehicle", "check", "ford"]) == 0
    assert "0x3B3 BodyInfo_3_FD1: ignition; every 100 ms; no check" in (out := capsys.readouterr().out)
    assert "UNPROVEN" in out
    assert ivmactl(["vehicle", "check", "hyundai-kia"]) == 0
    assert "UNPROVEN" not in capsys.readouterr().out
    assert ivmactl(["vehicle", "check", "ford", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["proven"] is False
