"""The reference dock itself, as its firmware would behave. Sans-IO: bytes, times and physical inputs in.

Written from docs/dock-link.md and independent of the tablet's session; only the role-agnostic codec and the
formulas of ``auth`` are shared. The wire is in ``simulator.docks.serial_device``; physics of the latch, the
supply and the dead man are in ``simulator.docks.reference_outputs``.
"""

from __future__ import annotations

import enum
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product

from agent.core.types import MS, SECOND, BootNs, DockFault
from drivers.docks.reference.auth import DOCK_NONCE_SIZE, Direction, Session, proof_mac, session_key
from drivers.docks.reference.codec import (
    CANCEL_POWER_CUT,
    SERIAL_SIZE,
    VEHICLE_ID_SIZE,
    VERSION,
    Ack,
    Challenge,
    Decoder,
    Dropped,
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
    Reason,
    Status,
    StatusBit,
    Unpair,
    encode,
    padded,
)
from simulator.docks.reference_outputs import Actuators, Inputs, VoltageMeter, i16, u16

STATUS_PERIOD_NS = 200 * MS  # 5 Hz; docs/dock-link.md
SLEEPY_STATUS_PERIOD_NS = SECOND  # 1 Hz once a power cut is announced; docs/dock-link.md
# A session that no LEASE ever followed, or that was never taken up, ends after the longest lease: what was
# held back on the wire must not open or use it hours later; ours.
UNLEASED_NS = 5 * SECOND
NAKS_IN_A_SECOND = 5  # that have no tag; docs/dock-link.md
ALL_OUTPUTS = sum(output.value for output in Output)
POWER_ON_RESET, BROWN_OUT_RESET, WATCHDOG_RESET = 0, 1, 2  # reset causes of this model; ours
FIRMWARE = (1, 0)
MODEL = "Simulated reference dock"
BAD_TAG, BAD_COUNTER = Reason.TAG, Reason.COUNTER
# As plain numbers: flags of an enum take longer than all else that a STATUS is made of.
_SEATED, _MATED = StatusBit.SEATED.value, StatusBit.MATED.value
_LOCKED, _KL15 = StatusBit.LOCKED.value, StatusBit.KL15.value


class PairFault(enum.Enum):
    """The dock loses its supply at the worst moment: when it is given its key."""

    BEFORE_STORING = "before"
    AFTER_STORING = "after"  # and before it could say so


def _bits() -> dict[tuple[bool | None, ...], tuple[int, int]]:
    """Bits that are set and bits that are known, for all that can be shown."""
    places = (_SEATED, _MATED, _LOCKED, _KL15)
    return {
        said: (
            sum(place for place, value in zip(places, said, strict=True) if value),
            sum(place for place, value in zip(places, said, strict=True) if value is not None),
        )
        for said in product((True, False, None), repeat=len(places))
    }


_BITS = _bits()


@dataclass(slots=True)
class Identity:
    """What outlives a reset: who the dock is and what it was paired with."""

    serial: bytes
    vehicle_id: bytes
    key: bytes | None = field(default=None, repr=False)

    @classmethod
    def of(cls, serial: str, vehicle_id: str = "", key: bytes | None = None) -> Identity:
        return cls(padded(serial, SERIAL_SIZE), padded(vehicle_id, VEHICLE_ID_SIZE), key)


class ReferenceDock:
    """One dock. Call ``feed``, ``timer`` and the inputs in order of time; then send ``outgoing``."""

    def __init__(self, identity: Identity, entropy: Callable[[int], bytes], at: BootNs) -> None:
        self.identity = identity
        self.inputs = Inputs()
        self.service_contact = False
        self.pair_fault: PairFault | None = None  # at the next PAIR, once
        self.executed: list[Message] = []  # the latest few, for tests and rigs to look at
        self.dropped: Counter[str] = Counter()
        self._entropy = entropy
        self.actuators = Actuators(at)
        self._start(at, POWER_ON_RESET)

    def _start(self, at: BootNs, cause: int) -> None:
        self._reset_cause = cause
        self._booted = at
        self._decoder = Decoder()
        self._out = bytearray()
        self._sequence = 0
        self._status_counter = 0
        self._current: Session | None = None
        self._pending: Session | None = None
        self._pending_since = self._unleased_since = at
        self._leased = False  # the current session, or the one before it that it took over from
        self._last_command: tuple[int, int] | None = None
        self._naks: deque[BootNs] = deque(maxlen=NAKS_IN_A_SECOND)
        self._dropped_at_status = sum(self.dropped.values())
        self._voltage = VoltageMeter(self.inputs.vehicle_mv, at)
        self._said: tuple[int, int, int] | None = None
        self._status_at = at
        self.actuators.start_dead_man(at)

    # --- the wire ---

    def feed(self, data: bytes, at: BootNs) -> None:
        self._advance(at)
        for item in self._decoder.feed(data):
            if isinstance(item, Dropped):
                self.dropped[item.reason.value] += 1
                self._answer_dropped(item, at)
            elif item.to_tablet():
                self.dropped["misdirected"] += 1
            else:
                self._receive(item, at)
        self._report_change(at)

    def outgoing(self) -> bytes:
        if not self._out:
            return b""
        data = bytes(self._out)
        self._out.clear()
        return data

    def in_session(self) -> bool:
        return self._current is not None

    # --- time and the physical world ---

    def next_deadline(self) -> BootNs:
        actuators = self.actuators.next_deadline(self.inputs)
        return self._status_at if actuators is None else min(self._status_at, actuators)

    def next_actuation(self) -> BootNs | None:
        """The same without STATUS, which matters to nobody while nobody listens."""
        return self.actuators.next_deadline(self.inputs)

    def timer(self, at: BootNs) -> None:
        self._advance(at)
        if at >= self._status_at:
            self._send_status(at)
        else:
            self._report_change(at)

    def set_inputs(self, at: BootNs, **changes: int | bool | None) -> None:
        """Change physical inputs (fields of ``Inputs``) at a time; what STATUS shows goes out at once."""
        self._advance(at)
        for name, value in changes.items():
            if name not in Inputs.__dataclass_fields__:
                raise ValueError(f"a dock has no input {name!r}; it has {[*Inputs.__dataclass_fields__]}")
            setattr(self.inputs, name, value)
        if "vehicle_mv" in changes and self._voltage.sample(self.inputs.vehicle_mv, at):
            self._send_status(at)
        self._advance(at)
        self._report_change(at)

    def reset(self, at: BootNs, cause: int = WATCHDOG_RESET) -> None:
        """The microcontroller starts anew; latch and supply stay as they are."""
        self._advance(at)
        self._start(at, cause)

    def brown_out(self, at: BootNs) -> None:
        """The dock's own supply dipped too low for its microcontroller."""
        self.reset(at, BROWN_OUT_RESET)

    def _advance(self, at: BootNs) -> None:
        if self.actuators.advance(at, self.inputs):
            self._current = None  # the dead man ended the session
            self._leased = False
        if self._pending is not None and at >= self._pending_since + UNLEASED_NS:
            self._pending = None
        if self._current is not None and not self._leased and at >= self._unleased_since + UNLEASED_NS:
            self._current = None

    # --- what goes out ---

    def _report_change(self, at: BootNs) -> None:
        if self._said != self._shown():
            self._send_status(at)

    def _shown(self) -> tuple[int, int, int]:
        inputs, actuators = self.inputs, self.actuators
        shown = inputs.seated, inputs.mated, actuators.locked(inputs), inputs.kl15
        bits, known = _BITS[shown]
        return bits, known, actuators.faults(inputs)

    def _send_status(self, at: BootNs) -> None:
        bits, known, faults = self._said = self._shown()
        dropped = self.dropped.total()
        if dropped > self._dropped_at_status:
            faults |= DockFault.LINK_ERRORS.value
            self._dropped_at_status = dropped
        self._status_counter += 1
        period = SLEEPY_STATUS_PERIOD_NS if self.actuators.cut_planned() else STATUS_PERIOD_NS
        self._status_at = BootNs(at + period)
        powered = self.actuators.powered(self.inputs)
        message = Status(
            uptime_ms=(at - self._booted) // MS % 2**32,
            status_counter=self._status_counter,
            bits=bits,
            known=known,
            vehicle_mv=u16(self._voltage.report(at)),
            dock_mv=u16(self.inputs.dock_mv if powered else 0),
            tablet_ma=i16(self.inputs.tablet_ma if powered else 0),
            temperature_dc=i16(self.inputs.temperature_dc),
            faults=faults,
        )
        self._send(message, self._current)

    def _send(self, message: Message, under: Session | None) -> None:
        sequence, self._sequence = self._sequence, (self._sequence + 1) % 256
        self._out += encode(Frame(message, sequence)) if under is None else under.packet(message, sequence)

    def _nak(self, sequence: int, reason: NakReason, at: BootNs, under: Session | None = None) -> None:
        """Refuse. Without a tag at most five times a second, so that noise cannot keep the dock busy."""
        if under is None:
            if len(self._naks) == NAKS_IN_A_SECOND and at < self._naks[0] + SECOND:
                return
            self._naks.append(at)
        self._send(Nak(sequence, reason), under)

    # --- what comes in ---

    def _answer_dropped(self, dropped: Dropped, at: BootNs) -> None:
        if dropped.sequence is None:
            return
        if dropped.reason is Reason.TYPE:
            self._nak(dropped.sequence, NakReason.UNKNOWN_TYPE, at)
        elif dropped.reason is Reason.LENGTH:
            self._nak(dropped.sequence, NakReason.BAD_LENGTH, at)

    def _receive(self, frame: Frame, at: BootNs) -> None:
        under: Session | None = None
        if frame.trailer is not None:
            under = self._authenticate(frame, at)
            if under is None:
                return
        match frame.message:
            case Hello(lowest, highest):
                self._on_hello(lowest, highest, frame.sequence, at)
            case Challenge(nonce):
                self._on_challenge(nonce, frame.sequence, at)
            case Ping(opaque):
                self._send(Pong(opaque), under)
            case _ if under is None and not self._obeys_untagged(frame.message):
                self._nak(frame.sequence, NakReason.NOT_AUTHENTICATED, at)
            case _:
                self._on_command(frame, under, at)

    def _authenticate(self, frame: Frame, at: BootNs) -> Session | None:
        reason = BAD_TAG
        for session in (self._current, self._pending):
            if session is None:
                continue
            refused = session.check(frame)
            if refused is None:
                if session is self._pending:
                    self._current, self._pending = session, None
                    self._unleased_since = at
                return session
            if refused is BAD_COUNTER:
                reason = refused
        self.dropped[reason.value] += 1
        if reason is BAD_TAG:
            self._nak(frame.sequence, NakReason.BAD_TAG, at)
        return None

    def _obeys_untagged(self, message: Message) -> bool:
        in_service = self.identity.key is None or self.service_contact
        return in_service and isinstance(message, Pair | Outputs)

    def _on_hello(self, lowest: int, highest: int, sequence: int, at: BootNs) -> None:
        if not lowest <= VERSION <= highest:
            self._nak(sequence, NakReason.REFUSED, at)
            return
        serial, vehicle_id = self.identity.serial, self.identity.vehicle_id
        self._send(Ident(self._reset_cause, *FIRMWARE, serial, vehicle_id, MODEL), None)

    def _on_challenge(self, nonce: bytes, sequence: int, at: BootNs) -> None:
        key = self.identity.key
        if key is None:
            self._nak(sequence, NakReason.REFUSED, at)
            return
        dock_nonce = self._entropy(DOCK_NONCE_SIZE)
        serial, vehicle_id = self.identity.serial, self.identity.vehicle_id
        mac = proof_mac(key, nonce, dock_nonce, serial, vehicle_id, self._status_counter)
        self._pending = Session(session_key(key, nonce, dock_nonce), Direction.TO_TABLET)
        self._pending_since = at
        self._send(Proof(self._status_counter, dock_nonce, mac), None)

    def _on_command(self, frame: Frame, under: Session | None, at: BootNs) -> None:
        fault = self.pair_fault
        if fault is not None and isinstance(frame.message, Pair):
            self.pair_fault = None
            if fault is PairFault.AFTER_STORING:
                self._execute(frame.message, under, at)
            self.brown_out(at)
            return
        this = (frame.message.TYPE, frame.sequence)
        if this != self._last_command:
            if not self._execute(frame.message, under, at):
                self._nak(frame.sequence, NakReason.REFUSED, at, under)
                return
            self._last_command = this
            self.executed = [*self.executed[-15:], frame.message]
        if frame.ack_wanted:
            self._send(Ack(frame.sequence), under)

    def _execute(self, message: Message, under: Session | None, at: BootNs) -> bool:
        match message:
            case Lease() if self.identity.key is None:
                return False  # unpaired in this session, which stays for a repeated UNPAIR and ends by itself
            case Lease(milliseconds):
                self._leased = True
                self.actuators.lease(milliseconds, at)
            case Outputs(mask) if mask & ~ALL_OUTPUTS:
                return False  # outputs that no dock has
            case Outputs(mask, values):
                self.actuators.set(mask, values & mask)
            case PowerCutIn(seconds):
                wanted = None if seconds == CANCEL_POWER_CUT else BootNs(at + seconds * SECOND)
                return self.actuators.plan_cut(wanted)
            case Pair(key, vehicle_id) if under is None:
                self.identity.key, self.identity.vehicle_id = key, vehicle_id
                self._current = self._pending = None
            case Unpair():
                self.identity.key, self._pending = None, None
            case _:
                return False
        self.actuators.advance(at, self.inputs)
        return True
