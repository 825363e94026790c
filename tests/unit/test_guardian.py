"""What the guard decides, in virtual time, and what it says."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.basics import MS, SECOND, BootNs, Lease
from agent.guard import posture, wire
from agent.guard.guardian import (
    AGENT_FIRST,
    INSIST,
    LEASE_MAX,
    RULE,
    START_WAIT,
    Act,
    Guardian,
    LockAll,
    LockSessions,
    Look,
    Publish,
    Tell,
)
from agent.guard.posture import Posture

FIRST = BootNs(100 * SECOND)


@dataclass
class World:
    """A guardian with its sessions: asked to lock they obey, but for the stubborn one."""

    found: Posture | None = None
    now: BootNs = FIRST
    unlocked: set[str] = field(default_factory=set)
    stubborn: bool = False
    bus: bool = True
    acts: list[Act] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.guardian = Guardian(self.now, "boot", self.found)
        self.do(self.guardian.begin())

    def do(self, acts: Sequence[Act]) -> None:
        for act in acts:
            self.acts.append(act)
            match act:
                case LockAll() | LockSessions() if self.bus and not self.stubborn:
                    self.unlocked.clear()
                case Look():
                    self.do(self.guardian.looked(self.now, sorted(self.unlocked) if self.bus else None))
                case _:
                    pass

    def run(self, ns: int) -> None:
        end = self.now + ns
        while (due := self.guardian.deadline) is not None and due <= end:
            self.now = BootNs(max(due, self.now))
            self.do(self.guardian.time(self.now))
            later = self.guardian.deadline
            assert later is None or later > self.now, "it would spin"
        self.now = BootNs(end)

    def hear(self, message: wire.Message) -> None:
        self.do(self.guardian.heard(self.now, message))

    def lend(self, ns: int, decision: int = 2) -> None:
        self.hear(Lease(decision, BootNs(self.now + ns), self.now))

    def made(self, kind: type[Act]) -> list[Act]:
        return [act for act in self.acts if isinstance(act, kind)]

    @property
    def shown(self) -> Posture:
        last = self.made(Publish)[-1]
        assert isinstance(last, Publish)
        return last.posture


def lent(ns: int = 4 * SECOND) -> World:
    world = World()
    world.do(world.guardian.connected(world.now))
    world.lend(ns)
    world.unlocked = {"1"}
    world.acts.clear()
    return world


def test_a_lease_that_is_renewed_locks_nothing_and_one_that_runs_out_locks_at_its_end() -> None:
    world = lent()
    for _ in range(10):
        world.run(SECOND)
        world.lend(4 * SECOND)
    assert not world.made(LockAll)
    end = world.now + 4 * SECOND
    world.run(4 * SECOND - 1)
    assert world.unlocked
    world.run(1)
    assert world.now == end
    assert not world.unlocked
    assert (world.shown.usable, world.shown.lapsed, world.shown.decision) == (False, 2, 3)
    assert world.made(Tell) == [Tell(wire.Locked(2, RULE))]
    assert isinstance(world.acts[-1], Look)


def test_without_an_agent_it_is_restricted_at_once_and_locks_what_is_open() -> None:
    world = World(unlocked={"1"})
    assert not world.shown.usable
    world.run(START_WAIT + SECOND)
    assert not world.unlocked


def test_a_guard_that_was_restarted_goes_on_with_the_lease_that_it_finds() -> None:
    world = World(Posture(True, "boot", 7, FIRST + 3 * SECOND, FIRST - SECOND), unlocked={"1"})
    world.do(world.guardian.connected(world.now))
    assert world.made(Tell) == [
        Tell(wire.Hello(Lease(7, BootNs(FIRST + 3 * SECOND), BootNs(FIRST - SECOND))))
    ]
    world.run(3 * SECOND - 1)
    assert world.unlocked
    world.run(1)
    assert not world.unlocked
    assert world.shown.lapsed == 7


def test_a_guard_that_finds_a_lease_run_out_waits_a_moment_for_an_agent_that_lives() -> None:
    found = Posture(True, "boot", 7, FIRST - 20 * SECOND)
    world = World(found, unlocked={"1"})
    world.run(START_WAIT // 2)
    world.lend(4 * SECOND, decision=7)
    world.run(3 * SECOND)
    assert world.unlocked
    silent = World(found, unlocked={"1"})
    silent.run(START_WAIT)
    assert not silent.unlocked
    assert silent.shown.lapsed == 7


def test_its_own_lock_is_told_until_it_is_taken_note_of_over_restarts_of_both() -> None:
    world = lent()
    world.run(5 * SECOND)
    again = World(world.shown)
    again.do(again.guardian.connected(again.now))
    assert again.made(Tell) == [Tell(wire.Hello(locked=wire.Locked(2, RULE)))]
    again.lend(4 * SECOND, decision=2)
    assert again.guardian.lease is None, "it goes on with what is over"
    again.hear(wire.End(3, "the guard locked"))
    assert again.shown.lapsed is None
    again.lend(4 * SECOND, decision=4)
    assert again.shown.usable


def test_what_the_agent_ends_is_restricted_at_once_and_looked_after_a_while() -> None:
    world = lent()
    world.hear(wire.End(3, "the dock says out"))
    assert (world.shown.usable, world.shown.because, world.shown.lapsed) == (False, "the dock says out", None)
    world.run(AGENT_FIRST - 1)
    assert not world.made(Look)
    world.run(1)
    assert not world.unlocked
    world.run(600 * SECOND)
    assert len(world.made(Look)) < 5, "what is locked needs no look"


def test_a_session_that_comes_unlocked_is_left_to_an_agent_that_lives_and_locked_at_once_without() -> None:
    world = lent()
    world.hear(wire.End(3, ""))
    world.run(2 * SECOND)
    for agent, wait in ((True, AGENT_FIRST), (False, 100 * MS)):
        if not agent:
            world.do(world.guardian.gone(world.now))
            world.run(SECOND)
        world.unlocked = {"1"}
        world.do(world.guardian.stirred(world.now))
        world.run(wait)
        assert not world.unlocked, agent


def test_it_insists_and_at_last_with_long_pauses() -> None:
    world = lent()
    world.stubborn = True
    world.run(5 * SECOND)
    quick = len(world.made(LockSessions))
    assert quick >= 3
    world.acts.clear()
    world.run(20 * INSIST)
    assert 19 <= len(world.made(LockSessions)) <= 21
    world.stubborn = False
    world.run(2 * INSIST)
    assert not world.unlocked
    assert world.guardian.deadline is None


def test_a_bus_that_is_away_is_asked_until_it_is_back() -> None:
    world = lent()
    world.bus = False
    world.run(6 * SECOND)
    assert world.unlocked
    world.bus = True
    world.run(SECOND)
    assert not world.unlocked


def test_a_session_that_flaps_does_not_keep_it_reading() -> None:
    world = lent()
    world.do(world.guardian.gone(world.now))
    world.run(5 * SECOND)
    world.acts.clear()
    for _ in range(1000):
        world.do(world.guardian.stirred(world.now))
        world.run(MS)
    assert len(world.made(Look)) <= 21


def test_no_lease_is_longer_than_policy_could_make_one() -> None:
    world = lent(10**6 * SECOND)
    assert world.guardian.deadline == world.now + LEASE_MAX


words = st.one_of(
    st.builds(
        Lease, st.integers(0, 9), st.integers(90, 120).map(lambda s: BootNs(s * SECOND)), st.just(FIRST)
    ),
    st.builds(wire.End, st.integers(0, 9), st.text(max_size=10)),
    st.builds(wire.Hello),
    st.builds(wire.Locked, st.integers(0, 9), st.just("x")),
)
events = st.lists(
    st.one_of(words, st.sampled_from(["up", "gone", "stir", "unlock", "bus"]), st.integers(0, 4000)),
    max_size=40,
)


@given(events)
def test_whatever_comes_no_session_is_open_without_a_lease_for_long(lives: list[object]) -> None:
    """Nor is the posture ever open without one; and it always knows when it is to wake."""
    world = World()
    for event in lives:
        match event:
            case "up":
                world.do(world.guardian.connected(world.now))
            case "gone":
                world.do(world.guardian.gone(world.now))
            case "unlock" | "stir":
                world.unlocked.add("1")
                world.do(world.guardian.stirred(world.now))
            case "bus":
                world.bus = not world.bus
            case int(ms):
                world.run(ms * MS)
            case _:
                world.hear(event)  # type: ignore[arg-type]
        lease = world.guardian.lease
        assert world.shown == world.guardian.posture
        assert world.shown.usable is (lease is not None)
    world.bus = True
    world.run(150 * SECOND)
    assert not world.unlocked
    assert not world.shown.usable


# --- words ----------------------------------------------------------------------------------------


@given(
    st.one_of(
        st.builds(Lease, st.integers(0, 2**62), st.integers(0, 2**62), st.integers(0, 2**62)),
        st.builds(wire.End, st.integers(0, 2**62), st.text()),
        st.builds(wire.Locked, st.integers(0, 2**62), st.text()),
        st.builds(wire.Hello),
        st.builds(wire.Hello, st.builds(Lease, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))),
        st.builds(wire.Hello, st.none(), st.builds(wire.Locked, st.integers(0, 9), st.just(RULE))),
    )
)
def test_a_message_is_read_as_it_was_meant_and_never_too_long(message: wire.Message) -> None:
    data = wire.encode(message)
    assert len(data) <= wire.MESSAGE_MAX
    read = wire.decode(data)
    assert wire.encode(read) == data
    if not isinstance(message, wire.End | wire.Locked):
        assert read == message


@given(st.binary(max_size=2000) | st.text().map(lambda text: f"lease {text}".encode()))
def test_garbage_is_refused_with_words(data: bytes) -> None:
    with contextlib.suppress(wire.RemoteProtocolError):
        assert wire.decode(wire.encode(wire.decode(data)))


@given(
    st.builds(
        Posture, st.booleans(), st.just("b0-07"), st.integers(0), st.integers(0), st.integers(0),
        st.none() | st.integers(0), st.text(alphabet=st.characters(categories=["L", "N", "P"])),
    )
)  # fmt: skip
def test_a_posture_is_read_as_it_was_written(shown: Posture) -> None:
    assert posture.parse(shown.text()) == shown


def test_a_because_of_many_lines_cannot_forge_another_line() -> None:
    forged = Posture(False, "boot", because="x\nposture usable\nuntil 9")
    assert posture.parse(forged.text()).usable is False


def test_the_file_is_replaced_as_a_whole_and_an_unfinished_one_is_no_hindrance(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / ".posture.new").symlink_to(tmp_path / "elsewhere")
    for number in range(3):
        posture.write(tmp_path, Posture(True, "boot", number))
        assert posture.read(tmp_path, {os.geteuid()}).decision == number
    assert [path.name for path in tmp_path.iterdir()] == ["posture"]
    assert (tmp_path / "posture").stat().st_mode & 0o777 == 0o644
    with pytest.raises(posture.PostureError, match="belongs to user"):
        posture.read(tmp_path, {os.geteuid() + 1})
