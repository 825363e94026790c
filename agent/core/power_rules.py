"""The modes of power as data: from which mode, on which trigger, to which, and why."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from agent.core.state import PowerMode

AWAKE, RUN_ON, SUSPENDING = PowerMode.AWAKE, PowerMode.RUN_ON, PowerMode.SUSPENDING
SLEEPING, SHUTTING_DOWN, POWERING_OFF = PowerMode.SLEEPING, PowerMode.SHUTTING_DOWN, PowerMode.POWERING_OFF


class Trigger(enum.Enum):
    IN_USE = "ignition on, accessory, cranking or running"
    MAYBE_ON = "ignition unknown, a source says on against another"
    OFF = "ignition off"
    UNKNOWN = "ignition unknown for long"
    CHARGING = "ignition unknown, supply charging"
    RUN_ON_OVER = "run-on time over"
    RUN_ON_OFF = "run-on time over, and policy powers off then"
    ENERGY = "energy budget used up"
    HARD_CUT = "the supply's hard cut is near"
    HOT = "tablet battery hot"
    MAX_OVER = "maximum time over"
    LOW_VOLTAGE = "vehicle supply below the act threshold"
    LOW_CHARGE = "vehicle battery at rest, its charge at the floor"
    LOCKED_OVER = "locked for the time after which policy powers off"
    USABLE = "usable again"
    FLOOR = "tablet battery at its floor"
    HARD_FLOOR = "tablet battery at its hard floor"
    DRAINED = "queue sent, or its time over"
    RESUMED = "resumed"
    FAILED = "the request came to nothing"


@dataclass(frozen=True, slots=True)
class Row:
    frm: tuple[PowerMode, ...]
    trigger: Trigger
    to: PowerMode
    rule: str
    because: str


TABLE = (
    Row(
        (AWAKE, RUN_ON, SUSPENDING), Trigger.HARD_FLOOR, SHUTTING_DOWN, "power.hard_floor",
        "the tablet's own battery is at its hard floor and discharging",
    ),
    Row(
        (RUN_ON, SUSPENDING, SLEEPING, SHUTTING_DOWN), Trigger.IN_USE, AWAKE, "power.ignition_on",
        "the ignition is in use again",
    ),
    Row(
        (RUN_ON, SUSPENDING, SLEEPING, SHUTTING_DOWN), Trigger.MAYBE_ON, AWAKE, "power.ignition_disputed",
        "a source says the ignition is on, though another contradicts it: no run-on goes on",
    ),
    Row(
        (SHUTTING_DOWN,), Trigger.USABLE, RUN_ON, "power.usable_again",
        "the tablet, which was to power off for being locked, may be used again",
    ),
    Row((SUSPENDING, SLEEPING), Trigger.RESUMED, RUN_ON, "power.resumed", "the tablet resumed"),
    Row((AWAKE,), Trigger.OFF, RUN_ON, "power.ignition_off", "the ignition is off: run-on begins"),
    Row(
        (AWAKE,), Trigger.UNKNOWN, RUN_ON, "power.ignition_unknown",
        "the ignition has been unknown for long and nothing charges: run-on begins",
    ),
    Row(
        (RUN_ON,), Trigger.CHARGING, AWAKE, "power.charging",
        "the ignition is unknown, but the vehicle supply is charging",
    ),
    Row(
        (RUN_ON, SUSPENDING), Trigger.MAX_OVER, SHUTTING_DOWN, "power.max_time",
        "the maximum time since ignition off is over",
    ),
    Row(
        (RUN_ON, SUSPENDING), Trigger.HARD_CUT, SHUTTING_DOWN, "power.hard_cut",
        "the supply of this vehicle cuts soon, whatever runs",
    ),
    Row(
        (RUN_ON, SUSPENDING), Trigger.ENERGY, SHUTTING_DOWN, "power.energy_budget",
        "the energy that may be taken from the vehicle since ignition off is used up",
    ),
    Row(
        (RUN_ON, SUSPENDING), Trigger.LOW_VOLTAGE, SHUTTING_DOWN, "power.low_voltage",
        "the vehicle supply stayed below the act threshold",
    ),
    Row(
        (RUN_ON, SUSPENDING), Trigger.LOW_CHARGE, SHUTTING_DOWN, "power.low_charge",
        "the vehicle's battery has rested, and by its voltage its charge is at the floor",
    ),
    Row(
        (RUN_ON, SUSPENDING), Trigger.FLOOR, SHUTTING_DOWN, "power.tablet_floor",
        "the tablet's own battery is at its floor and discharging",
    ),
    Row(
        (AWAKE, RUN_ON, SUSPENDING), Trigger.LOCKED_OVER, SHUTTING_DOWN, "power.locked_long",
        "the tablet has been locked for as long as policy allows before it powers off",
    ),
    Row(
        (RUN_ON,), Trigger.RUN_ON_OFF, SHUTTING_DOWN, "power.run_on_off",
        "the run-on time is over, and policy powers off then",
    ),
    Row((RUN_ON,), Trigger.HOT, SUSPENDING, "power.too_hot", "the tablet's battery stays hot"),
    Row((RUN_ON,), Trigger.RUN_ON_OVER, SUSPENDING, "power.run_on_over", "the run-on time is over"),
    Row(
        (SUSPENDING,), Trigger.DRAINED, SLEEPING, "power.suspend_now",
        "the queue is sent, or its time is over: suspend",
    ),
    Row((SLEEPING,), Trigger.FAILED, RUN_ON, "power.suspend_failed", "the suspend came to nothing"),
    Row(
        (SHUTTING_DOWN,), Trigger.DRAINED, POWERING_OFF, "power.power_off_now",
        "the queue is sent, or its time is over: power off",
    ),
    Row(
        (POWERING_OFF,), Trigger.FAILED, RUN_ON, "power.power_off_failed", "the power-off came to nothing",
    ),
)  # fmt: skip

ROWS = {mode: tuple(row for row in TABLE if mode in row.frm) for mode in PowerMode}
