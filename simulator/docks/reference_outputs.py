"""What a reference dock drives and measures: latch, supply, dead man, power cut, and the voltage meter."""

from __future__ import annotations

from dataclasses import dataclass

from agent.core.types import MS, SECOND, BootNs, DockFault
from drivers.docks.reference.codec import NOT_AVAILABLE_I16, NOT_AVAILABLE_U16, Output

LONGEST_LEASE_NS = 5 * SECOND  # with KL15 on; docs/dock-link.md
LONGEST_LEASE_OFF_NS = 2 * SECOND  # with KL15 off; docs/dock-link.md
POWER_HOLD_NS = 120 * SECOND  # kept after the dead man fired; docs/dock-link.md
CUT_NS = 10 * SECOND  # a cut lasts; docs/dock-link.md
FALL_MV = 1000  # a fall that is reported at once, and as its lowest sample; docs/dock-link.md
# As plain numbers: a STATUS looks at all of them, and flags of an enum are slow.
_LATCH, _LED, _BUZZER = Output.LATCH.value, Output.LED.value, Output.BUZZER.value
_POWER_HOLD, _SUPPLY_ENABLE = Output.POWER_HOLD.value, Output.SUPPLY_ENABLE.value
_LATCH_FAULT, _DEAD_MAN_FAULT = DockFault.LATCH.value, DockFault.DEAD_MAN.value


@dataclass(slots=True)
class Inputs:
    """The physical world at the dock; None is "not known" or "not available"."""

    seated: bool | None = True
    mated: bool | None = True
    kl15: bool | None = False
    vehicle_mv: int | None = 12_600
    dock_mv: int | None = 12_000
    tablet_ma: int | None = 1_000
    temperature_dc: int | None = 250  # 0.1 degrees Celsius
    latch_jammed: bool = False
    wired_faults: int = 0  # fault bits 0 to 3, as the dock's own sensors would set them


class Actuators:
    """Outputs with their dead man and the choreography of a power cut."""

    def __init__(self, at: BootNs) -> None:
        self.bits = _LED | _POWER_HOLD | _SUPPLY_ENABLE
        self.start_dead_man(at)
        self._cut_at: BootNs | None = None
        self._cut_until: BootNs | None = None

    def start_dead_man(self, at: BootNs) -> None:
        """At the end of a lease and from reset: show it, and let go of the power later."""
        self.bits = (self.bits | _LED) & ~_BUZZER
        self._leased_at: BootNs | None = None
        self._lease_ns = 0
        self._hold_until: BootNs | None = BootNs(at + POWER_HOLD_NS)

    def lease(self, milliseconds: int, at: BootNs) -> None:
        self._leased_at, self._lease_ns, self._hold_until = at, milliseconds * MS, None

    @property
    def outputs(self) -> Output:
        return Output(self.bits)

    def set(self, mask: int, values: int) -> None:
        self.bits = (self.bits & ~mask) | (values & mask)

    def plan_cut(self, at: BootNs | None) -> bool:
        """Plan a cut or take it back; False once it has begun, for then it is completed."""
        if self._cut_until is not None:
            return False
        self._cut_at = at
        return True

    def cut_planned(self) -> bool:
        return self._cut_at is not None or self._cut_until is not None

    def cutting(self) -> bool:
        return self._cut_until is not None

    def powered(self, inputs: Inputs) -> bool:
        """Whether the tablet gets its supply."""
        wanted = bool(inputs.kl15 or self.bits & _POWER_HOLD)
        return wanted and bool(self.bits & _SUPPLY_ENABLE) and not self.cutting()

    def locked(self, inputs: Inputs) -> bool | None:
        if inputs.seated is None:
            return None
        return inputs.seated and bool(self.bits & _LATCH) and not inputs.latch_jammed

    def faults(self, inputs: Inputs) -> int:
        faults = inputs.wired_faults
        if inputs.latch_jammed:
            faults |= _LATCH_FAULT
        if self._leased_at is None:
            faults |= _DEAD_MAN_FAULT
        return faults

    def next_deadline(self, inputs: Inputs) -> BootNs | None:
        first = self._lease_ends(inputs)
        if self._hold_until is None and self._cut_at is None and self._cut_until is None:
            return first
        # A cut that outlasts its 10 s waits for KL15, which is an input and needs no deadline.
        cut_until = self._cut_until if inputs.kl15 else None
        for at in (self._hold_until, self._cut_at, cut_until):
            if at is not None and (first is None or at < first):
                first = at
        return first

    def advance(self, at: BootNs, inputs: Inputs) -> bool:
        """Let time pass up to ``at``; True when the dead man fired."""
        lease_ends = self._lease_ends(inputs)
        fired = lease_ends is not None and at >= lease_ends
        if lease_ends is not None and fired:
            self.start_dead_man(lease_ends)
        if self._hold_until is not None and at >= self._hold_until:
            self._hold_until = None
            self.bits &= ~_POWER_HOLD
        cut_at = self._cut_at
        if cut_at is not None and at >= cut_at:
            self._cut_at, self._cut_until = None, BootNs(cut_at + CUT_NS)
        if self._cut_until is not None and at >= self._cut_until and inputs.kl15:
            self._cut_until = None
        return fired

    def _lease_ends(self, inputs: Inputs) -> BootNs | None:
        if self._leased_at is None:
            return None
        longest = LONGEST_LEASE_NS if inputs.kl15 else LONGEST_LEASE_OFF_NS
        lease_ns = self._lease_ns
        return BootNs(self._leased_at + (lease_ns if lease_ns < longest else longest))


class VoltageMeter:
    """Vehicle voltage between two STATUS: its mean, or the lowest sample when it fell by more than 1 V."""

    def __init__(self, mv: int | None, at: BootNs) -> None:
        self._mv = self._lowest = self._reported = mv
        self._since = self._sampled = at
        self._mv_ns = 0

    def sample(self, mv: int | None, at: BootNs) -> bool:
        """Take a sample; True when it is a fall that STATUS reports at once."""
        self._integrate(at)
        self._mv = mv
        if mv is None or self._lowest is None or self._reported is None:
            self._lowest = mv
            return False
        fell_before = self._fell()
        self._lowest = min(self._lowest, mv)
        return self._fell() and not fell_before

    def report(self, at: BootNs) -> int | None:
        """The figure for the STATUS that goes out now; the next interval begins."""
        self._integrate(at)
        figure = self._mv
        if self._fell():
            figure = self._lowest
        elif self._mv is not None and at > self._since:
            figure = self._mv_ns // (at - self._since)
        self._reported, self._lowest, self._since, self._mv_ns = figure, self._mv, at, 0
        return figure

    def _fell(self) -> bool:
        if self._lowest is None or self._reported is None:
            return False
        return self._reported - self._lowest > FALL_MV

    def _integrate(self, at: BootNs) -> None:
        self._mv_ns += (self._mv or 0) * (at - self._sampled)
        self._sampled = at


def u16(value: int | None) -> int:
    """A measurement as STATUS carries it, kept within its range."""
    if value is not None and 0 <= value < NOT_AVAILABLE_U16:
        return value
    return NOT_AVAILABLE_U16 if value is None else 0 if value < 0 else NOT_AVAILABLE_U16 - 1


def i16(value: int | None) -> int:
    if value is not None and -0x8000 <= value < NOT_AVAILABLE_I16:
        return value
    return NOT_AVAILABLE_I16 if value is None else -0x8000 if value < 0 else NOT_AVAILABLE_I16 - 1
