"""Officers ask for use without the dock, in both fidelities; the outside observer keeps its own account."""

from __future__ import annotations

import pytest

from agent.core import catalogue
from agent.core.policy import Policy
from agent.core.records import Record
from agent.core.types import MINUTE, SECOND, BootNs, KeyPosition, PermitPresented, Scope, Started
from simulator.compose_soak import core
from simulator.compose_virtual import Options, World
from simulator.faults.knobs import Wish
from simulator.invariants.leave import GrantLimits, Leave
from simulator.vehicle import VehicleSpec
from simulator.virtual import events as ev
from simulator.virtual.decisions import DecisionWorld

NOW = BootNs(1000 * SECOND)


def presented(number: int, minutes: int) -> PermitPresented:
    return PermitPresented(NOW, f"permit-{number}", number, Scope.UNDOCKED, minutes)


def changed(rule: str, number: int) -> Record:
    return catalogue.GRANT_CHANGED.make(
        NOW, verdict="permit", before="none", rule=rule, because="", evidence="", id=f"permit-{number}",
    )  # fmt: skip


def overridden() -> Record:
    return catalogue.OVERRIDE_TAKEN.make(NOW, uid=1000, length_s=900, left=1)


def override(leave: Leave, ticket: int, after_ns: int = 0) -> str:
    """One is taken, and is durable after so long."""
    return leave.recorded(NOW, ticket, overridden()) or leave.committed(BootNs(NOW + after_ns), ticket)


class TestTheObserver:
    def test_a_third_override_is_one_too_many_until_a_refill(self) -> None:
        leave = Leave(GrantLimits())
        assert [override(leave, ticket) for ticket in (1, 2)] == ["", ""]
        assert "number 3" in override(leave, 3)
        leave.refilled()
        assert override(leave, 4) == ""
        assert leave.until == NOW + 900 * SECOND

    def test_a_store_that_fails_leaves_one_beside_them_in_a_boot(self) -> None:
        leave = Leave(GrantLimits())
        leave.observed(NOW, Started(NOW, "one", None))
        assert [override(leave, ticket) for ticket in (1, 2)] == ["", ""]
        assert override(leave, 3, after_ns=2 * SECOND) == ""
        leave.recorded(NOW, 4, overridden())
        assert "number 2 in one boot" in leave.refused(4)
        leave.observed(NOW, Started(NOW, "two", None))
        assert override(leave, 5, after_ns=2 * SECOND) == ""

    def test_a_permit_counts_once_for_as_long_as_it_says(self) -> None:
        leave = Leave(GrantLimits())
        assert "nobody presented" in leave.recorded(NOW, 1, changed("grant.permit", 1))
        leave.observed(NOW, presented(1, 30))
        assert leave.until < NOW
        assert leave.recorded(NOW, 1, changed("grant.permit", 1)) == ""
        assert leave.until == NOW + 30 * MINUTE
        assert "a second time" in leave.recorded(NOW, 1, changed("grant.permit", 1))

    def test_sleep_takes_nothing_of_it_a_boot_ten_minutes_and_the_third_all(self) -> None:
        leave = Leave(GrantLimits())
        leave.observed(NOW, Started(NOW, "one", None))
        leave.observed(NOW, presented(1, 60))
        leave.recorded(NOW, 1, changed("grant.permit", 1))
        leave.power(NOW, "suspended")
        assert leave.until == NOW
        woke = BootNs(NOW + 5 * MINUTE)
        leave.power(woke, "on")
        assert leave.until == woke + 60 * MINUTE
        left = 60
        for boot in ("two", "three"):
            leave.power(woke, "off")
            leave.power(woke, "on")
            leave.observed(woke, Started(woke, boot, None))
            left -= 10
            assert leave.until == woke + left * MINUTE
        leave.power(woke, "off")
        leave.power(woke, "on")
        leave.observed(woke, Started(woke, "four", None))
        assert leave.until < NOW


def world(fidelity: str) -> World | DecisionWorld:
    if fidelity == "wires":
        return World(3, Options(policy=Policy()))
    return DecisionWorld(3, core(Policy()), VehicleSpec())


@pytest.mark.parametrize("fidelity", ["decisions", "wires"])
@pytest.mark.parametrize(
    ("wish", "length_s"), [(Wish(), 900), (Wish(1, 20), 1200)], ids=["override", "permit"]
)
def test_an_officer_works_undocked_by_leave_until_it_ends(fidelity: str, wish: Wish, length_s: int) -> None:
    it = world(fidelity)
    uses: list[tuple[int, bool]] = []

    def note(event: ev.Event) -> None:
        if isinstance(event, ev.Usable):
            uses.append((event.at // SECOND, event.usable))

    it.events.subscribe(note, ev.Usable)
    it.at(BootNs(0), lambda: it.turn_key(KeyPosition.ON))
    it.at(BootNs(5 * SECOND), it.crank)
    it.at(BootNs(60 * SECOND), it.undock)
    for at in (90, 200):  # the same again changes nothing
        it.at(BootNs(at * SECOND), lambda: it.tablet.officer(wish))
    it.run_until(BootNs(3000 * SECOND))
    it.close()
    began, ended = [at for at, _ in uses if at >= 60][-2:]
    assert 90 <= began <= 100
    assert began + length_s - 15 <= ended <= began + length_s + 2
