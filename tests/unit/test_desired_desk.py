"""The trial of a configuration from the fleet, on the world's time and a real file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.config import Config
from agent.core.orders import Wanted
from agent.core.records import Record
from agent.core.types import SECOND, BootNs
from agent.desired_desk import DesiredDesk, Hands
from agent.keeper import Keeper
from simulator.virtual.agenda import Agenda
from simulator.virtual.loop import VirtualLoop

OWN = '[device]\nfleet = "met"\nname = "tablet-1"\n'
POLICY = "[policy.tether]\nride_through_ms = 3500\n"


class Rig:
    """A desk in one run of the agent; ``again`` begins another run on the same disk."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "agent.toml"
        self.file.write_text(OWN)
        self.agenda = Agenda()
        self.loop = VirtualLoop(self.agenda)
        self.store_ok = True
        self.applied: list[Config] = []
        self.restarts = 0
        self.told: list[tuple[int, int, str]] = []  # accepted, generation, state
        self.records: list[Record] = []
        self.again()

    def again(self) -> None:
        self.keeper = Keeper(self.file, self.file.with_name("last-good"))
        config, _ = self.keeper.start()
        hands = Hands(
            self.applied.append, self._restart, lambda: self.store_ok, self.records.append, self._report,
            lambda: BootNs(self.agenda.now),
        )  # fmt: skip
        self.running = config
        self.desk = DesiredDesk(self.keeper, config, hands)
        self.do(self.desk.start)

    def do(self, *calls: object) -> None:
        """Call on the loop."""

        async def run() -> None:
            for call in calls:
                assert callable(call)
                call()

        self.loop.run_until_complete(run())

    def want(self, number: int, toml: str = POLICY, trial_s: int = 60) -> None:
        self.do(lambda: self.desk.take(Wanted(BootNs(0), number, trial_s, toml)))

    def wait(self, seconds: int) -> None:
        self.agenda.run_until(BootNs(self.agenda.now + seconds * SECOND))

    def _restart(self) -> None:
        self.restarts += 1

    def _report(self, at: BootNs, accepted: int, generation: int, state: str, detail: str) -> None:
        self.told.append((accepted, generation, state))


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.loop.close()


def ride_through_ms(config: Config) -> int:
    return config.policy.tether.ride_through_ms


def test_a_healthy_trial_is_confirmed_at_its_end_and_not_before(rig: Rig) -> None:
    rig.want(5)
    assert ride_through_ms(rig.applied[-1]) == 3500
    rig.do(rig.desk.contact)
    rig.wait(59)
    assert rig.told == [(5, 5, "trial")]
    rig.wait(2)
    assert rig.told[-1] == (5, 5, "confirmed")
    rig.again()
    assert ride_through_ms(rig.running) == 3500


def test_without_a_word_of_the_depot_in_the_trial_it_is_rolled_back(rig: Rig) -> None:
    before = ride_through_ms(rig.running)
    rig.do(rig.desk.contact)  # before the trial: says nothing of it
    rig.want(5)
    rig.wait(61)
    assert rig.told[-1] == (5, 5, "rolled_back")
    assert ride_through_ms(rig.applied[-1]) == before
    rig.again()
    assert ride_through_ms(rig.running) == before


def test_a_store_that_fails_confirms_nothing(rig: Rig) -> None:
    rig.want(5)
    rig.do(rig.desk.contact)
    rig.store_ok = False
    rig.wait(61)
    assert rig.told[-1] == (5, 5, "rolled_back")


def test_a_rollback_goes_to_the_last_known_good_and_lowers_no_generation(rig: Rig) -> None:
    rig.want(5)
    rig.do(rig.desk.contact)
    rig.wait(61)
    rig.want(6, "[policy.tether]\nride_through_ms = 5000\n")
    rig.wait(61)
    assert rig.told[-1] == (6, 6, "rolled_back")
    assert ride_through_ms(rig.applied[-1]) == 3500
    rig.want(6, "[policy.tether]\nride_through_ms = 5000\n")
    rig.want(4)
    assert rig.told[-1] == (6, 4, "refused")
    assert ride_through_ms(rig.applied[-1]) == 3500


def test_what_the_depot_knows_to_be_accepted_refuses_what_is_older(rig: Rig) -> None:
    rig.do(lambda: rig.desk.generation(9))
    rig.want(9)
    assert rig.told == [(9, 9, "refused")]
    rig.again()
    rig.want(8)
    assert rig.told[-1] == (9, 8, "refused")
    assert rig.applied == []


def test_a_newer_one_takes_the_place_of_a_trial_and_has_its_own_time(rig: Rig) -> None:
    rig.want(5)
    rig.wait(50)
    rig.want(6, "[policy.tether]\nride_through_ms = 5000\n")
    rig.do(rig.desk.contact)
    rig.wait(20)
    assert rig.told[-1] == (6, 6, "trial")
    rig.wait(41)
    assert rig.told[-1] == (6, 6, "confirmed")


def test_a_retained_message_that_comes_at_each_connection_is_told_once(rig: Rig) -> None:
    for _ in range(3):
        rig.want(5, "[policy.tether]\nno_such = 1\n")
    assert rig.told == [(0, 5, "refused")]
    rig.want(6)
    rig.want(6)
    assert rig.told[1:] == [(6, 6, "trial")]


def test_a_trial_goes_on_in_the_next_run_with_its_whole_time(rig: Rig) -> None:
    rig.want(5, "[trace]\nenabled = false\n")
    assert rig.restarts == 1
    rig.wait(30)
    rig.do(rig.desk.close)
    rig.again()
    assert not rig.running.settings.trace.enabled
    rig.do(rig.desk.contact)
    rig.wait(59)
    assert rig.told[-1] == (5, 5, "trial")
    rig.wait(2)
    assert rig.told[-1] == (5, 5, "confirmed")


def test_a_file_that_fits_no_more_with_what_was_wanted_counts_alone(rig: Rig) -> None:
    rig.want(5, "[sync]\nport = 1884\n")
    assert rig.told[-1][2] == "refused", "the file has no table sync, and one without a host is no good"
    rig.want(6, "[policy.tether]\nride_through_ms = 1600\n")
    rig.do(rig.desk.contact)
    rig.wait(61)
    assert rig.told[-1] == (6, 6, "confirmed")
    rig.file.write_text(OWN + "[policy.tether]\nstatus_fresh_ms = 1900\n")
    rig.again()
    assert rig.running.policy.tether.status_fresh_ms == 1900
    assert ride_through_ms(rig.running) > 1900
    assert "does not fit" in (rig.keeper.desired.problem or "")
