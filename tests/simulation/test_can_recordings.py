"""Recordings of real vehicles, frame by frame through a simcan socket into the CAN port.

The recordings are not part of the project: where they are not beside it, these tests skip.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby, pairwise
from pathlib import Path

import pytest

from agent.core.types import MS, BootNs, BusState, CanBus, CanSignal, KeyPosition, SignalKind
from drivers.ports.can import CanPort
from drivers.vehicles import j1939, vw_mqb
from drivers.vehicles.codec import Profile, Value, pack
from drivers.vehicles.watch import CompiledProfile
from tests.can_rig import port_on_hub, until
from tests.system import lacking

RECORDINGS = Path(__file__).parents[3] / "shared" / "data" / "can"
LINE = re.compile(r"\((?P<s>[0-9.]+)\) (?P<bus>\w+) (?P<id>[0-9A-F]+)#(?P<data>[0-9A-F]*)")
BATCH_NS = 50 * MS  # as the port reads a busy bus


@dataclass(frozen=True)
class Replay:
    """What the port said of a recording."""

    frames: int
    signals: list[CanSignal]
    states: list[BusState]
    counts: dict[str, int]

    def values(self, kind: SignalKind) -> list[Value]:
        return [signal.value for signal in self.signals if signal.kind is kind]

    def longest_gap_ms(self, kind: SignalKind) -> float:
        times = [signal.at for signal in self.signals if signal.kind is kind]
        return max(later - earlier for earlier, later in pairwise(times)) / MS


def recorded(name: str, bus: str = "") -> Iterator[tuple[int, bytes]]:
    """Time in ns and struct can_frame of each line of a candump log, of all its buses or of one."""
    path = RECORDINGS / name
    if not path.exists():
        lacking(f"recording {name} is not beside the project ({RECORDINGS})")
    for line in path.read_text().splitlines():
        match = LINE.fullmatch(line)
        assert match is not None, line
        if bus and match["bus"] != bus:
            continue
        # candump writes 3 digits for an 11-bit id, 8 for a 29-bit id
        frame = pack(int(match["id"], 16), bytes.fromhex(match["data"]), extended=len(match["id"]) == 8)
        yield round(float(match["s"]) * 1e9), frame


def replay(name: str, profile: Profile, path: Path) -> Replay:
    """A recording in batches of 50 ms of its own time, as fast as it goes."""
    log = list(recorded(name))

    async def main() -> Replay:
        async with port_on_hub(path, profile, silent_s=60) as (hub, port, seen, clock):
            sent = 0
            for batch, lines in groupby(log, key=lambda line: line[0] // BATCH_NS):
                clock.at = BootNs((batch + 1) * BATCH_NS)
                for _, frame in lines:
                    hub.send(frame)
                    sent += 1
                await until(partial(taken, port, sent))
            assert hub.dropped == 0
            return Replay(
                sent,
                [each for each in seen.all if isinstance(each, CanSignal)],
                [each.state for each in seen.all if isinstance(each, CanBus)],
                port.counters.values,
            )

    return asyncio.run(main())


def taken(port: CanPort, count: int) -> bool:
    return port.counters.values.get("frames", 0) == count


def test_an_idling_engine(tmp_path: Path) -> None:
    """Running throughout: 646 to 654 rpm, 13.2 to 13.5 V; the keyswitch voltage with it."""
    said = replay("j1939-idling.log", j1939(), tmp_path / "can")
    speeds = said.values(SignalKind.ENGINE_SPEED)
    assert 646 <= min(map(int_of, speeds)) <= max(map(int_of, speeds)) <= 654
    volts = list(map(int_of, said.values(SignalKind.BATTERY)))
    assert len(volts) >= 39, "VEP1 comes every second for 40 s"
    assert min(volts) >= 13_150
    assert max(volts) <= 13_550
    assert set(said.values(SignalKind.IGNITION)) == {KeyPosition.ON}
    assert said.values(SignalKind.ALTERNATOR) == [], "this vehicle does not send SPN 167"
    assert said.longest_gap_ms(SignalKind.ENGINE_SPEED) <= 1000
    assert said.states == [BusState.ACTIVE]
    assert said.counts["frames"] == said.frames > 14_000


def test_a_standing_engine_with_the_key_on(tmp_path: Path) -> None:
    """0 rpm is a value; nothing says the key's position, and so nothing must be said of it."""
    said = replay("j1939-key-on-engine-stopped.log", j1939(), tmp_path / "can")
    assert set(said.values(SignalKind.ENGINE_SPEED)) == {0}
    assert {signal.kind for signal in said.signals} == {SignalKind.ENGINE_SPEED}


@pytest.mark.parametrize("profile", [vw_mqb(), j1939()], ids=lambda profile: profile.name)
@pytest.mark.parametrize("name", ["kona-ev-off-ready-off.log", "kona-ev-no-key.log", "vag-obd-start.log"])
def test_a_recording_of_another_make_says_nothing(name: str, profile: Profile) -> None:
    """A Kona's two buses, and OBD-II answers: no frame of them passes for one of the profile."""
    watch = CompiledProfile(profile, "powertrain")
    for at, frame in recorded(name):
        assert watch.feed([frame], BootNs(at)) == []


def int_of(value: Value) -> int:
    assert type(value) is int
    return value
