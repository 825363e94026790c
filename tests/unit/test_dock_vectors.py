"""The golden vectors of the dock link, made by an implementation that shares nothing with ours."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from agent.core.types import BootNs, DockProof, DockVersion, Observation
from drivers.docks.reference.auth import Direction, Session, proof_mac, session_key
from drivers.docks.reference.codec import (
    MESSAGES,
    SERIAL_SIZE,
    VEHICLE_ID_SIZE,
    Decoder,
    Dropped,
    Frame,
    Ident,
    Nak,
    NakReason,
    Proof,
    Reason,
    decode,
    encode,
    padded,
)
from drivers.docks.reference.session import ReferenceSession
from drivers.spec import DockSettings
from simulator.docks.reference import Identity, ReferenceDock

SHARED = Path(__file__).parents[3] / "shared/vectors/dock_link.json"
COPY = Path(__file__).parents[1] / "vectors/dock_link.json"
VECTORS: dict[str, Any] = json.loads((SHARED if SHARED.exists() else COPY).read_text())
KEY, NONCE, DOCK_NONCE, SESSION_KEY = (
    bytes.fromhex(VECTORS[name]) for name in ("key", "nonce", "dock_nonce", "session_key")
)
AT = BootNs(0)


def wire(vector: dict[str, Any]) -> bytes:
    return bytes.fromhex(vector["wire"])


def named(name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(vector for vector in VECTORS["valid"] if vector["name"] == name)
    return found


def by_name(vector: dict[str, Any]) -> str:
    return str(vector["name"])


def tablet() -> ReferenceSession:
    """A tablet whose newest challenge is the vectors' nonce."""
    settings = DockSettings("dock", VECTORS["dock_serial"], VECTORS["vehicle_id"], KEY)
    session = ReferenceSession(settings, lambda size: NONCE if size == len(NONCE) else bytes(size))
    session.link_up(AT)
    return session


def dock() -> ReferenceDock:
    identity = Identity.of(VECTORS["dock_serial"], VECTORS["vehicle_id"], KEY)
    return ReferenceDock(identity, lambda size: DOCK_NONCE, AT)


def as_vector(frame: Frame) -> dict[str, Any]:
    """The fields of a message as the vectors write them."""
    message = frame.message
    fields: dict[str, Any] = {each.name: getattr(message, each.name) for each in dataclasses.fields(message)}
    if isinstance(message, Ident):
        fields["firmware"] = [fields.pop("firmware_major"), fields.pop("firmware_minor")]
    for name in ("dock_serial", "vehicle_id"):
        if name in fields:
            fields[name] = fields[name].rstrip(b"\0").decode()
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in fields.items()}


@pytest.mark.parametrize("vector", VECTORS["valid"], ids=by_name)
def test_a_valid_frame_is_read_and_made(vector: dict[str, Any]) -> None:
    [frame] = Decoder().feed(wire(vector))
    assert isinstance(frame, Frame)
    assert MESSAGES[vector["type"]] is type(frame.message)
    assert frame.sequence == vector["sequence"]
    assert as_vector(frame) == vector["fields"]
    assert frame.message.payload().hex() == vector["payload"]
    assert (frame.trailer.counter if frame.trailer else None) == vector["counter"]
    assert encode(frame) == wire(vector)


@pytest.mark.parametrize("vector", [v for v in VECTORS["valid"] if v["counter"]], ids=by_name)
def test_a_valid_tag_is_accepted_and_made(vector: dict[str, Any]) -> None:
    [frame] = Decoder().feed(wire(vector))
    assert isinstance(frame, Frame)
    receives = Direction(1 - vector["direction"])
    assert Session(SESSION_KEY, receives).check(frame) is None
    sender = Session(SESSION_KEY, Direction(vector["direction"]))
    sender._sent = vector["counter"] - 1
    assert sender.seal(frame.message, frame.sequence, ack_wanted=frame.ack_wanted) == frame


@pytest.mark.parametrize("vector", VECTORS["invalid"], ids=by_name)
def test_an_invalid_frame_is_refused_for_its_reason(vector: dict[str, Any]) -> None:
    if vector["name"] == "empty frame":
        # In a stream the page says to ignore it; taken as a frame its length is wrong.
        assert Decoder().feed(wire(vector)) == []
        assert decode(b"") == Dropped(Reason(vector["why"]))
        return
    [read] = Decoder().feed(wire(vector))
    if isinstance(read, Frame):
        reason = Session(SESSION_KEY, Direction.TO_DOCK).check(read)
        assert reason is not None
        assert reason.value == vector["why"]
    else:
        assert read.reason.value == vector["why"]


@pytest.mark.parametrize("vector", VECTORS["invalid"], ids=by_name)
def test_a_session_counts_an_invalid_frame_and_sees_nothing(vector: dict[str, Any]) -> None:
    session = tablet()
    session.feed(wire(named("proof")), AT)
    told = [DockVersion(AT, session.name)] if vector["why"] == "version" else []
    assert session.feed(wire(vector), AT) == told
    expected = {} if vector["name"] == "empty frame" else {vector["why"]: 1}
    assert session.counters().values == expected


def test_keys_and_macs_are_those_of_the_vectors() -> None:
    assert session_key(KEY, NONCE, DOCK_NONCE) == SESSION_KEY
    fields = named("proof")["fields"]
    serial = padded(VECTORS["dock_serial"], SERIAL_SIZE)
    vehicle_id = padded(VECTORS["vehicle_id"], VEHICLE_ID_SIZE)
    mac = proof_mac(KEY, NONCE, DOCK_NONCE, serial, vehicle_id, fields["status_counter"])
    assert mac.hex() == fields["mac"]


def scenario(name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in VECTORS["sessions"] if each["name"] == name)
    return found


@pytest.mark.parametrize("name", ["equal counter refused", "smaller counter refused, greater accepted"])
def test_the_tablet_accepts_each_counter_once_and_in_order(name: str) -> None:
    told = scenario(name)
    session = tablet()
    session.feed(wire(named("proof")), AT)
    for packet, accepted, why in zip(told["feed"], told["accepted"], told["why"], strict=True):
        before = session.counters().values
        session.feed(bytes.fromhex(packet), AT)
        refused = session.counters().values.get("counter", 0) - before.get("counter", 0)
        assert refused == (0 if accepted else 1)
        assert why == (None if accepted else "counter")


def test_a_proof_with_a_wrong_mac_opens_nothing() -> None:
    session = tablet()
    [packet] = scenario("proof with a wrong mac opens nothing")["feed"]
    seen: list[Observation] = session.feed(bytes.fromhex(packet), AT)
    assert not [each for each in seen if isinstance(each, DockProof)]
    assert session.counters().values == {"mac": 1}
    session.feed(wire(named("status authenticated")), AT)
    assert session.counters().values == {"mac": 1, "tag": 1}


def replies(device: ReferenceDock) -> list[object]:
    read = Decoder().feed(device.outgoing())
    return [item.message for item in read if isinstance(item, Frame)]


def test_a_paired_dock_refuses_an_untagged_command() -> None:
    device = dock()
    [packet] = scenario("untagged command to a paired dock")["feed"]
    device.feed(bytes.fromhex(packet), AT)
    assert Nak(1, NakReason.NOT_AUTHENTICATED) in replies(device)
    assert device.executed == []


def test_a_retransmission_is_acknowledged_and_executed_once() -> None:
    device = dock()
    device.feed(wire(named("challenge")), AT)
    assert any(isinstance(reply, Proof) for reply in replies(device))
    told = scenario("retransmission: same sequence, new counter, executed once")
    for packet, executed in zip(told["feed"], told["executed"], strict=True):
        before = len(device.executed)
        device.feed(bytes.fromhex(packet), AT)
        assert "Ack(sequence=3)" in [str(reply) for reply in replies(device)]
        assert len(device.executed) - before == executed
