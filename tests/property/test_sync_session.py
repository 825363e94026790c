"""The session against a broker and a depot that lose, repeat and refuse, in virtual time."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.records import Stream
from agent.core.types import MS, SECOND, BootNs
from sync import session_types as t
from sync.session import Link, Session

LIMITS = t.Limits(window=6, reserved=2, beyond=5, batch_bytes=100)
BLOCK_BYTES = 30  # three blocks of one record in a batch


@dataclass
class World:
    """Broker and depot of one session. ``faulty`` is how likely each step goes wrong."""

    seed: int
    faulty: float
    heads: dict[Stream, int] = field(default_factory=lambda: dict.fromkeys(Stream, 0))
    depot: dict[Stream, int] = field(default_factory=lambda: dict.fromkeys(Stream, 0))
    let_go: dict[Stream, int] = field(default_factory=lambda: dict.fromkeys(Stream, 0))
    drains: list[int] = field(default_factory=list)
    reports: list[t.Report] = field(default_factory=list)
    published: list[tuple[Stream, int]] = field(default_factory=list)
    presences: list[str] = field(default_factory=list)
    connects: list[BootNs] = field(default_factory=list)
    poison: tuple[Stream, int] | None = None  # a block that the broker refuses
    takes: int | None = None  # bytes of the largest batch at which the broker does not hang up
    hangs_up: bool = False  # at the poison, instead of refusing it
    depot_up: bool = True

    def __post_init__(self) -> None:
        self.now = BootNs(0)
        self.rng = random.Random(self.seed)
        cursors = {s: t.Cursor(0, 0) for s in Stream}
        self.session = Session(cursors, self.rng.random, LIMITS)
        self.heap: list[tuple[int, int, Callable[[], t.Event | None]]] = []
        self.count = 0
        self.connection = 0
        self.batches: dict[int, tuple[Stream, int, int]] = {}

    def later(self, after_ns: int, make: Callable[[], t.Event | None]) -> None:
        self.count += 1
        heapq.heappush(self.heap, (self.now + after_ns, self.count, make))

    def bad(self) -> bool:
        return self.rng.random() < self.faulty

    def feed(self, event: t.Event) -> None:
        for action in self.session.handle(event, self.now):
            self.do(action)
        assert len(self.session._unconfirmed) <= LIMITS.window + len(self.presences)
        for lane in self.session._lanes.values():
            assert len(lane.flights) <= LIMITS.beyond

    def do(self, action: t.Action) -> None:
        match action:
            case t.Connect():
                self.connects.append(self.now)
                self.connection += 1
                self.on_connection(20 * MS, lambda: t.Disconnected("x") if self.bad() else t.Connected())
            case t.Disconnect():
                self.connection += 1
            case t.Present(token, what):
                self.presences.append(what)
                self.on_connection(5 * MS, lambda: None if self.bad() else t.Puback(token))
            case t.Fetch(token, stream, after, max_bytes):
                self.check_order(stream)
                last = min(self.heads[stream], after + max(max_bytes // BLOCK_BYTES, 1))
                self.batches[token] = (stream, after, last)
                failed = self.bad()
                self.later(
                    MS,
                    lambda: (
                        t.FetchFailed(token)
                        if failed
                        else t.Fetched(token, last, last - after, (last - after) * BLOCK_BYTES)
                    ),
                )
            case t.Publish(token, stream):
                self.publish(token, stream)
            case t.AckToStore(stream, seq, _):
                assert seq <= self.depot[stream], "let go what the depot does not have"
                self.let_go[stream] = max(self.let_go[stream], seq)
                self.later(MS, lambda: t.AckSettled(stream, seq, True))
            case t.DrainDone(pending):
                self.drains.append(pending)
            case t.Report():
                self.reports.append(action)

    def check_order(self, stream: Stream) -> None:
        """Nothing of a lower stream is fetched while a higher one has something it may send."""
        for lane in self.session._lanes.values():
            if lane.stream is stream:
                return
            waits = lane.paused_until is not None or len(lane.flights) >= (1 if lane.tries else LIMITS.beyond)
            assert lane.sent >= lane.head or waits, f"{stream} before {lane.stream}"

    def publish(self, token: int, stream: Stream) -> None:
        _, after, last = self.batches.pop(token)
        self.published.append((stream, last))
        poisoned = self.poison is not None and self.poison[0] is stream and after < self.poison[1] <= last
        too_large = self.takes is not None and (last - after) * BLOCK_BYTES > self.takes
        if too_large or (poisoned and self.hangs_up):
            # Earlier PUBACKs come before the end of the connection, or are lost with it.
            self.on_connection(self.rng.randrange(5 * MS), lambda: t.Disconnected("hung up"))
            return
        if poisoned:
            self.on_connection(5 * MS, lambda: t.Puback(token, 0x95))
            return
        if not self.bad():  # else: the broker confirms and loses it
            self.later(10 * MS, lambda: self.arrive(stream, after, last))
            if self.bad():
                self.later(15 * MS, lambda: self.arrive(stream, after, last))
        lost = self.bad()
        self.on_connection(5 * MS, lambda: None if lost else t.Puback(token))
        if self.rng.random() < self.faulty / 10:
            self.on_connection(6 * MS, lambda: t.Disconnected("cut"))

    def arrive(self, stream: Stream, after: int, last: int) -> None:
        if not self.depot_up:
            return
        again = after > self.depot[stream]
        if not again:
            self.depot[stream] = max(self.depot[stream], last)
        seq = self.depot[stream]
        if not self.bad():
            self.on_connection(5 * MS, lambda: t.DepotAck(stream, seq, b"", again))

    def on_connection(self, after_ns: int, make: Callable[[], t.Event | None]) -> None:
        connection = self.connection
        self.later(after_ns, lambda: make() if connection == self.connection else None)

    def produce(self, stream: Stream, count: int) -> None:
        self.heads[stream] += count
        self.feed(t.DataAvailable(stream, self.heads[stream]))

    def run(self, until: int) -> None:
        """Jump from event to event, as the shell's timer would, up to ``until`` (ns)."""
        steps = 0
        while True:
            steps += 1
            assert steps < 200_000, "the session does not let time pass"
            due = self.session.next_deadline()
            event_at = self.heap[0][0] if self.heap else None
            if event_at is not None and (due is None or event_at <= due):
                if event_at > until:
                    break
                self.now = BootNs(max(self.now, event_at))
                event = heapq.heappop(self.heap)[2]()
                if event is not None:
                    if isinstance(event, t.Disconnected):
                        self.connection += 1
                    self.feed(event)
            else:
                if due is None or due > until:
                    break
                self.now = BootNs(max(self.now, due))
                self.feed(t.Tick())
        self.now = BootNs(until)

    @property
    def delivered(self) -> bool:
        return self.depot == self.heads and self.let_go == self.heads and self.session.pending == 0


PRODUCTION = st.lists(
    st.tuples(st.sampled_from(list(Stream)), st.integers(1, 40), st.integers(0, 20 * SECOND)), max_size=20
)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), faulty=st.sampled_from([0.0, 0.1, 0.4]), production=PRODUCTION)
def test_everything_arrives_once_the_faults_stop(
    seed: int, faulty: float, production: list[tuple[Stream, int, int]]
) -> None:
    world = World(seed, faulty)
    for stream, count, pause_ns in production:
        world.produce(stream, count)
        world.run(world.now + pause_ns)
    world.faulty = 0.0
    world.run(world.now + 5 * 3600 * SECOND)
    assert world.delivered
    assert world.session.link is Link.UP
    assert not any(r.trouble in (t.Trouble.MISMATCH, t.Trouble.AHEAD) for r in world.reports)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), production=PRODUCTION)
def test_without_faults_every_block_travels_once(
    seed: int, production: list[tuple[Stream, int, int]]
) -> None:
    world = World(seed, 0.0)
    for stream, count, pause_ns in production:
        world.produce(stream, count)
        world.run(world.now + pause_ns)
    world.run(world.now + 60 * SECOND)
    assert world.delivered
    assert len(world.published) == len(set(world.published))
    assert len(world.connects) == 1
    assert world.reports == []


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["event", "tick", "skip"]), max_size=60), st.randoms(use_true_random=False))
def test_any_events_in_any_order_are_taken(moves: list[str], rng: random.Random) -> None:
    """Events that fit no state (late, doubled, of nobody) change nothing for the worse and never raise."""
    world = World(rng.randrange(2**32), 0.2)
    for move in moves:
        stream = rng.choice(list(Stream))
        if move == "tick":
            world.run(world.now + rng.randrange(10 * SECOND))
            continue
        events: list[t.Event] = [
            t.Connected(rng.choice([None, 10, 1000])),
            t.Disconnected("?"),
            t.Puback(rng.randrange(50), rng.choice([0, 0x97])),
            t.Fetched(rng.randrange(50), rng.randrange(100), rng.randrange(3), 10),
            t.FetchFailed(rng.randrange(50)),
            t.AckSettled(stream, rng.randrange(100), False),
            t.Announced("sleeping"),
            t.Shedding(rng.random() < 0.5),
            t.BudgetSet(rng.choice([None, 0, 500])),
            t.DrainAsked(BootNs(world.now + rng.randrange(SECOND))),
            t.Tick(),
        ]
        world.feed(rng.choice(events))
    assert world.session.next_deadline() is not None or world.session.link is Link.UP


def test_a_depot_that_is_away_gets_few_copies_and_is_found_again() -> None:
    world = World(1, 0.0)
    world.produce(Stream.STATE, 60)
    world.depot_up = False
    world.run(12 * 3600 * SECOND)
    assert len(world.published) < LIMITS.beyond + 30
    assert [r.trouble for r in world.reports] == [t.Trouble.STUCK]
    world.depot_up = True
    world.run(world.now + 2 * 3600 * SECOND)
    assert world.delivered


def test_a_refused_block_is_found_by_halving_and_stops_only_its_own_stream() -> None:
    world = World(2, 0.0)
    world.poison = (Stream.STATE, 7)
    world.produce(Stream.STATE, 20)
    world.produce(Stream.TELEMETRY, 20)
    world.run(60 * SECOND)
    assert world.depot[Stream.STATE] == 6
    assert world.depot[Stream.TELEMETRY] == 20
    assert [(r.trouble, r.stream) for r in world.reports] == [(t.Trouble.REFUSED, Stream.STATE)]
    world.poison = None
    world.run(world.now + 3600 * SECOND)
    assert world.delivered


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    faulty=st.sampled_from([0.0, 0.1]),
    takes=st.integers(BLOCK_BYTES, 4 * BLOCK_BYTES),
    production=PRODUCTION,
)
def test_a_broker_that_hangs_up_at_large_batches_gets_them_in_smaller_ones(
    seed: int, faulty: float, takes: int, production: list[tuple[Stream, int, int]]
) -> None:
    world = World(seed, faulty)
    world.takes = takes
    for stream, count, pause_ns in production:
        world.produce(stream, count)
        world.run(world.now + pause_ns)
    world.faulty = 0.0
    world.run(world.now + 5 * 3600 * SECOND)
    assert world.delivered
    assert faulty or world.reports == []


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), stream=st.sampled_from(list(Stream)), number=st.integers(1, 20))
def test_a_block_that_ends_every_connection_stops_only_its_own_stream(
    seed: int, stream: Stream, number: int
) -> None:
    world = World(seed, 0.0)
    world.poison, world.hangs_up = (stream, number), True
    for each in Stream:
        world.produce(each, 20)
    world.run(3600 * SECOND)
    assert world.depot == dict.fromkeys(Stream, 20) | {stream: number - 1}
    assert [(r.trouble, r.stream) for r in world.reports] == [(t.Trouble.REFUSED, stream)]
    before = len(world.connects)
    world.run(world.now + 24 * 3600 * SECOND)
    assert len(world.connects) - before <= 26  # one an hour at last
    assert len(world.reports) == 1
    world.poison = None
    world.run(world.now + 2 * 3600 * SECOND)
    assert world.delivered


def test_alarms_go_first_and_arrive_while_another_streams_block_ends_connections() -> None:
    """Each connection is of use to somebody; that must not hide what ends it."""
    world = World(11, 0.0)
    world.poison, world.hangs_up = (Stream.TELEMETRY, 2), True
    world.produce(Stream.TELEMETRY, 20)
    for _ in range(600):
        world.produce(Stream.ALARM, 1)
        world.run(world.now + SECOND)
    world.run(world.now + 10 * SECOND)
    assert world.depot == {**world.heads, Stream.TELEMETRY: 1}
    assert [r.stream for r in world.reports] == [Stream.TELEMETRY]
    assert len(world.connects) < 20


def test_a_block_that_ends_connections_is_found_without_the_depot_too() -> None:
    """What goes before it is confirmed at each connection, and says nothing for it."""
    world = World(14, 0.0)
    world.poison, world.hangs_up = (Stream.STATE, 4), True
    world.depot_up = False
    world.produce(Stream.STATE, 20)
    world.run(3600 * SECOND)
    assert t.Trouble.REFUSED in [r.trouble for r in world.reports]
    world.depot_up, world.poison = True, None
    world.run(world.now + 3 * 3600 * SECOND)
    assert world.delivered


def test_a_limit_that_was_found_is_tried_again_seldom() -> None:
    world = World(12, 0.0)
    world.takes = BLOCK_BYTES
    world.produce(Stream.STATE, 1000)
    world.run(3600 * SECOND)
    assert world.delivered
    assert len(world.connects) < 40
    world.takes = None
    for _ in range(3 * LIMITS.grow_after):
        world.produce(Stream.STATE, 1)
        world.run(world.now + SECOND)
    world.published.clear()
    world.produce(Stream.STATE, 30)
    world.run(world.now + SECOND)
    assert len(world.published) == 10  # batches are of full size again


def test_a_connection_that_ends_by_chance_is_nobodys_fault() -> None:
    """Twice under the same lone block: a cut line, not a refusal."""
    world = World(13, 0.0)
    world.poison, world.hangs_up = (Stream.ALARM, 1), True
    world.produce(Stream.ALARM, 1)
    while len(world.connects) < 3:
        world.run(world.now + 10 * MS)
    world.poison = None
    world.run(world.now + 10 * SECOND)
    assert world.delivered
    assert world.reports == []


def test_backoff_starts_anew_only_after_an_ack() -> None:
    """A broker that takes the connection and drops it does not get a reconnection each second."""
    world = World(3, 0.0)
    world.depot_up = False
    for _ in range(12):
        world.run(world.now + 600 * SECOND)
        world.connection += 1
        world.feed(t.Disconnected("cut"))
    before = world.session.status()["failed_connections"]
    assert before == 12
    world.depot_up = True
    world.produce(Stream.ALARM, 1)
    world.run(world.now + 700 * SECOND)
    assert world.session.status()["failed_connections"] == 0


def test_a_fleet_does_not_come_back_at_one_time() -> None:
    times = []
    for seed in range(200):
        world = World(seed, 0.0)
        world.run(SECOND)
        world.connection += 1
        world.feed(t.Disconnected("broker restarts"))
        world.run(10 * SECOND)
        times.append(world.connects[1] - SECOND)
    assert max(times) - min(times) > 1.5 * SECOND
    buckets = [sum(1 for x in times if i * 200 * MS <= x < (i + 1) * 200 * MS) for i in range(10)]
    assert max(buckets) < 60  # 200 spread over 2 s: 20 expected in each


def test_shedding_holds_back_bulk_only_and_a_drain_sends_it_all() -> None:
    world = World(4, 0.0)
    world.feed(t.Shedding(True))
    world.produce(Stream.TELEMETRY, 30)
    world.produce(Stream.ALARM, 1)
    world.run(10 * SECOND)
    assert (world.depot[Stream.ALARM], world.depot[Stream.TELEMETRY]) == (1, 0)
    world.feed(t.Announced("shutting_down"))
    world.feed(t.DrainAsked(BootNs(world.now + 30 * SECOND)))
    world.run(world.now + 31 * SECOND)
    assert world.drains == [0]
    assert world.presences == ["online", "shutting_down"]
    assert world.delivered


def test_a_drain_ends_at_its_time_with_what_is_left() -> None:
    world = World(5, 0.0)
    world.depot_up = False
    world.produce(Stream.ALARM, 3)
    world.feed(t.DrainAsked(BootNs(8 * SECOND)))
    world.run(8 * SECOND)
    assert world.drains == [3]


def test_a_used_up_byte_budget_stops_bulk_until_there_is_more() -> None:
    world = World(6, 0.0)
    world.feed(t.BudgetSet(200))
    world.produce(Stream.TELEMETRY, 90)
    world.produce(Stream.ALARM, 9)
    world.run(10 * SECOND)
    assert world.depot[Stream.ALARM] == 9
    assert world.depot[Stream.TELEMETRY] <= 9
    world.feed(t.BudgetSet(None))
    world.run(world.now + 10 * SECOND)
    assert world.delivered


def test_a_depot_restored_from_a_backup_gets_the_rest_again() -> None:
    world = World(7, 0.0)
    world.produce(Stream.AUDIT, 30)
    world.run(10 * SECOND)
    assert world.delivered
    world.depot[Stream.AUDIT] = 10
    world.feed(t.DepotAck(Stream.AUDIT, 10, b"", again=True))
    world.run(world.now + 10 * SECOND)
    assert world.depot[Stream.AUDIT] == 30


def test_a_foreign_chain_is_reported_and_nothing_is_let_go() -> None:
    world = World(8, 0.0)
    world.produce(Stream.AUDIT, 3)
    world.depot_up = False
    world.run(SECOND)
    actions = world.session.handle(t.DepotAck(Stream.AUDIT, 2, b"other"), world.now)
    assert t.AckToStore(Stream.AUDIT, 2, b"other") in actions
    actions = world.session.handle(t.AckSettled(Stream.AUDIT, 2, ok=False), world.now)
    assert [a.trouble for a in actions if isinstance(a, t.Report)] == [t.Trouble.MISMATCH]
    actions = world.session.handle(t.DepotAck(Stream.AUDIT, 9, b""), world.now)
    assert [a.trouble for a in actions if isinstance(a, t.Report)] == [t.Trouble.AHEAD]
    assert world.session.pending == 3
