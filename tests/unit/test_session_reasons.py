"""What the session does about reason codes: how long it waits, what it sends smaller, what it reports."""

from __future__ import annotations

import pytest

from agent.core.records import Stream
from agent.core.types import SECOND, BootNs
from sync import session_types as t
from sync.reasons import Ending
from sync.session import Session

BLOCK = 1000
LIMITS = t.Limits(batch_bytes=4 * BLOCK)


class Tablet:
    """A session with ten blocks of the state stream, and its shell by hand."""

    def __init__(self, jitter: float = 0.5, block: int = BLOCK) -> None:
        cursors = {stream: t.Cursor(0, 0) for stream in Stream} | {Stream.STATE: t.Cursor(10, 0)}
        self.session = Session(cursors, lambda: jitter, LIMITS)
        self.block = block
        self.now = BootNs(0)
        self.reports: list[t.Trouble] = []
        self.sent: list[int] = []  # blocks of each batch
        self.tokens: list[int] = []
        self.tell(t.Tick())

    def tell(self, event: t.Event) -> None:
        for action in self.session.handle(event, self.now):
            match action:
                case t.Report():
                    self.reports.append(action.trouble)
                case t.Publish(token, _):
                    self.tokens.append(token)
                case t.Fetch(token, _, after, size):
                    blocks = min(max(size // self.block, 1), 10 - after)
                    self.sent.append(blocks)
                    self.tell(t.Fetched(token, after + blocks, blocks, blocks * self.block))

    def up(self, largest: int | None = None, notice: str = "") -> None:
        self.tell(t.Connected(largest, notice))

    def confirm_all(self) -> None:
        for token in range(1, 10):
            self.tell(t.Puback(token))

    def wait_s(self, ending: Ending) -> float:
        """How long it waits after a connection that ended so; then it is connecting again."""
        self.tell(t.Disconnected("said so", ending))
        deadline = self.session.next_deadline()
        assert deadline is not None
        waited, self.now = (deadline - self.now) / SECOND, deadline
        self.tell(t.Tick())
        return waited


def test_who_is_not_taken_asks_seldom_and_more_seldom_each_time() -> None:
    tablet = Tablet(jitter=0.0)
    assert [tablet.wait_s(Ending.FORBIDDEN) for _ in range(6)] == [150, 300, 600, 1200, 1800, 1800]
    assert tablet.reports == [t.Trouble.FORBIDDEN]  # said once
    tablet.up()
    assert tablet.wait_s(Ending.FORBIDDEN) == 150
    assert tablet.reports == [t.Trouble.FORBIDDEN] * 2


@pytest.mark.parametrize(
    ("ending", "trouble"),
    [
        (Ending.BUSY, []),
        (Ending.UNTRUSTED, [t.Trouble.UNTRUSTED]),
        (Ending.TAKEN_OVER, [t.Trouble.TAKEN_OVER]),
    ],
)
def test_a_broker_that_asks_for_less_is_left_alone_from_the_first_time(
    ending: Ending, trouble: list[t.Trouble]
) -> None:
    tablet = Tablet(jitter=0.0)
    assert [tablet.wait_s(ending) for _ in range(3)] == [150, 150, 150]
    assert Tablet(jitter=0.999).wait_s(ending) > 299  # and spread: a fleet does not come back at one time
    assert tablet.reports == trouble


def test_the_mere_network_is_tried_again_soon() -> None:
    tablet = Tablet(jitter=0.5)
    assert [tablet.wait_s(Ending.NETWORK) for _ in range(4)] == [1, 2, 4, 8]
    assert tablet.reports == []


def test_a_topic_that_is_not_ours_is_no_matter_of_size() -> None:
    tablet = Tablet()
    tablet.up()
    batches = len(tablet.sent)
    tablet.tell(t.Puback(tablet.tokens[0], 0x87))
    assert tablet.reports == [t.Trouble.REFUSED]
    assert len(tablet.sent) == batches  # its stream waits, and nothing is halved
    tablet.confirm_all()
    tablet.now = BootNs(tablet.now + 61 * SECOND)
    tablet.tell(t.Tick())
    assert tablet.sent[batches] == tablet.sent[0] == 4


def test_a_broker_without_room_gets_the_same_batch_later() -> None:
    tablet = Tablet()
    tablet.up()
    batches = len(tablet.sent)
    tablet.tell(t.Puback(tablet.tokens[0], 0x97))
    assert tablet.reports == [t.Trouble.FULL]
    assert len(tablet.sent) == batches
    tablet.confirm_all()
    tablet.now = BootNs(tablet.now + 61 * SECOND)
    tablet.tell(t.Tick())
    assert tablet.sent[batches] == 4


def test_another_refusal_is_halved_at_once() -> None:
    tablet = Tablet()
    tablet.up()
    batches = len(tablet.sent)
    tablet.tell(t.Puback(tablet.tokens[0], 0x95))
    assert tablet.sent[batches] == 2
    assert tablet.reports == []


def test_a_block_larger_than_what_the_broker_takes_is_never_sent() -> None:
    tablet = Tablet()
    tablet.up(largest=BLOCK - 1)
    assert tablet.sent == [1]
    assert tablet.tokens == []
    assert tablet.reports == [t.Trouble.REFUSED]


def test_a_connection_that_ends_as_too_large_needs_no_third_proof() -> None:
    tablet = Tablet(block=4 * BLOCK)
    tablet.up()
    presence = 1  # its token; the presence came through
    tablet.tell(t.Puback(presence))
    for token in tablet.tokens[:-1]:
        tablet.tell(t.Puback(token))
    tablet.wait_s(Ending.TOO_LARGE)
    assert tablet.reports == [t.Trouble.REFUSED]


def test_a_certificate_that_ends_soon_is_reported_once_until_it_is_renewed() -> None:
    tablet = Tablet()
    for notice in ("ends on Friday", "ends on Friday", "", "ends on Friday"):
        tablet.up(notice=notice)
        tablet.wait_s(Ending.NETWORK)
    assert tablet.reports == [t.Trouble.EXPIRES] * 2
