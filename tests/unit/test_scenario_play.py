"""The player: when steps run, and how expectations are judged."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from agent.core.types import MS, BootNs
from simulator.play import Verdict, play
from simulator.scenario import Step, parse


def now() -> BootNs:
    return BootNs(time.clock_gettime_ns(time.CLOCK_BOOTTIME))


class Toy:
    """A rig whose actions show at once, or after ``lag_s``."""

    def __init__(self, effects: Mapping[str, Mapping[str, str]], lag_s: float = 0) -> None:
        self.effects, self.lag_s = effects, lag_s
        self.values: dict[str, str] = {"posture": "locked"}
        self.done: list[tuple[str, Mapping[str, int | str], BootNs]] = []
        self._changed = asyncio.Event()

    async def perform(self, action: str, arguments: Mapping[str, int | str]) -> None:
        self.done.append((action, arguments, now()))
        asyncio.get_running_loop().call_later(self.lag_s, self._show, self.effects.get(action, {}))

    def _show(self, values: Mapping[str, str]) -> None:
        self.values.update(values)
        self._changed.set()

    @property
    def provides(self) -> frozenset[str]:
        return frozenset()

    def seen(self) -> Mapping[str, str]:
        return self.values

    async def change(self) -> None:
        await self._changed.wait()
        self._changed.clear()


class Silent:
    def step(self, step: Step) -> None: ...
    def skipped(self, step: Step) -> None: ...
    def verdict(self, verdict: Verdict) -> None: ...


def played(
    steps: str, effects: Mapping[str, Mapping[str, str]], lag_s: float = 0
) -> tuple[Toy, list[Verdict]]:
    async def main() -> tuple[Toy, list[Verdict]]:
        toy = Toy(effects, lag_s)
        verdicts = await play(parse('name = "x"\n' + steps), toy, Silent(), now)
        return toy, list(verdicts)

    return asyncio.run(asyncio.wait_for(main(), 10))


def test_steps_run_at_their_times_in_order() -> None:
    toy, _ = played('[[step]]\nat = "30 ms"\ndo = "key on"\n[[step]]\nafter = "40 ms"\ndo = "crank"', {})
    (first, _, at_first), (second, arguments, at_second) = toy.done
    assert (first, second, arguments) == ("key on", "crank", {"profile": "iso-1"})
    assert at_second - at_first >= 40 * MS


def test_an_expectation_that_comes_true_in_time_holds() -> None:
    _, (verdict,) = played(
        '[[step]]\ndo = "return"\nexpect = { posture = "usable", within = "5 s" }',
        {"return": {"posture": "usable"}},
        lag_s=0.05,
    )
    assert verdict.held
    assert verdict.took_ns >= 50 * MS


def test_an_expectation_that_does_not_come_true_says_what_was_seen_instead() -> None:
    _, (verdict,) = played(
        '[[step]]\nexpect = { posture = "usable", tether = "tethered", within = "20 ms" }', {}
    )
    assert not verdict.held
    assert verdict.saw == "posture was locked, tether was not to be seen"


def test_throughout_fails_as_soon_as_it_stops_being_so() -> None:
    _, (verdict,) = played(
        '[[step]]\ndo = "undock"\nexpect = { posture = "locked", throughout = "8 s" }',
        {"undock": {"posture": "usable"}},
        lag_s=0.02,
    )
    assert not verdict.held
    assert verdict.saw == "posture was usable"


def test_throughout_holds_at_its_end() -> None:
    _, (verdict,) = played('[[step]]\nexpect = { posture = "locked", throughout = "30 ms" }', {})
    assert verdict.held
    assert verdict.took_ns >= 30 * MS


def test_the_play_goes_on_after_a_failure() -> None:
    toy, verdicts = played(
        '[[step]]\nexpect = { posture = "usable", within = "10 ms" }\n[[step]]\ndo = "crank"', {}
    )
    assert [verdict.held for verdict in verdicts] == [False]
    assert [action for action, _, _ in toy.done] == ["wait", "crank"]


def test_a_step_that_needs_what_the_rig_lacks_is_left_out() -> None:
    lacking = '[[step]]\nneeds = ["logind"]\nexpect = { posture = "usable", within = "1 s" }\n'
    toy, verdicts = played(lacking + '[[step]]\ndo = "crank"', {})
    assert verdicts == []
    assert [action for action, _, _ in toy.done] == ["crank"]
