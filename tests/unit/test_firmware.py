"""The dock in C keeps to docs/dock-link.md: its primitives, the vectors, dead man, cut, pairing, fuzz."""

from __future__ import annotations

import ctypes
import hashlib
import hmac
import json
import random
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from agent.core.types import (
    MS,
    SECOND,
    BootNs,
    CommandOutcome,
    DockCommandDone,
    DockFault,
    DockProof,
    DockStatus,
    DriveOutputs,
)
from drivers.docks.reference.auth import Direction, Session, proof_mac, session_key
from drivers.docks.reference.codec import (
    Ack,
    Challenge,
    Decoder,
    Frame,
    Hello,
    Ident,
    Lease,
    Message,
    Nak,
    NakReason,
    Output,
    Outputs,
    Pair,
    Ping,
    Pong,
    PowerCutIn,
    Proof,
    Status,
    Unpair,
    encode,
    padded,
)
from tests.dock_rig import KEY, SERIAL, VEHICLE_ID, Rig, cut
from tests.firmware_rig import (
    DOCK_C,
    FUZZ_C,
    SANITIZED,
    FirmwareDock,
    compiled,
    library,
    needs_gcc,
    record,
)

pytestmark = needs_gcc
VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors/dock_link.json").read_text())
DOCK_NONCE = bytes.fromhex(VECTORS["dock_nonce"])
Kind = TypeVar("Kind", bound=Message)
TO_DOCK = range(0x01, 0x80)


def frames(data: bytes) -> list[Frame]:
    return [item for item in Decoder().feed(data) if isinstance(item, Frame)]


def only(kind: type[Kind], data: bytes) -> Kind:
    """The one message of a kind among what was sent."""
    [found] = [frame.message for frame in frames(data) if isinstance(frame.message, kind)]
    return found


def lone(key: bytes | None = None) -> FirmwareDock:
    dock = FirmwareDock(BootNs(0), pairing=None if key is None else record(key))
    dock.outgoing()
    return dock


def answers(dock: FirmwareDock, message: Message, sequence: int = 0, at: int = 0) -> list[Message]:
    """What the dock says to an untagged message that wants an acknowledgement."""
    dock.feed(encode(Frame(message, sequence, ack_wanted=True)), BootNs(at))
    return [frame.message for frame in frames(dock.outgoing())]


def on_wire(**keywords: Any) -> tuple[Rig, FirmwareDock]:
    """The tablet's session with the dock in C behind it, in session."""
    made: list[FirmwareDock] = []

    def device(at: BootNs) -> FirmwareDock:
        made.append(FirmwareDock(at, pairing=record()))
        return made[0]

    rig = Rig(device=device, **keywords)
    made[0].set_inputs(rig.at, kl15=True)
    rig.run(3 * SECOND)
    assert made[0].in_session()
    return rig, made[0]


def command(rig: Rig, message: Message, sequence: int) -> bytes:
    """What only the tablet can send."""
    session = rig.session._current
    assert session is not None
    return encode(session.keys.seal(message, sequence, ack_wanted=True))


# --- primitives: values that others published ---


def digest(name: str, *parts: bytes) -> bytes:
    out = ctypes.create_string_buffer(32)
    arguments: list[Any] = [argument for part in parts for argument in (part, ctypes.c_size_t(len(part)))]
    getattr(library(), name)(*arguments, out)
    return out.raw


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # FIPS 180-4 examples (NIST), the empty message and one of two blocks.
        (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (
            b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
        ),
        (b"a" * 1_000_000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
    ],
)
def test_sha_256_gives_the_published_values(text: bytes, expected: str) -> None:
    assert digest("ivma_sha256", text).hex() == expected


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [  # RFC 4231, cases 1, 2 and 6 (a key longer than a block)
        (b"\x0b" * 20, b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
        (
            b"Jefe",
            b"what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        (
            b"\xaa" * 131,
            b"Test Using Larger Than Block-Size Key - Hash Key First",
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        ),
    ],
)
def test_hmac_gives_the_published_values(key: bytes, text: bytes, expected: str) -> None:
    assert digest("ivma_hmac_sha256", key, text).hex() == expected


def test_hkdf_gives_the_published_value() -> None:
    """RFC 5869, case 1: the first 32 of its 42 bytes, which is one block."""
    derived = digest("ivma_hkdf_sha256", b"\x0b" * 22, bytes(range(13)), bytes(range(0xF0, 0xFA)))
    assert derived.hex() == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"


def test_crc_gives_the_published_value() -> None:
    assert library().ivma_crc32(b"123456789", ctypes.c_size_t(9)) == 0xCBF43926


@pytest.mark.parametrize(
    ("plain", "stuffed"),
    [  # the examples of the COBS article, with the 254-byte boundary
        (b"\0", b"\x01\x01"),
        (b"\0\0", b"\x01\x01\x01"),
        (b"\x11\x22\0\x33", b"\x03\x11\x22\x02\x33"),
        (b"\x11\x22\x33\x44", b"\x05\x11\x22\x33\x44"),
        (b"\x11\0\0\0", b"\x02\x11\x01\x01\x01"),
        (bytes(range(1, 255)), b"\xff" + bytes(range(1, 255))),
        (bytes(range(256)), b"\x01\xff" + bytes(range(1, 255)) + b"\x02\xff"),
    ],
)
def test_cobs_gives_the_published_examples(plain: bytes, stuffed: bytes) -> None:
    out = ctypes.create_string_buffer(len(plain) + 4)
    size = library().ivma_cobs_encode(plain, ctypes.c_size_t(len(plain)), out)
    assert out.raw[:size] == stuffed
    back = ctypes.create_string_buffer(stuffed, len(stuffed))
    size = library().ivma_cobs_decode(back, ctypes.c_size_t(len(stuffed)))
    assert back.raw[:size] == plain


def test_random_texts_hash_as_elsewhere() -> None:
    """Every length around the block boundaries, against another implementation."""
    dice = random.Random(1)
    for size in range(200):
        key, text = dice.randbytes(dice.randrange(1, 100)), dice.randbytes(size)
        assert digest("ivma_sha256", text) == hashlib.sha256(text).digest()
        assert digest("ivma_hmac_sha256", key, text) == hmac.digest(key, text, "sha256")
        salt = dice.randbytes(24)
        theirs = HKDF(hashes.SHA256(), 32, salt, b"ivma-dock-session/1").derive(key)
        assert digest("ivma_hkdf_sha256", key, salt, b"ivma-dock-session/1") == theirs


# --- the vectors ---


def vector(name: str) -> bytes:
    return bytes.fromhex(next(each["wire"] for each in VECTORS["valid"] if each["name"] == name))


def in_vector_session() -> FirmwareDock:
    """A dock with the vectors' key and nonces, whose session is pending."""
    dock = FirmwareDock(
        BootNs(0), serial=VECTORS["dock_serial"], pairing=record(bytes.fromhex(VECTORS["key"]))
    )
    dock.set_nonce(int.from_bytes(DOCK_NONCE[:4], "little"), int.from_bytes(DOCK_NONCE[4:], "little"))
    for _ in range(6):  # seven STATUS, as the vectors' PROOF counts
        dock.timer(dock.next_deadline())
    dock.outgoing()
    dock.feed(vector("challenge"), BootNs(1200 * MS))
    return dock


def test_the_proof_is_that_of_the_vectors() -> None:
    proof = only(Proof, in_vector_session().outgoing())
    assert proof.payload().hex() == next(v["payload"] for v in VECTORS["valid"] if v["name"] == "proof")


@pytest.mark.parametrize(
    "each", [v for v in VECTORS["valid"] if v["type"] in TO_DOCK], ids=lambda each: str(each["name"])
)
def test_a_valid_frame_for_a_dock_is_taken(each: dict[str, Any]) -> None:
    dock = in_vector_session()
    dock.outgoing()
    dock.feed(bytes.fromhex(each["wire"]), BootNs(1200 * MS))
    replies = [frame.message for frame in frames(dock.outgoing()) if not isinstance(frame.message, Status)]
    assert dock.dropped == {}
    expected: dict[int, Callable[[Message], bool]] = {
        0x01: lambda reply: isinstance(reply, Ident),
        0x02: lambda reply: isinstance(reply, Proof),
        0x06: lambda reply: isinstance(reply, Pong) and reply.payload().hex() == each["payload"],
        # PAIR is untagged, and a paired dock without its service contact refuses it.
        0x07: lambda reply: reply == Nak(each["sequence"], NakReason.NOT_AUTHENTICATED),
    }
    acknowledged: Callable[[Message], bool] = lambda reply: reply == Ack(each["sequence"])  # noqa: E731
    [reply] = replies
    assert expected.get(each["type"], acknowledged)(reply)


@pytest.mark.parametrize(
    "each", [v for v in VECTORS["valid"] if v["type"] not in TO_DOCK], ids=lambda each: str(each["name"])
)
def test_a_valid_frame_for_a_tablet_is_dropped_unanswered(each: dict[str, Any]) -> None:
    dock = in_vector_session()
    dock.outgoing()
    dock.feed(bytes.fromhex(each["wire"]), BootNs(1200 * MS))
    assert dock.dropped == {"misdirected": 1}
    assert dock.outgoing() == b""


@pytest.mark.parametrize("each", VECTORS["invalid"], ids=lambda each: str(each["name"]))
def test_an_invalid_frame_is_refused(each: dict[str, Any]) -> None:
    dock = in_vector_session()
    before = dock.executions
    dock.feed(bytes.fromhex(each["wire"]), BootNs(1200 * MS))
    assert dock.executions == before
    if each["name"] == "empty frame":
        assert dock.dropped == {}
        return
    [why] = dock.dropped
    # What a dock need not look into, because the frame is for a tablet.
    deeper = {"tag", "text", "length"} if why == "misdirected" else set()
    assert why == each["why"] or each["why"] in deeper


@pytest.mark.parametrize(
    "each", [s for s in VECTORS["sessions"] if s["receiver"] == "dock"], ids=lambda s: str(s["name"])
)
def test_it_behaves_as_the_sessions_say(each: dict[str, Any]) -> None:
    dock = in_vector_session()
    dock.outgoing()
    for wire, accepted, executed, why in zip(
        each["feed"], each["accepted"], each.get("executed", each["accepted"]), each["why"], strict=True
    ):
        before = dock.executions
        dock.feed(bytes.fromhex(wire), BootNs(1200 * MS))
        replies = [frame.message for frame in frames(dock.outgoing())]
        assert dock.executions - before == executed
        assert any(isinstance(reply, Ack) for reply in replies) == accepted
        if why is not None:
            assert why == "NAK 5"
            assert any(isinstance(reply, Nak) and reply.reason == 5 for reply in replies)


def test_what_it_sends_has_the_page_s_macs_and_tags() -> None:
    """Computed by the project's formulas, which the vectors check for themselves."""
    dock = lone(KEY)
    nonce = bytes(range(16))
    dock.feed(encode(Frame(Challenge(nonce), 0)), BootNs(0))
    proof = only(Proof, dock.outgoing())
    mac = proof_mac(
        KEY, nonce, proof.dock_nonce, padded(SERIAL, 12), padded(VEHICLE_ID, 17), proof.status_counter
    )
    assert proof.mac == mac
    tablet = Session(session_key(KEY, nonce, proof.dock_nonce), Direction.TO_DOCK)
    dock.feed(encode(tablet.seal(Lease(5000), 1, ack_wanted=True)), BootNs(20 * MS))
    replies = frames(dock.outgoing())
    assert [type(frame.message) for frame in replies] == [Ack, Status]
    assert all(tablet.check(frame) is None for frame in replies)


# --- the tablet's session with it ---


def test_it_is_proved_leased_and_driven() -> None:
    rig, dock = on_wire()
    assert rig.of(DockProof)
    rig.session.drive(DriveOutputs(latch=True, buzzer=True), rig.at)
    rig.run(SECOND)
    assert [done.outcome for done in rig.of(DockCommandDone)] == [CommandOutcome.DONE]
    assert dock.outputs & (Output.LATCH | Output.BUZZER) == Output.LATCH | Output.BUZZER
    unseated = rig.at
    dock.set_inputs(rig.at, seated=False)
    rig.run(25 * MS)
    last = rig.authenticated()[-1]
    assert last.seated is False
    assert last.at - unseated <= 25 * MS


def test_a_reset_in_mid_session_is_proved_anew() -> None:
    rig, dock = on_wire()
    dock.reset()
    assert not dock.in_session()
    rig.run(3 * SECOND)
    assert dock.in_session()
    assert rig.authenticated()[-1].at > rig.at - SECOND


@pytest.mark.parametrize(("kl15", "longest_ns"), [(True, 5 * SECOND), (False, 2 * SECOND)])
def test_the_dead_man_fires_when_leases_stop(kl15: bool, longest_ns: int) -> None:
    rig, dock = on_wire()
    dock.set_inputs(rig.at, kl15=kl15)
    rig.deliver(command(rig, Outputs(7, Output.LATCH | Output.BUZZER), 77), True)
    rig.run(500 * MS)
    rig.fault = cut
    rig.run(longest_ns - 500 * MS)
    assert dock.in_session()
    rig.run(500 * MS)
    assert not dock.in_session()
    on = Output.LATCH | Output.LED | Output.POWER_HOLD | Output.SUPPLY_ENABLE
    assert dock.outputs == on
    rig.run(121 * SECOND)
    assert dock.outputs == on & ~Output.POWER_HOLD


def test_a_lease_ends_the_mark_of_the_dead_man() -> None:
    rig, _ = on_wire()
    statuses = rig.of(DockStatus)
    assert DockFault.DEAD_MAN in statuses[0].faults
    assert DockFault.DEAD_MAN not in statuses[-1].faults


def test_a_cut_comes_after_its_seconds_lasts_10_s_and_ends_with_kl15_on() -> None:
    rig, dock = on_wire()
    rig.session.cut_power(3, rig.at)
    rig.run(2_900 * MS)
    assert dock.outputs & Output.SUPPLY_ENABLE
    rig.run(200 * MS)
    assert not dock.outputs & Output.SUPPLY_ENABLE
    rig.session.cut_power(None, rig.at)  # once begun it is seen through
    rig.run(9 * SECOND)
    assert rig.of(DockCommandDone)[-1].outcome is CommandOutcome.REFUSED
    assert not dock.outputs & Output.SUPPLY_ENABLE
    rig.run(SECOND)
    assert dock.outputs & Output.SUPPLY_ENABLE


def test_a_planned_cut_outlives_the_session_and_waits_for_kl15() -> None:
    rig, dock = on_wire()
    rig.session.cut_power(20, rig.at)
    rig.run(SECOND)
    rig.fault = cut
    dock.set_inputs(rig.at, kl15=False)
    rig.run(15 * SECOND)
    assert not dock.in_session()
    assert dock.outputs & Output.SUPPLY_ENABLE
    rig.run(60 * SECOND)
    assert not dock.outputs & Output.SUPPLY_ENABLE
    dock.set_inputs(rig.at, kl15=True)
    assert dock.outputs & Output.SUPPLY_ENABLE


def test_a_planned_cut_is_taken_back() -> None:
    rig, dock = on_wire()
    rig.session.cut_power(5, rig.at)
    rig.run(SECOND)
    rig.session.cut_power(None, rig.at)
    rig.run(10 * SECOND)
    assert dock.outputs & Output.SUPPLY_ENABLE


def test_status_comes_at_5_hz_and_at_1_hz_once_a_cut_is_announced() -> None:
    rig, _ = on_wire()
    before = len(rig.of(DockStatus))
    rig.run(10 * SECOND)
    assert len(rig.of(DockStatus)) - before == 50
    rig.session.cut_power(100, rig.at)
    rig.run(SECOND)
    before = len(rig.of(DockStatus))
    rig.run(10 * SECOND)
    assert len(rig.of(DockStatus)) - before == 10


def test_a_fall_of_more_than_a_volt_is_told_at_once_by_its_lowest() -> None:
    rig, dock = on_wire()
    rig.run(50 * MS)
    dock.set_inputs(rig.at, vehicle_mv=6_200)
    rig.run(10 * MS)
    dock.set_inputs(rig.at, vehicle_mv=12_600)
    rig.run(20 * MS)
    assert rig.authenticated()[-1].vehicle_mv == 6_200


# --- pairing and refusals ---


def test_an_unpaired_dock_obeys_an_untagged_pair_and_outputs_only() -> None:
    dock = lone()
    assert Ack(1) in answers(dock, Outputs(Output.LATCH, Output.LATCH), 1)
    for sequence, message in enumerate((Lease(1000), PowerCutIn(1), Unpair()), 2):
        assert Nak(sequence, NakReason.NOT_AUTHENTICATED) in answers(dock, message, sequence)
    assert Nak(3, NakReason.REFUSED) in answers(dock, Challenge(bytes(16)), 3, at=SECOND)
    assert Ack(4) in answers(dock, Pair(KEY, padded(VEHICLE_ID, 17)), 4, at=SECOND)
    dock.reset()
    assert dock.paired()  # the flash has it
    assert any(isinstance(reply, Proof) for reply in answers(dock, Challenge(bytes(16)), 5, at=2 * SECOND))


@pytest.mark.parametrize(
    "message",
    [Lease(1000), Outputs(1, 1), PowerCutIn(1), Unpair(), Pair(bytes(32), bytes(17))],
    ids=lambda message: type(message).__name__,
)
def test_a_paired_dock_obeys_nothing_untagged(message: Message) -> None:
    dock = lone(KEY)
    assert Nak(9, NakReason.NOT_AUTHENTICATED) in answers(dock, message, 9)
    assert dock.executions == 0
    assert dock.paired()


def test_the_service_contact_allows_pairing_again_and_that_ends_the_session() -> None:
    rig, dock = on_wire()
    dock.set_inputs(rig.at, service=True)
    assert Ack(1) in answers(dock, Pair(bytes(32), bytes(17)), 1, at=rig.at)
    assert not dock.in_session()


def test_unpair_is_acknowledged_again_when_its_acknowledgement_was_lost() -> None:
    rig, dock = on_wire()
    dock.outgoing()
    session = rig.session._current
    assert session is not None
    for _ in range(2):
        dock.feed(command(rig, Unpair(), 200), rig.at)
        [answer] = [f for f in frames(dock.outgoing()) if isinstance(f.message, Ack)]
        assert answer.trailer is not None
        assert session.keys.check(answer) is None
        assert not dock.paired()
    rig.fault = cut
    rig.run(6 * SECOND)
    assert not dock.in_session()


def test_a_dock_that_cannot_store_pairs_nobody_and_proves_nothing() -> None:
    dock = lone()
    dock.broken(flash=True)
    assert Nak(1, NakReason.REFUSED) in answers(dock, Pair(KEY, bytes(17)), 1)
    assert not dock.paired()
    dock = lone(KEY)
    dock.broken(flash=True)
    dock.reset()  # its nonces might repeat
    assert Nak(2, NakReason.REFUSED) in answers(dock, Challenge(bytes(16)), 2)


def test_a_torn_record_is_no_pairing() -> None:
    torn = record()[:20] + bytes(35)
    assert not FirmwareDock(BootNs(0), pairing=torn).paired()


def test_dock_nonces_never_repeat_resets_included() -> None:
    dock = lone(KEY)
    nonces: set[bytes] = set()
    for step in range(60):
        replies = answers(dock, Challenge(bytes(16)), step % 256)
        nonces.update(reply.dock_nonce for reply in replies if isinstance(reply, Proof))
        if step % 3 == 0:
            dock.reset()
    assert len(nonces) == 60


def test_a_version_that_is_not_spoken_is_refused() -> None:
    dock = lone(KEY)
    assert any(isinstance(reply, Ident) for reply in answers(dock, Hello(1, 9, bytes(8)), 1))
    assert Nak(2, NakReason.REFUSED) in answers(dock, Hello(2, 9, bytes(8)), 2)
    assert Nak(3, NakReason.REFUSED) in answers(dock, Hello(0, 0, bytes(8)), 3)


def test_refusals_without_a_tag_are_paced() -> None:
    dock = lone(KEY)
    naks = 0
    for step in range(100):
        naks += sum(isinstance(each, Nak) for each in answers(dock, Lease(1), step, at=step * 10 * MS))
    assert naks == 5


def test_nobody_without_the_key_gets_an_answer_tagged() -> None:
    """A tagged answer to a sequence of his choice could be kept, and handed over as a fresh one."""
    rig, dock = on_wire()
    dock.set_inputs(rig.at, service=True)
    dock.outgoing()
    messages: list[Message] = [Hello(1, 1, bytes(8)), Ping(7), Lease(1), Outputs(1, 1)]
    for sequence, message in enumerate(messages):
        dock.feed(encode(Frame(message, sequence, ack_wanted=True)), rig.at)
    unknown = bytearray(b"\x01\x7f\x09\x01")
    unknown += library().ivma_crc32(bytes(unknown), ctypes.c_size_t(4)).to_bytes(4, "little")
    stuffed = ctypes.create_string_buffer(16)
    size = library().ivma_cobs_encode(bytes(unknown), ctypes.c_size_t(8), stuffed)
    dock.feed(stuffed.raw[:size] + b"\0", rig.at)
    replies = [frame for frame in frames(dock.outgoing()) if not isinstance(frame.message, Status)]
    assert [type(frame.message) for frame in replies] == [Ident, Pong, Nak, Ack, Nak]
    assert all(frame.trailer is None for frame in replies)


def test_a_command_held_back_does_not_open_a_session_later() -> None:
    dock = lone(KEY)
    nonce = bytes(16)
    dock.feed(encode(Frame(Challenge(nonce), 0)), BootNs(0))
    proof = only(Proof, dock.outgoing())
    tablet = Session(session_key(KEY, nonce, proof.dock_nonce), Direction.TO_DOCK)
    held_back = encode(tablet.seal(Outputs(1, 0), 1, ack_wanted=True))
    dock.feed(held_back, BootNs(5 * SECOND))
    assert dock.executions == 0
    assert not dock.in_session()


def test_a_wire_that_takes_nothing_costs_frames_and_no_more() -> None:
    rig, dock = on_wire()
    dock.broken(wire=True)
    rig.run(SECOND)
    assert dock.dropped["unsent"] >= 5
    dock.broken()
    rig.run(3 * SECOND)
    assert rig.authenticated()[-1].at > rig.at - SECOND


# --- its build ---


def test_it_needs_no_libc_but_memory_functions(tmp_path: Path) -> None:
    built = compiled(
        tmp_path / "dock.o", DOCK_C, flags=("-Os", "-c", "-ffreestanding", "-Wconversion", "-Wshadow")
    )
    symbols = subprocess.run(["nm", "-u", built], capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"U (\w+)", symbols)) <= {"memcpy", "memset", "memmove", "memcmp"}
    text = DOCK_C.read_text()
    assert not re.search(r"\b(malloc|calloc|realloc|free|alloca)\b", text)
    assert set(re.findall(r"#include <(.*)>", text)) == {"stddef.h", "stdint.h", "string.h"}


def test_its_size_and_stack_are_what_the_page_says(tmp_path: Path) -> None:
    """Measured on the build machine's processor; an upper bound that a change must not pass unseen."""
    built = compiled(tmp_path / "dock.o", DOCK_C, flags=("-Os", "-c", "-fstack-usage"))
    size = subprocess.run(["size", built], capture_output=True, text=True, check=True).stdout
    text, data, bss = map(int, size.splitlines()[1].split()[:3])
    assert text <= 8000
    assert data + bss == 0  # all state is the caller's struct
    assert library().rig_dock_size() <= 544  # 536 where pointers have 32 bits
    stack = [int(line.split("\t")[1]) for line in (tmp_path / "dock.su").read_text().splitlines()]
    assert max(stack) <= 400


def test_random_bytes_under_sanitizers(tmp_path: Path) -> None:
    fuzz = compiled(tmp_path / "fuzz", FUZZ_C, flags=SANITIZED)
    for seed in (1, 2, 3):
        done = subprocess.run(
            [fuzz, "20000", str(seed)], capture_output=True, text=True, check=False, timeout=100
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("20000 rounds")
