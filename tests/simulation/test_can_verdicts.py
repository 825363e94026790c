"""From recordings of real vehicles to the verdict: what the core says by CAN alone, beside what is true.

Which vehicle does what when is in the recordings' README. Right is what is true, or UNKNOWN; OFF while it is
on, and ON or RUNNING while it is off, must never be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import entry_points

import pytest

from agent.core.state import IgnitionState
from agent.core.types import SECOND, BootNs, Observation
from drivers.vehicles import hyundai_kia, j1939, obd2
from drivers.vehicles.codec import Profile
from drivers.vehicles.watch import CompiledProfile
from tests.can_rig import Paced, PacedLoop
from tests.core_driver import Core
from tests.simulation.test_can_recordings import recorded

UNKNOWN, OFF, ON = IgnitionState.UNKNOWN, IgnitionState.OFF, IgnitionState.ON
CRANKING, RUNNING = IgnitionState.CRANKING, IgnitionState.RUNNING
START = 10  # s: of the recording in the core's time
# A verdict may lag by debounce or settling (2 s at the most) and a frame's period.
LAG_S = 2.5


@dataclass(frozen=True)
class Truth:
    """From ``since`` (s of the recording) these verdicts are right, beside UNKNOWN."""

    since: float
    verdicts: frozenset[IgnitionState]


def verdicts(name: str, profile: Profile, bus: str = "") -> list[tuple[float, IgnitionState]]:
    """The verdict after each frame, by the recording's time: through the port, at its own pace."""
    core = Core(at_s=START)
    core.start()
    said: list[tuple[float, IgnitionState]] = []

    def observe(seen: Observation) -> None:
        core.until(seen.at)
        core.see(seen)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, PacedLoop)
        at = 0
        paced = Paced(loop, profile, observe, BootNs(START * SECOND))
        try:
            for at, frame in recorded(name, bus):
                await paced.until(at / SECOND)
                await paced.put(frame)
                core.until(paced.now())
                said.append((at / SECOND, core.state.ignition.state))
            # What came last is fresh a while yet: a verdict that waits for its debounce comes.
            end_s = at / SECOND + 1
            await paced.until(end_s)
            core.until(paced.now())
            said.append((end_s, core.state.ignition.state))
        finally:
            paced.close()

    with asyncio.Runner(loop_factory=PacedLoop) as runner:
        runner.run(main())
    return said


def wrong(
    said: Iterable[tuple[float, IgnitionState]], truths: list[Truth], lag_s: float = LAG_S
) -> list[tuple[float, IgnitionState]]:
    """What was said that is right neither now nor within the lag before."""
    found = []
    for at, verdict in said:
        right = {UNKNOWN}
        for truth, following in zip(truths, [*truths[1:], None], strict=True):
            ends = float("inf") if following is None else following.since + lag_s
            if truth.since <= at < ends:
                right |= truth.verdicts
        if verdict not in right:
            found.append((at, verdict))
    return found


def truth(since: float, *allowed: IgnitionState) -> Truth:
    return Truth(since, frozenset(allowed))


@pytest.mark.parametrize("bus", ["can0", "can1"])
def test_an_electric_car_off_ready_and_off(bus: str) -> None:
    """START pressed is a wish; ready is ON, and without an engine never RUNNING by engine speed."""
    said = verdicts("kona-ev-off-ready-off.log", hyundai_kia(), bus)
    # 2.09 to 3.00 s: START is pressed. Electric cars do not crank, but the switch says "start".
    assert wrong(said, [truth(0, OFF), truth(2.05, CRANKING), truth(2.95, ON), truth(8.8, OFF)]) == []
    assert {OFF, ON} <= {verdict for _, verdict in said}


@pytest.mark.parametrize("bus", ["can0", "can1"])
def test_a_bus_that_is_awake_is_not_on(bus: str) -> None:
    """27 s without a key, the bus awake, START pressed three times."""
    assert {verdict for _, verdict in verdicts("kona-ev-no-key.log", hyundai_kia(), bus)} <= {UNKNOWN, OFF}


def test_a_start_by_answers_to_another_devices_questions() -> None:
    """0 rpm before the start decides nothing; 294 rpm is a crank; then it runs to the end."""
    said = verdicts("vag-obd-start.log", obd2())
    assert wrong(said, [truth(0, ON), truth(2.6, CRANKING), truth(3.5, RUNNING)]) == []
    assert {CRANKING, RUNNING} <= {verdict for _, verdict in said}
    running = [verdict is RUNNING for at, verdict in said if at > 10]
    assert sum(running) > len(running) * 0.9


def test_an_engine_that_stops_while_driving_is_not_off() -> None:
    """A mild hybrid coasts with its engine off, ten times; each answer comes only every 7 s."""
    assert OFF not in {verdict for _, verdict in verdicts("skoda-obd-coasting.log", obd2())}


def test_an_idling_engine_is_running_throughout() -> None:
    said = verdicts("j1939-idling.log", j1939())
    assert {verdict for at, verdict in said if at > LAG_S} == {RUNNING}


def test_an_engine_controller_that_sends_after_key_off_proves_nothing() -> None:
    said = {verdict for _, verdict in verdicts("j1939-key-on-engine-stopped.log", j1939())}
    assert said <= {UNKNOWN, ON}


OWN = {
    "kona-ev-off-ready-off.log": "hyundai-kia",
    "kona-ev-no-key.log": "hyundai-kia",
    "vag-obd-start.log": "obd2",
    "j1939-idling.log": "j1939",
}


@pytest.mark.parametrize("name", OWN)
def test_another_makes_recording_gives_no_verdict(name: str) -> None:
    """Ids collide across makes; length, range, counter and checksum tell them apart."""
    frames = list(recorded(name))
    for profile in shipped():
        if profile.name == OWN[name] or not profile.frames:
            continue
        watch = CompiledProfile(profile, "powertrain")
        said = [signal for at, frame in frames for signal in watch.feed([frame], BootNs(at))]
        assert said == [], profile.name


def shipped() -> list[Profile]:
    return [entry.load()() for entry in entry_points(group="ivma.vehicles")]
