"""What the depot makes of a message: stores it, asks for what is missing, or puts it in quarantine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from agent.core.records import Stream
from sync.blocks import Block, Flags, Head, follow, genesis, read_rows
from sync.columns import Row
from sync.depot.storage import Chain, DepotStorage
from sync.envelope import Ack, Batch, decode_batch, decode_presence, decode_reported
from sync.errors import RemoteProtocolError
from sync.keys import Verifier
from sync.sealing import Opener
from sync.topics import ONLINE, PRESENCE, Topics, parse

log = structlog.get_logger()

NOT_HELD = "not held by the tablet any more"
_I64 = 2**63


@dataclass(frozen=True, slots=True)
class Reply:
    """An acknowledgement to sign and send, once what it says is committed."""

    topics: Topics
    ack: Ack


@dataclass(frozen=True, slots=True)
class _Plan:
    """What of a batch is new, and how many of its records came before."""

    new: list[tuple[Block, Head]]
    duplicates: int


class Intake:
    """Takes messages within a transaction of ``storage``.

    ``verifier_of`` gives a device's key, or None for a device that is not known. Without ``opener`` sealed
    blocks are verified and kept, and stay closed.
    """

    def __init__(
        self,
        storage: DepotStorage,
        verifier_of: Callable[[str], Verifier | None],
        opener: Opener | None = None,
    ) -> None:
        self._storage = storage
        self._verifier_of = verifier_of
        self._opener = opener

    def take(self, topic: str, payload: bytes, *, old: bool = False) -> list[Reply]:
        """Take one message; what is refused goes to quarantine and gets no reply.

        ``old``: it was said before we subscribed, and what followed it may have found nobody.
        """
        device = "?"
        try:
            topics, stream = parse(topic)
            device = topics.device
            verifier = self._verifier_of(device)
            if verifier is None:
                raise RemoteProtocolError("unknown", f"no key of device {device!r}: devices/{device}.pub")
            if stream == PRESENCE:
                return self._presence(topics, payload, verifier, old)
            if not isinstance(stream, Stream):
                self._storage.put_reported(topics.fleet, decode_reported(payload, device, verifier))
                return []
            return self._batch(topics, stream, payload, verifier)
        except RemoteProtocolError as error:
            kept = self._storage.quarantine(topic, device, error.reason, str(error), payload)
            log.error(
                "message refused",
                topic=topic, device=device, reason=error.reason, detail=str(error), quarantined=kept,
            )  # fmt: skip
            return []

    def _presence(self, topics: Topics, payload: bytes, verifier: Verifier, old: bool) -> list[Reply]:
        """Note it; tell a tablet that is there where its streams stand here."""
        presence = decode_presence(payload, topics.device, verifier)
        self._storage.put_presence(topics.fleet, presence)
        if presence.state != ONLINE:
            return []
        replies = []
        for stream in presence.heads:
            chain = self._storage.find(topics.device, stream, presence.epoch)
            if chain is not None or old:
                head = genesis(topics.device, stream, presence.epoch) if chain is None else chain.head
                ack = Ack(topics.device, stream, presence.epoch, presence.boot_id, head, chain is None,
                          self._storage.accepted(topics.device))  # fmt: skip
                replies.append(Reply(topics, ack))
        return replies

    def _batch(self, topics: Topics, stream: Stream, payload: bytes, verifier: Verifier) -> list[Reply]:
        batch = decode_batch(payload, topics.device, verifier)
        if batch.stream is not stream:
            raise RemoteProtocolError("stream", f"{batch.stream.value} blocks on the topic of {stream.value}")
        start = genesis(batch.device, stream, batch.epoch)
        chain = self._storage.find(batch.device, stream, batch.epoch)
        if chain is not None and chain.fleet != topics.fleet:
            raise RemoteProtocolError("fleet", f"{batch.device} is of {chain.fleet!r}, not {topics.fleet!r}")
        head = start if chain is None else chain.head
        missing = batch.before.seq > head.seq
        if missing and not batch.oldest:
            return [self._reply(topics, batch, head, again=True)]
        plan = self._plan(chain, batch.before if missing else head, batch)
        if chain is None:
            chain = self._storage.begin(topics.fleet, batch.device, stream, batch.epoch, start)
        if missing:
            log.error("records are lost", device=batch.device, stream=stream.value, after=head.seq,
                      upto=batch.before.seq, reason=NOT_HELD)  # fmt: skip
            self._storage.add_hole(chain, batch.before, NOT_HELD)
        if self._opener is not None:
            self._opener.learn(batch.segments)
        duplicates = plan.duplicates
        for block, after in plan.new:
            if self._storage.held_elsewhere(chain, block):
                # It belongs to this chain too, whose proof needs it; its records are here already.
                self._storage.add(chain, block, after, [])
                duplicates += block.header.count
            else:
                self._storage.add(chain, block, after, self._rows(batch.device, block))
        self._storage.settle(chain, batch, duplicates)
        return [self._reply(topics, batch, chain.head)]

    def _plan(self, chain: Chain | None, head: Head, batch: Batch) -> _Plan:
        """Compare the batch with what is held, before anything is written.

        Raises:
            RemoteProtocolError: ``conflict``: the device signed two histories.
        """
        new: list[tuple[Block, Head]] = []
        duplicates = 0
        claimed = batch.before
        for block in batch.blocks:
            claimed = follow(claimed, block)
            if claimed.seq <= head.seq:
                known = None if chain is None else self._storage.hash_at(chain, claimed.seq)
                if known is not None and known != claimed.hash:
                    raise _conflict(batch, claimed.seq)
                if not block.header.flags & Flags.GAP:
                    duplicates += block.header.count
                continue
            try:
                head = follow(head, block)
            except RemoteProtocolError as error:
                raise RemoteProtocolError("conflict", str(error)) from error
            if head != claimed:
                raise _conflict(batch, claimed.seq)
            new.append((block, head))
        return _Plan(new, duplicates)

    def _rows(self, device: str, block: Block) -> list[tuple[int, Row]] | None:
        """The records of a block; None when it is sealed for others, or cannot be read."""
        if self._opener is None and block.header.flags & Flags.SEALED:
            return None
        try:
            rows = read_rows(block, self._opener)
        except RemoteProtocolError as error:
            log.error("block is kept unread", device=device, stream=block.header.stream.value,
                      seq=block.header.first_seq, reason=error.reason, detail=str(error))  # fmt: skip
            return None
        offset = block.header.wall_ns - block.header.boot_ns
        if any(not -_I64 <= time < _I64 for _, row in rows for time in (row.at, row.at + offset)):
            log.error("block is kept unread", device=device, seq=block.header.first_seq, reason="times")
            return None
        return rows

    def _reply(self, topics: Topics, batch: Batch, head: Head, *, again: bool = False) -> Reply:
        desired = self._storage.accepted(batch.device)
        return Reply(
            topics, Ack(batch.device, batch.stream, batch.epoch, batch.boot_id, head, again, desired)
        )


def _conflict(batch: Batch, seq: int) -> RemoteProtocolError:
    return RemoteProtocolError(
        "conflict", f"{batch.stream.value} up to {seq}: another history of the same device is held"
    )
