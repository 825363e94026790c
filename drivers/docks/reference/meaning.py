"""What payloads of the link mean in the agent's vocabulary."""

from __future__ import annotations

from agent.core.types import BootNs, DockFault, DockIdent, DockStatus, DriveOutputs
from drivers.docks.reference.codec import (
    NOT_AVAILABLE_I16,
    NOT_AVAILABLE_U16,
    Ident,
    Output,
    Outputs,
    Status,
    StatusBit,
    unpadded,
)

_OUTPUT_BITS = (
    ("latch", Output.LATCH),
    ("led", Output.LED),
    ("buzzer", Output.BUZZER),
    ("power_hold", Output.POWER_HOLD),
    ("supply_enable", Output.SUPPLY_ENABLE),
)
# Plain ints: arithmetic on enum flags would cost more than all the rest of a STATUS.
_SEATED, _MATED, _LOCKED, _KL15 = (bit.value for bit in StatusBit)
_FAULT_BITS = sum(fault.value for fault in DockFault)
_FAULTS = [DockFault(bits) for bits in range(_FAULT_BITS + 1)]


def outputs(wanted: DriveOutputs) -> Outputs:
    mask = values = 0
    for name, bit in _OUTPUT_BITS:
        on: bool | None = getattr(wanted, name)
        if on is not None:
            mask |= bit
            values |= bit if on else 0
    return Outputs(mask, values)


def dock_ident(dock: str, at: BootNs, ident: Ident) -> DockIdent:
    return DockIdent(
        at=at,
        dock=dock,
        serial=unpadded(ident.dock_serial),
        vehicle_id=unpadded(ident.vehicle_id),
        model=ident.model,
        firmware=(ident.firmware_major, ident.firmware_minor),
        reset_cause=ident.reset_cause,
    )


def dock_status(
    dock: str, at: BootNs, evidence_at: BootNs, status: Status, *, authenticated: bool
) -> DockStatus:
    bits, known = status.bits, status.known
    return DockStatus(
        at=at,
        dock=dock,
        evidence_at=evidence_at,
        authenticated=authenticated,
        seated=bool(bits & _SEATED) if known & _SEATED else None,
        mated=bool(bits & _MATED) if known & _MATED else None,
        locked=bool(bits & _LOCKED) if known & _LOCKED else None,
        kl15=bool(bits & _KL15) if known & _KL15 else None,
        vehicle_mv=_available(status.vehicle_mv, NOT_AVAILABLE_U16),
        dock_mv=_available(status.dock_mv, NOT_AVAILABLE_U16),
        tablet_ma=_available(status.tablet_ma, NOT_AVAILABLE_I16),
        temperature_dc=_available(status.temperature_dc, NOT_AVAILABLE_I16),
        faults=_FAULTS[status.faults & _FAULT_BITS],
    )


def _available(value: int, not_available: int) -> int | None:
    return None if value == not_available else value
