"""Whatever bytes come in, a decoder returns what was signed or raises its one exception."""

from __future__ import annotations

import random

import msgspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.catalogue import CATALOGUE
from agent.core.records import Record, RecordKind, Stream, Value
from sync.blocks import (
    HEADER_BYTES,
    Block,
    BlockWriter,
    Gap,
    Head,
    Quality,
    Stamp,
    follow,
    genesis,
    parse_block,
    read_gap,
    read_rows,
)
from sync.columns import MAX_PLAIN, ColumnEncoder, read_body
from sync.envelope import (
    BATCH,
    Ack,
    Presence,
    Run,
    decode_ack,
    decode_batch,
    decode_presence,
    encode_ack,
    encode_batch,
    encode_presence,
)
from sync.errors import RemoteProtocolError
from sync.keys import Signer, Verifier
from sync.sealing import Opener, Sealer
from tests.store_rig import DEVICE, FLEET_PRIVATE, fleet_public, sample

BOOT_ID, EPOCH = bytes(16), bytes(8)
SIGNER = Signer(b"\x11" * 32)
VERIFIER = Verifier(SIGNER.public)
STAMP = Stamp(10**12, 1_760_000_000 * 10**9, Quality.RTC)
TELEMETRY = Stream.TELEMETRY
LONG = 2**63 - 1


def values(kind: RecordKind) -> st.SearchStrategy[tuple[Value, ...]]:
    by_type: dict[type, st.SearchStrategy[Value]] = {
        int: st.integers(-LONG, LONG) | st.integers(12_000, 12_040),
        str: st.text(max_size=40),
        bool: st.booleans(),
    }
    fields = [by_type[f.type] | st.none() if f.optional else by_type[f.type] for f in kind.fields]
    return st.tuples(*fields)


def records() -> st.SearchStrategy[Record]:
    return st.sampled_from(list(CATALOGUE.values())).flatmap(
        lambda kind: st.builds(Record, st.just(kind), st.integers(0, 2**62), values(kind))
    )


def opened() -> tuple[BlockWriter, Opener]:
    sealer = Sealer(fleet_public(), 1, random.Random(3).randbytes)
    opener = Opener({1: FLEET_PRIVATE})
    opener.learn([sealer.segment])
    return BlockWriter(BOOT_ID, sealer), opener


@given(st.lists(records(), min_size=1, max_size=12), st.integers(1, 2**40), st.booleans())
@settings(max_examples=150, deadline=None)
def test_records_survive_a_block(written: list[Record], first: int, sealed: bool) -> None:
    writer, opener = opened() if sealed else (BlockWriter(BOOT_ID), None)
    block = parse_block(writer.records(TELEMETRY, first, written, STAMP))
    assert block.header.wall_ns - STAMP.wall_ns == written[0].at - STAMP.boot_ns
    assert [(seq, row.at, row.kind, row.fields) for seq, row in read_rows(block, opener)] == [
        (first + n, r.at, r.kind.name, r.as_dict()) for n, r in enumerate(written)
    ]


def batch(sealed: bool = True) -> tuple[bytes, Run]:
    """A batch with records, a gap and records again."""
    sealer = Sealer(fleet_public(), 1, random.Random(3).randbytes)
    writer = BlockWriter(BOOT_ID, sealer if sealed else None)
    start = head = genesis(DEVICE, TELEMETRY, EPOCH)
    raws = [writer.records(TELEMETRY, 1, [sample(n) for n in range(5)], STAMP)]
    head = follow(head, parse_block(raws[0]))
    raws.append(writer.gap(TELEMETRY, 6, 20, Gap("quota", head.hash, b"\7" * 32), STAMP))
    raws.append(writer.records(TELEMETRY, 21, [sample(30)], STAMP))
    for raw in raws[1:]:
        head = follow(head, parse_block(raw))
    run = Run(TELEMETRY, EPOCH, start, head, tuple(raws), (sealer.segment,))
    return encode_batch(run, DEVICE, BOOT_ID, SIGNER), run


PAYLOAD, RUN = batch()
ACK = encode_ack(Ack(DEVICE, TELEMETRY, EPOCH, BOOT_ID, RUN.head), SIGNER)
PRESENCE = encode_presence(Presence(DEVICE, "online", BOOT_ID, 5, EPOCH, {TELEMETRY: RUN.head}), SIGNER)


def read_everything(data: bytes) -> None:
    for decode in (decode_batch, decode_ack, decode_presence):
        with pytest.raises(RemoteProtocolError):
            decode(data, DEVICE, VERIFIER)


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_no_bytes_are_taken_for_a_message(data: bytes) -> None:
    read_everything(data)


msgpack = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.binary(max_size=70)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=10),
    max_leaves=20,
)


@given(msgpack)
@settings(max_examples=200, deadline=None)
def test_no_well_formed_array_is_taken_for_a_message(data: object) -> None:
    read_everything(msgspec.msgpack.encode(data))


@given(st.lists(msgpack, max_size=12), st.lists(msgpack, max_size=4))
@settings(max_examples=200, deadline=None)
def test_a_device_that_signs_nonsense_is_refused(said: list[object], body: list[object]) -> None:
    statement = msgspec.msgpack.encode(said)
    for label, decode in (
        (BATCH, decode_batch),
        ("ivma-ack/1", decode_ack),
        ("ivma-presence/1", decode_presence),
    ):
        message = [1, statement, SIGNER.sign(label, statement), msgspec.msgpack.encode(body)]
        with pytest.raises(RemoteProtocolError):
            decode(msgspec.msgpack.encode(message), DEVICE, VERIFIER)


@given(st.integers(0, len(PAYLOAD) * 8 - 1))
@settings(max_examples=300, deadline=None)
def test_one_altered_bit_of_a_batch_is_noticed(bit: int) -> None:
    altered = bytearray(PAYLOAD)
    altered[bit // 8] ^= 1 << bit % 8
    with pytest.raises(RemoteProtocolError):
        decode_batch(bytes(altered), DEVICE, VERIFIER)


@given(st.sampled_from(RUN.blocks), st.data())
@settings(max_examples=200, deadline=None)
def test_an_altered_block_breaks_the_chain_or_does_not_parse(raw: bytes, data: st.DataObject) -> None:
    """Without any signature: what a depot's own disk may do to a stored block."""
    altered = bytearray(raw)
    altered[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    head = RUN.before
    gap = raw == RUN.blocks[1]
    try:
        for stored in RUN.blocks:
            head = follow(head, parse_block(bytes(altered) if stored == raw else stored))
    except RemoteProtocolError:
        return
    assert head != RUN.head or gap  # a gap's words are covered by the batch's signature alone


@given(st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_any_body_is_rows_or_an_error(body: bytes) -> None:
    header = parse_block(RUN.blocks[2]).header.pack()
    for flags in (0, 1, 2):
        raw = header[:2] + bytes([flags]) + header[3:] + body
        try:
            block = parse_block(raw)
        except RemoteProtocolError:
            continue
        for read in (lambda b: read_rows(b, opened()[1]), read_gap):
            try:
                read(block)
            except RemoteProtocolError:
                continue


columns = st.lists(
    st.tuples(st.integers(0, 2), st.lists(st.integers() | st.text(max_size=3) | st.none(), max_size=4)),
    max_size=3,
)
kinds = st.lists(
    st.tuples(st.text(max_size=3), st.integers(0, 3), st.lists(st.text(max_size=2), max_size=3)), max_size=3
)


@given(
    kinds,
    st.lists(st.integers(-1, 3), max_size=4),
    st.lists(st.integers(-5, 5), max_size=4),
    st.lists(columns, max_size=3),
)
@settings(max_examples=300, deadline=None)
def test_columns_that_do_not_fit_each_other_are_an_error(
    table: object, order: object, deltas: object, tables: object
) -> None:
    try:
        plain = msgspec.msgpack.encode((table, order, deltas, tables))
    except OverflowError:
        return
    try:
        rows = read_body(zstandard.compress(plain), 3, 0)
    except RemoteProtocolError:
        return
    assert len(rows) == 3


def test_a_body_that_would_fill_the_memory_is_refused_before_it_is_unpacked() -> None:
    bomb = zstandard.compress(bytes(MAX_PLAIN + 1))
    assert len(bomb) < 1_000
    with pytest.raises(RemoteProtocolError, match="when decompressed"):
        read_body(bomb, 1, 0)


def test_a_kind_and_fields_that_no_catalogue_has_survive() -> None:
    plain = msgspec.msgpack.encode(
        ([("kind.of.tomorrow", 9, ["a", "b"])], [], [5], [[(0, [1.5, None]), (1, [7, -2])]], "added later")
    )
    rows = read_body(zstandard.compress(plain), 2, 100)
    assert [(row.at, row.kind, row.version, row.fields) for row in rows] == [
        (100, "kind.of.tomorrow", 9, {"a": 1.5, "b": 7}),
        (105, "kind.of.tomorrow", 9, {"a": None, "b": 5}),
    ]


def test_a_statement_that_has_grown_is_still_read() -> None:
    version, statement, _, body = msgspec.msgpack.decode(ACK)
    grown = msgspec.msgpack.encode([*msgspec.msgpack.decode(statement), "added later"])
    message = [version, grown, SIGNER.sign("ivma-ack/1", grown), body, "added later"]
    assert decode_ack(msgspec.msgpack.encode(message), DEVICE, VERIFIER).head == RUN.head


def test_a_signature_of_one_purpose_is_none_of_another() -> None:
    version, statement, signature, body = msgspec.msgpack.decode(ACK)
    assert decode_ack(ACK, DEVICE, VERIFIER).head == RUN.head
    resigned = [version, statement, SIGNER.sign(BATCH, statement), body]
    with pytest.raises(RemoteProtocolError) as caught:
        decode_ack(msgspec.msgpack.encode(resigned), DEVICE, VERIFIER)
    assert caught.value.reason == "signature"
    assert signature != resigned[2]


def test_another_devices_message_is_refused_even_when_well_signed() -> None:
    for payload, decode in ((PAYLOAD, decode_batch), (ACK, decode_ack), (PRESENCE, decode_presence)):
        with pytest.raises(RemoteProtocolError) as caught:
            decode(payload, "tablet-2", VERIFIER)
        assert caught.value.reason == "device"


def test_a_broker_cannot_put_a_gap_in_the_place_of_records() -> None:
    """The head would still be right; the signature covers the blocks themselves."""
    version, statement, signature, body = msgspec.msgpack.decode(PAYLOAD)
    segments, blocks = msgspec.msgpack.decode(body)
    after = follow(RUN.before, parse_block(blocks[0])).hash
    blocks[0] = BlockWriter(BOOT_ID).gap(TELEMETRY, 1, 5, Gap("quota", RUN.before.hash, after), STAMP)
    forged = [version, statement, signature, msgspec.msgpack.encode([segments, blocks])]
    with pytest.raises(RemoteProtocolError) as caught:
        decode_batch(msgspec.msgpack.encode(forged), DEVICE, VERIFIER)
    assert caught.value.reason == "digest"


def test_a_gap_may_begin_before_the_head_but_not_leave_a_hole() -> None:
    gap = Block(parse_block(RUN.blocks[1]).header, RUN.blocks[1])
    assert follow(Head(12, b"x" * 32), gap) == Head(20, b"\7" * 32)
    for seq in (4, 20, 30):
        with pytest.raises(RemoteProtocolError) as caught:
            follow(Head(seq, b"x" * 32), gap)
        assert caught.value.reason == "sequence"
    with pytest.raises(RemoteProtocolError) as caught:
        follow(Head(5, b"x" * 32), gap)
    assert caught.value.reason == "chain"


def test_regular_telemetry_takes_at_most_sixteen_bytes_a_record_sealed_and_all() -> None:
    source = random.Random(5)
    rows, mv = [], 13_000
    for n in range(100):
        mv += source.randrange(-8, 9)
        rows.append(sample(n * 10**9 + source.randrange(10**6), mv))
    assert len(opened()[0].records(TELEMETRY, 1, rows, STAMP)) / 100 <= 16


def test_an_encoder_is_used_again_and_again_with_the_same_result() -> None:
    encoder = ColumnEncoder()
    rows = [sample(1), sample(2)]
    assert encoder.encode(rows) == encoder.encode(rows)
    assert HEADER_BYTES == 68
