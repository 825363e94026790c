"""What every device side of the reference link does alike: the simulated dock and the one in C."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from agent.core.types import MS, SECOND, BootNs
from drivers.docks.reference.auth import Direction, Session, session_key
from drivers.docks.reference.codec import (
    Ack,
    Challenge,
    Decoder,
    Frame,
    Lease,
    Message,
    Nak,
    NakReason,
    Output,
    Outputs,
    Pair,
    Proof,
    encode,
    padded,
)
from simulator.docks.reference import Identity, ReferenceDock
from simulator.docks.serial_device import DeviceModel
from tests.dock_rig import KEY, SERIAL, VEHICLE_ID
from tests.firmware_rig import FirmwareDock, needs_gcc, record

Make = Callable[[bytes | None], DeviceModel]


def python(key: bytes | None) -> DeviceModel:
    return ReferenceDock(Identity.of(SERIAL, VEHICLE_ID, key), random.Random(1).randbytes, BootNs(0))


def in_c(key: bytes | None) -> DeviceModel:
    return FirmwareDock(BootNs(0), pairing=None if key is None else record(key))


@pytest.fixture(params=[python, pytest.param(in_c, marks=needs_gcc)], ids=["python", "c"])
def make(request: pytest.FixtureRequest) -> Make:
    found: Make = request.param
    return found


def said(dock: DeviceModel) -> list[Message]:
    return [item.message for item in Decoder().feed(dock.outgoing()) if isinstance(item, Frame)]


def ask(dock: DeviceModel, message: Message, sequence: int, at_ms: int = 0) -> list[Message]:
    dock.feed(encode(Frame(message, sequence, ack_wanted=True)), BootNs(at_ms * MS))
    return said(dock)


def session(dock: DeviceModel) -> Session:
    """The tablet's end of a session that the dock has just proved."""
    nonce = bytes(16)
    [proof] = [each for each in ask(dock, Challenge(nonce), 1) if isinstance(each, Proof)]
    return Session(session_key(KEY, nonce, proof.dock_nonce), Direction.TO_DOCK)


def test_an_output_that_no_dock_has_is_refused_as_a_whole(make: Make) -> None:
    dock = make(None)
    assert Nak(1, NakReason.REFUSED) in ask(dock, Outputs(0x20 | Output.LED, 0x20 | Output.LED), 1)
    assert Ack(2) in ask(dock, Outputs(Output.LED, Output.LED), 2)


@pytest.mark.parametrize("service", [False, True])
def test_no_session_changes_its_own_key(make: Make, service: bool) -> None:
    """A new key comes untagged, to a dock in service: by whoever stands in front of it."""
    dock = make(KEY)
    if isinstance(dock, ReferenceDock):
        dock.service_contact = service
    elif isinstance(dock, FirmwareDock):
        dock.set_inputs(BootNs(0), service=service)
    tablet = session(dock)
    pair = Pair(bytes(32), padded(VEHICLE_ID, 17))
    dock.feed(encode(tablet.seal(pair, 2, ack_wanted=True)), BootNs(0))
    assert Nak(2, NakReason.REFUSED) in said(dock)
    dock.feed(encode(tablet.seal(Lease(1000), 3, ack_wanted=True)), BootNs(0))
    assert Ack(3) in said(dock), "the session goes on under the key it has"


def test_refusals_without_a_tag_are_five_in_any_second(make: Make) -> None:
    dock = make(KEY)
    refused = [
        at_ms for at_ms in range(0, 5000, 10)
        if any(isinstance(each, Nak) for each in ask(dock, Lease(1000), at_ms // 10 % 256, at_ms))
    ]  # fmt: skip
    assert refused[:5] == [0, 10, 20, 30, 40], "a few at once are answered at once"
    assert all(later - earlier >= SECOND // MS for earlier, later in zip(refused, refused[5:], strict=False))
    assert len(refused) == 25
