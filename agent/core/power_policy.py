"""Policy of power: run-on, budget, thresholds and shutdown (sources as in agent/core/policy.py)."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Annotated

from agent.core.bounds import DAY_S, HOUR_S, Bounds


class Chemistry(enum.StrEnum):
    """Of the vehicle's battery: its resting voltages, and so the thresholds, follow from it."""

    FLOODED = "flooded"
    EFB = "efb"
    AGM = "agm"
    LIFEPO4 = "lifepo4"


class RunOnEnd(enum.StrEnum):
    """What the end of the run-on time does."""

    SUSPEND = "suspend"
    POWER_OFF = "power_off"


@dataclass(frozen=True, slots=True)
class PowerPolicy:
    """Run-on, energy, low voltage and shutdown. The defaults are for a 12 V flooded battery."""

    chemistry: Annotated[
        Chemistry, Bounds("Of the vehicle's battery: flooded, efb, agm or lifepo4.", "", "2-behaviour")
    ] = Chemistry.FLOODED
    system_v: Annotated[
        int, Bounds("The vehicle's system voltage: 12 or 24.", "V", "2-behaviour", 12, 24)
    ] = 12
    budget_wh: Annotated[
        int,
        Bounds(
            "Energy taken from the vehicle since ignition off that powers off.",
            "Wh",
            "openpilot 30 Wh",
            1,
            1000,
        ),
    ] = 30
    model_awake_mw: Annotated[
        int,
        Bounds(
            "What the tablet takes awake, agent included, where the dock measures no current.",
            "mW", "ours", 1000, 100_000,
        ),
    ] = 12_000  # fmt: skip
    model_asleep_mw: Annotated[
        int,
        Bounds("The same asleep, when nobody measures; a dock charges on.", "mW", "ours", 10, 100_000),
    ] = 3000
    efficiency_percent: Annotated[
        int, Bounds("Of the dock's converter: the vehicle gives that much more.", "%", "ours", 50, 100)
    ] = 85
    hard_cut_s: Annotated[
        int,
        Bounds(
            "The supply cuts this long after ignition off, whatever runs (its class); 0: it does not.",
            "s", "Mini-Box M4-ATX and TREK VPM 60 s", 0, HOUR_S,
        ),
    ] = 0  # fmt: skip
    go_down_s: Annotated[
        int,
        Bounds(
            "What the operating system needs to go down: before a hard cut power-off is asked for this much "
            "earlier.", "s", "2-behaviour: of 60 s done by 40 s", 5, 120,
        ),
    ] = 20  # fmt: skip
    run_on_end: Annotated[
        RunOnEnd, Bounds("What the end of the run-on time does: suspend or power_off.", "", "2-behaviour")
    ] = RunOnEnd.SUSPEND
    hot_degc: Annotated[
        int,
        Bounds("Tablet battery at or above this: shed; without ignition, suspend.", "degC", "ours", 35, 100),
    ] = 60
    hot_s: Annotated[int, Bounds("For this long; suspend after twice as long.", "s", "ours", 1, HOUR_S)] = 30
    cold_degc: Annotated[
        int,
        Bounds(
            "Tablet battery at or below this for `hot_s`: no vehicle power, so that it is not charged, while "
            "it is above its floor.", "degC", "2-behaviour: no charging below 0", -60, 20,
        ),
    ] = 0  # fmt: skip

    run_on_s: Annotated[
        int, Bounds("Ignition off for this long ends use; see `run_on_end`.", "s", "ours", 2, DAY_S)
    ] = 900
    max_s: Annotated[
        int, Bounds("Ignition off for this long powers off.", "s", "Havis ChargeGuard 2 h", 4, 30 * DAY_S)
    ] = 2 * HOUR_S
    unknown_s: Annotated[
        int,
        Bounds(
            "Ignition unknown for this long, not charging, starts a run-on.", "s", "2-behaviour", 2, HOUR_S
        ),
    ] = 120
    resume_awake_s: Annotated[
        int, Bounds("Awake for at least this long after a resume.", "s", "ours", 1, HOUR_S)
    ] = 60
    retry_s: Annotated[
        int,
        Bounds("A suspend or power-off that came to nothing is tried again after this.", "s", "ours", 5, 600),
    ] = 60
    wake_sync_s: Annotated[
        int,
        Bounds(
            "Asleep in its run-on the tablet wakes after this, sends what is queued and sleeps again, while "
            "the energy budget affords it, and at `max_s`, to power off. 0: never; else 900 at least.",
            "s", "ours; off, because it needs a privilege", 0, 30 * DAY_S,
        ),
    ] = 0  # fmt: skip
    suspend_drain_s: Annotated[
        int, Bounds("Time to send what is queued before a suspend.", "s", "ours", 0, 60)
    ] = 5
    drain_s: Annotated[
        int,
        Bounds(
            "Time to send what is queued before a power-off.", "s",
            "ours; a 60 s supply must be done by 40 s", 0, 120,
        ),
    ] = 15  # fmt: skip
    cut_s: Annotated[
        int, Bounds("The dock cuts power this long after the power-off request.", "s", "ours", 5, 600)
    ] = 30
    filter_s: Annotated[
        int, Bounds("Time constant of the voltage filter.", "s", "ours; openpilot 45 s", 0, 300)
    ] = 10
    warn_mv: Annotated[
        int,
        Bounds(
            "Below this: shed, and take no vehicle power. "
            "0: by chemistry, temperature and system voltage.", "mV", "2-behaviour; figures ours", 0, 30_000,
        ),
    ] = 0  # fmt: skip
    warn_s: Annotated[int, Bounds("For this long.", "s", "2-behaviour; M4-ATX a minute", 1, HOUR_S)] = 60
    act_mv: Annotated[
        int,
        Bounds(
            "Below this, ignition off: power off. "
            "0: by chemistry, temperature and system voltage.", "mV", "2-behaviour; Havis 11 V", 0, 30_000,
        ),
    ] = 0  # fmt: skip
    act_s: Annotated[int, Bounds("For this long.", "s", "TREK VPM low delay 30 s", 1, HOUR_S)] = 30
    restore_mv: Annotated[
        int,
        Bounds(
            "At or above this shedding ends. "
            "0: by chemistry, temperature and system voltage.", "mV", "2-behaviour", 0, 32_000,
        ),
    ] = 0  # fmt: skip
    restore_s: Annotated[int, Bounds("For this long.", "s", "2-behaviour; Victron 30 s", 1, HOUR_S)] = 30
    rest_s: Annotated[
        int,
        Bounds(
            "Ignition off, nothing charging and little taken for this long: the vehicle battery's voltage "
            "tells its charge.", "s", "2-behaviour: 2 h after charge", 600, DAY_S,
        ),
    ] = 2 * HOUR_S  # fmt: skip
    charge_floor_percent: Annotated[
        int,
        Bounds(
            "Charge of the rested vehicle battery, less what cold takes of it, at or below which a run-on "
            "ends. 0: never.", "%", "ours", 0, 90,
        ),
    ] = 40  # fmt: skip
    floor_percent: Annotated[
        int, Bounds("Tablet battery at or below this ends a run-on.", "%", "ours", 1, 90)
    ] = 15
    hard_floor_percent: Annotated[
        int, Bounds("Tablet battery at or below this powers off, whatever ignition says.", "%", "ours", 0, 50)
    ] = 5
    floor_s: Annotated[int, Bounds("For this long, discharging.", "s", "ours", 0, 600)] = 10
    locked_off_s: Annotated[
        int,
        Bounds(
            "Locked for this long without a break, and no fresh source says ON: power off. 0: never; "
            "else 60 at least.", "s", "ours; off, because a tablet that is off cannot report", 0, 30 * DAY_S,
        ),
    ] = 0  # fmt: skip
    sample_s: Annotated[int, Bounds("Least time between two power samples.", "s", "ours", 1, HOUR_S)] = 10
