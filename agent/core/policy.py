"""Policy: every number that the core decides by, with bounds, unit, meaning and source.

The metadata is data for others: ``agent.config`` builds the validated ``[policy]`` tables from it and
docs/configuration.md is generated from it. Sources: "2-behaviour" is the design's default, a product name
is a figure of facts.md, "ours" is our choice.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Annotated

from agent.core.battery import REFERENCE_C, limits_at
from agent.core.bounds import DAY_S, HOUR_S
from agent.core.bounds import Bounds as Bounds
from agent.core.power_policy import Chemistry as Chemistry
from agent.core.power_policy import PowerPolicy as PowerPolicy
from agent.core.power_policy import RunOnEnd as RunOnEnd


class DockBit(enum.StrEnum):
    """A bit of a dock's STATUS that the tether may require."""

    SEATED = "seated"
    MATED = "mated"
    LOCKED = "locked"


class Wire(enum.StrEnum):
    """What the dock's KL15 input is connected to."""

    KL15 = "kl15"
    ACCESSORY = "accessory"  # drops while the starter turns, and never proves ON


class HintUse(enum.StrEnum):
    """What a source without a key may bring about."""

    REPORT = "report"  # it is shown, and a contradiction to proof is reported
    RESTRICT = "restrict"  # and its lasting word "out" restricts, whatever else is proved
    ALLOW = "allow"  # and its word "in" stands for proof; for control lines only


@dataclass(frozen=True, slots=True)
class TetherPolicy:
    """When the tablet counts as held by its dock, and how long it may be used without proof of that."""

    required: Annotated[
        tuple[DockBit, ...],
        Bounds("STATUS bits that must be known and set: seated, mated, locked.", "", "2-behaviour"),
    ] = (DockBit.SEATED,)
    proof_fresh_s: Annotated[int, Bounds("A proof counts for this long.", "s", "2-behaviour", 35, 600)] = 60
    status_fresh_ms: Annotated[
        int, Bounds("An authenticated STATUS counts for this long.", "ms", "2-behaviour", 700, 10_000)
    ] = 1500
    steady_ms: Annotated[
        int,
        Bounds(
            "Only a STATUS that counts for this long yet ends an uncertainty: one about to go stale, on a "
            "line that delays, must not chatter.", "ms", "ours", 0, 5000,
        ),
    ] = 500  # fmt: skip
    ride_through_ms: Annotated[
        int,
        Bounds("Use goes on for this long after the last fresh evidence.", "ms", "2-behaviour", 1000, 30_000),
    ] = 4000
    crank_ride_through_ms: Annotated[
        int, Bounds("The same in a crank window, once a loss.", "ms", "2-behaviour", 1000, 60_000)
    ] = 10_000
    crank_evidence_ms: Annotated[
        int,
        Bounds(
            "Authenticated KL15 or a start signal this long before the loss earns the crank extension.",
            "ms", "2-behaviour", 0, 5000,
        ),
    ] = 1000  # fmt: skip
    budget_ms: Annotated[
        int, Bounds("Use without proof between two refills, in all.", "ms", "2-behaviour", 0, 600_000)
    ] = 60_000
    refill_after_s: Annotated[
        int,
        Bounds("The budget is full again after this long TETHERED without a break.", "s", "ours", 1, DAY_S),
    ] = 300
    return_ms: Annotated[
        int,
        Bounds(
            "Evidence must hold this long before a locked tablet is released: a bouncing seat switch "
            "must not chatter.", "ms", "ours", 0, 10_000,
        ),
    ] = 500  # fmt: skip
    start_allowance_s: Annotated[
        int,
        Bounds(
            "After boot or resume the alarm waits this long; the lock does not.", "s", "2-behaviour", 0, 600
        ),
    ] = 30
    hold_latch: Annotated[
        bool, Bounds("The alarm holds the dock's latch closed, unless the tablet is known out.", "", "ours")
    ] = True
    sleep_timeout_s: Annotated[
        int,
        Bounds(
            "After this long a sleep counts as over although logind did not say so.", "s", "ours", 10, 600
        ),
    ] = 60
    # --- sources without a key ---
    hint_lines: Annotated[
        HintUse,
        Bounds(
            "What a dock's control lines may do: report; restrict; or allow, that is stand for proof, which "
            "a wire bridge can fake: read docs/security.md first.", "", "ours",
        ),
    ] = HintUse.REPORT  # fmt: skip
    hint_usb: Annotated[
        HintUse, Bounds("What the presence of a USB device may do: report or restrict.", "", "ours")
    ] = HintUse.REPORT
    hint_switch: Annotated[
        HintUse, Bounds("What the tablet's own dock switch may do: report or restrict.", "", "ours")
    ] = HintUse.REPORT
    hint_fresh_ms: Annotated[
        int, Bounds("Control lines that stand for proof count for this long.", "ms", "ours", 700, 10_000)
    ] = 2500
    hint_hold_ms: Annotated[
        int,
        Bounds(
            "A hint must say out for this long before it restricts, or contradict before that is reported; "
            "a dock that browns out is back by then. Not counted within a crank window.",
            "ms", "2-behaviour ride-through", 500, 60_000,
        ),
    ] = 4000  # fmt: skip


@dataclass(frozen=True, slots=True)
class IgnitionPolicy:
    """How ignition is judged from wire, CAN, engine and voltage."""

    wire: Annotated[
        Wire, Bounds("What the dock's KL15 input is connected to: kl15 or accessory.", "", "2-behaviour")
    ] = Wire.KL15
    wire_fresh_ms: Annotated[
        int,
        Bounds("The wire, by authenticated STATUS, counts for this long.", "ms", "2-behaviour", 700, 10_000),
    ] = 1500
    can_fresh_ms: Annotated[
        int,
        Bounds(
            "A CAN signal counts for this long; not above settle_ms, or a bus that dies with the key "
            "looks like a contradiction.", "ms", "openpilot 2 s", 500, 30_000,
        ),
    ] = 2000  # fmt: skip
    voltage_fresh_ms: Annotated[int, Bounds("A voltage counts for this long.", "ms", "ours", 700, 30_000)] = (
        3000
    )
    on_debounce_ms: Annotated[
        int,
        Bounds("ON or RUNNING must hold this long.", "ms", "ours; TREK VPM on delay 2 s", 0, 10_000),
    ] = 500
    off_debounce_ms: Annotated[
        int,
        Bounds("OFF or ACCESSORY must hold this long.", "ms", "ours; TREK VPM off delay 5 s", 0, 30_000),
    ] = 2000
    settle_ms: Annotated[
        int, Bounds("A contradiction must last this long to count.", "ms", "2-behaviour", 0, 30_000)
    ] = 2000
    stuck_s: Annotated[
        int,
        Bounds(
            "Wire ON against CAN OFF, no rotation and no charging for this long is a stuck wire.",
            "s", "2-behaviour", 5, HOUR_S,
        ),
    ] = 600  # fmt: skip
    running_rpm: Annotated[
        int,
        Bounds("From here the engine runs; below, above 0, it is cranked.", "rpm", "2-behaviour", 200, 800),
    ] = 400
    crank_fall_mv: Annotated[
        int,
        Bounds(
            "A fall of the supply by more than this opens the crank window.", "mV", "2-behaviour", 500, 8000
        ),
    ] = 1500
    crank_fall_ms: Annotated[
        int,
        Bounds(
            "Two reports this close show a fall within 100 ms: the dock reports a fall at once, up to "
            "one 5 Hz period after the STATUS before it.", "ms", "dock link; ours", 50, 1000,
        ),
    ] = 250  # fmt: skip
    crank_after_running_ms: Annotated[
        int, Bounds("The crank window closes this long after RUNNING.", "ms", "2-behaviour", 0, 30_000)
    ] = 2000
    crank_quiet_s: Annotated[
        int, Bounds("Or this long after the last sign of cranking.", "s", "2-behaviour", 1, 60)
    ] = 15
    crank_max_s: Annotated[int, Bounds("A crank window never lasts longer.", "s", "2-behaviour", 5, 300)] = 60
    charging_mv: Annotated[
        int,
        Bounds(
            "At or above this the supply shows charging.", "mV", "2-behaviour; AutoPi 13.2 V", 12_600, 30_000
        ),
    ] = 13_200
    bus_silence_s: Annotated[
        int,
        Bounds("A bus silent for this long corroborates OFF.", "s", "Honda modules sleep after 40 s", 5, 600),
    ] = 40
    hints: Annotated[
        bool,
        Bounds(
            "Ignition wire and supply voltage of a source without a key count while no authenticated dock "
            "says anything of them.", "", "ours",
        ),
    ] = True  # fmt: skip


@dataclass(frozen=True, slots=True)
class LeasePolicy:
    """For how long use is lent, and what holds while there is no guard to take it back."""

    step_ms: Annotated[
        int,
        Bounds(
            "A lease is renewed once it can be made this much longer: rarer is less work for the guard, and "
            "leaves a lease that is this much shorter when the agent dies.", "ms", "ours", 200, 2000,
        ),
    ] = 1000  # fmt: skip
    grant_ms: Annotated[
        int,
        Bounds(
            "Length of a lease that rests on a grant: use goes on this long after the agent died.",
            "ms", "ours", 5000, 120_000,
        ),
    ] = 30_000  # fmt: skip
    unguarded_s: Annotated[
        int,
        Bounds("The tablet is locked after this long without the guard; 0 is never.", "s", "ours", 0, HOUR_S),
    ] = 0


@dataclass(frozen=True, slots=True)
class GrantPolicy:
    """Use without proof by leave: permits, short codes and the safety override."""

    slice_s: Annotated[
        int,
        Bounds("A permit's time is committed in slices of this, before use.", "s", "2-behaviour", 10, 600),
    ] = 60
    lead_s: Annotated[
        int, Bounds("The next slice is taken this long before the end of the last.", "s", "ours", 1, 60)
    ] = 10
    boot_cost_s: Annotated[
        int, Bounds("A boot costs a permit this, beside its open slice.", "s", "2-behaviour", 0, HOUR_S)
    ] = 600
    boots: Annotated[
        int, Bounds("A permit ends at this boot after it was loaded.", "1", "2-behaviour", 1, 10)
    ] = 3
    permit_max_min: Annotated[int, Bounds("A permit of more is refused.", "min", "ours", 1, 7 * 24 * 60)] = (
        24 * 60
    )
    code_max_min: Annotated[int, Bounds("A short code for more is refused.", "min", "ours", 1, 24 * 60)] = 240
    challenge_s: Annotated[
        int, Bounds("A challenge can be answered for this long.", "s", "ours", 30, HOUR_S)
    ] = 900
    tries: Annotated[
        int,
        Bounds("Wrong answers to challenges before each further one has to wait.", "1", "2-behaviour", 1, 20),
    ] = 5
    delay_s: Annotated[
        int, Bounds("The first such wait; each further one is twice as long.", "s", "ours", 1, HOUR_S)
    ] = 60
    delay_max_s: Annotated[int, Bounds("The longest such wait.", "s", "ours", 1, DAY_S)] = 4 * HOUR_S
    override_s: Annotated[
        int, Bounds("A safety override lasts this long.", "s", "2-behaviour", 60, HOUR_S)
    ] = 900
    overrides: Annotated[int, Bounds("Safety overrides between two refills.", "1", "2-behaviour", 0, 10)] = 2
    refill_s: Annotated[
        int, Bounds("TETHERED without a break for this long refills them.", "s", "2-behaviour", 60, DAY_S)
    ] = HOUR_S


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything the core decides by."""

    tether: TetherPolicy = TetherPolicy()
    ignition: IgnitionPolicy = IgnitionPolicy()
    power: PowerPolicy = PowerPolicy()  # noqa: RUF009 - frozen, as those of this module
    lease: LeasePolicy = LeasePolicy()
    grants: GrantPolicy = GrantPolicy()


LOCKED_OFF_LEAST_S = 60  # ours
HYSTERESIS_MV = 500  # least distance between acting and restoring (2-behaviour)
LEAST_MV_12 = 10_500  # Victron cuts at 10.5 V; below the 11 V of a charge guard nothing can be acted on
CHARGING_MV_24 = 26_000  # ours: twice 13.0 V
CHARGING_MV_LIFEPO4 = 13_700  # ours: above its resting voltage when full, 13.4 to 13.6 V
WAKE_LEAST_S = 900  # ours
HARD_CUT_LEAST_S = 5  # ours: to notice, announce and commit


def problems(policy: Policy) -> list[str]:
    """Cross-field rules that a policy breaks, each as a sentence that names the keys and values."""
    rules = (
        ("tether", "ride_through_ms", "status_fresh_ms", 0),
        ("tether", "status_fresh_ms", "steady_ms", 200),
        ("tether", "crank_ride_through_ms", "ride_through_ms", 0),
        ("power", "max_s", "run_on_s", 1),
        ("power", "floor_percent", "hard_floor_percent", 1),
        ("grants", "slice_s", "lead_s", 1),
        ("grants", "delay_max_s", "delay_s", 0),
    )
    found = []
    for section, high, low, gap in rules:
        values = getattr(policy, section)
        least = getattr(values, low) + gap
        if getattr(values, high) < least:
            found.append(
                f"`policy.{section}.{high}` is {getattr(values, high)}: it must be at least {least}, "
                f"because `policy.{section}.{low}` is {getattr(values, low)}"
            )
    found += _supply_problems(policy)
    if 0 < policy.power.wake_sync_s < WAKE_LEAST_S:
        found.append(
            f"`policy.power.wake_sync_s` is {policy.power.wake_sync_s}: it must be 0 (never) or at least "
            f"{WAKE_LEAST_S}, or the tablet hardly sleeps"
        )
    if 0 < policy.power.locked_off_s < LOCKED_OFF_LEAST_S:
        found.append(
            f"`policy.power.locked_off_s` is {policy.power.locked_off_s}: it must be 0 (never) or at least "
            f"{LOCKED_OFF_LEAST_S}, so that an officer has time to put the tablet back"
        )
    found += [
        f"`policy.tether.hint_{kind}` is allow: only control lines may stand for proof, by `hint_lines`; "
        "expected report or restrict"
        for kind in ("usb", "switch")
        if getattr(policy.tether, f"hint_{kind}") is HintUse.ALLOW
    ]
    if not policy.tether.required:
        found.append("`policy.tether.required` is empty: name at least one of seated, mated, locked")
    if len(set(policy.tether.required)) < len(policy.tether.required):
        found.append("`policy.tether.required` names a bit twice")
    return found


def _supply_problems(policy: Policy) -> list[str]:
    """What does not fit the vehicle's battery or the supply's class."""
    power, charging_mv = policy.power, policy.ignition.charging_mv
    found = []
    if power.system_v not in (12, 24):
        return [f"`policy.power.system_v` is {power.system_v}: expected 12 or 24"]
    batteries = power.system_v // 12
    named = limits_at(power, REFERENCE_C)
    values = {"warn_mv": named.warn_mv, "act_mv": named.act_mv, "restore_mv": named.restore_mv}
    for high, low, gap in (
        ("warn_mv", "act_mv", 1), ("restore_mv", "act_mv", HYSTERESIS_MV), ("restore_mv", "warn_mv", 1),
    ):  # fmt: skip
        if values[high] < values[low] + gap:
            found.append(
                f"`policy.power.{high}` is {values[high]}: it must be at least {values[low] + gap}, "
                f"because `policy.power.{low}` is {values[low]}"
            )
    found += [
        f"`policy.power.{name}` is {value}: with system_v {power.system_v} it must be 0 (by chemistry) or at "
        f"least {LEAST_MV_12 * batteries}"
        for name, value in values.items()
        if value < LEAST_MV_12 * batteries
    ]
    least = CHARGING_MV_24 if batteries == 2 else 0
    if power.chemistry is Chemistry.LIFEPO4:
        least = CHARGING_MV_LIFEPO4 * batteries
    if charging_mv < least:
        found.append(
            f"`policy.ignition.charging_mv` is {charging_mv}: with system_v {power.system_v} and chemistry "
            f"{power.chemistry} it must be at least {least}, or a resting battery looks like charging"
        )
    needs_s = power.go_down_s + HARD_CUT_LEAST_S
    if 0 < power.hard_cut_s < needs_s:
        found.append(
            f"`policy.power.hard_cut_s` is {power.hard_cut_s}: it must be 0 (none) or at least {needs_s}, "
            f"because `policy.power.go_down_s` is {power.go_down_s}"
        )
    return found
