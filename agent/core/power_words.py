"""What power reports: the sample, and the evidence of its decisions."""

from __future__ import annotations

from agent.core import power_energy as energy
from agent.core.catalogue import POWER_SAMPLE
from agent.core.ignition_words import crank_open
from agent.core.notes import note, unseen
from agent.core.policy import Policy, PowerPolicy
from agent.core.state import Ignition, Power, PowerMode
from agent.core.types import MS, SECOND, BootNs, DockStatus, Effects, Evidence, Write

RPM_STEP = 50  # precision of engine speed in a power sample (catalogue)


def filtered_mv(power: Power) -> int | None:
    return None if power.filtered_uv is None else power.filtered_uv // 1000


def supply_wanted(power: Power) -> bool:
    """Take vehicle power? Not from a weak battery nor into a cold one; on the way off it is left on."""
    ending = power.mode in (PowerMode.SHUTTING_DOWN, PowerMode.POWERING_OFF)
    return ending or not (power.shedding or power.cold)


def sample_due(power: Power, now: BootNs, policy: PowerPolicy) -> bool:
    return power.recorded_at is None or now >= power.recorded_at + policy.sample_s * SECOND


def sample(power: Power, obs: DockStatus, now: BootNs, ignition: Ignition, policy: Policy) -> Effects:
    """The telemetry record of one STATUS."""
    rpm = ignition.rpm
    fresh_rpm = rpm is not None and rpm.fresh(now, policy.ignition.can_fresh_ms * MS)
    record = POWER_SAMPLE.make(
        now,
        vehicle_mv=obs.vehicle_mv,
        dock_mv=obs.dock_mv,
        tablet_ma=obs.tablet_ma,
        board_dc=obs.temperature_dc,
        tablet_percent=None if power.tablet is None else power.tablet.percent,
        engine_rpm=(rpm.value + RPM_STEP // 2) // RPM_STEP * RPM_STEP if rpm and fresh_rpm else None,
    )
    return (Write(record),)


def evidence(power: Power, now: BootNs, ignition: Ignition, policy: Policy) -> tuple[Evidence, ...]:
    """What power decisions look at, with ages as of ``now``."""
    return (
        note("ignition", ignition.state.value, ignition.since, now, fresh=True, weight=100),
        _supply(power, now, ignition, policy),
        *_charge(power, now, policy),
        _tablet(power, now),
        _energy(power, now, policy),
        note("run-on", "not running" if power.run_on_since is None else "running", power.run_on_since, now,
             fresh=power.run_on_since is not None, weight=100),
    )  # fmt: skip


def _supply(power: Power, now: BootNs, ignition: Ignition, policy: Policy) -> Evidence:
    mv = filtered_mv(power)
    if mv is None:
        return unseen("vehicle supply")
    fresh = now < power.sampled_at + policy.ignition.voltage_fresh_ms * MS
    window = crank_open(ignition, now, policy.ignition)
    limits = power.limits
    remark = (
        ""
        if limits is None
        else f"warn {limits.warn_mv}, act {limits.act_mv}, restore {limits.restore_mv} mV: "
        f"{policy.power.chemistry}, {policy.power.system_v} V, {limits.celsius} degC"
    )
    if window:
        remark = "suspended in the crank window"
    return note("vehicle supply", f"{mv} mV, filtered", power.sampled_at, now, fresh=fresh,
                weight=0 if window else 100, remark=remark)  # fmt: skip


def _charge(power: Power, now: BootNs, policy: Policy) -> tuple[Evidence, ...]:
    """Nothing, unless the vehicle's battery has rested."""
    if power.charge_percent is None:
        return ()
    fresh = now < power.sampled_at + policy.ignition.voltage_fresh_ms * MS
    celsius = "" if power.limits is None else f", {power.limits.celsius} degC"
    remark = f"by its voltage at rest: {policy.power.chemistry}{celsius}"
    value = f"{power.charge_percent} %"
    return (note("vehicle charge", value, power.sampled_at, now, fresh=fresh, weight=100, remark=remark),)


def _tablet(power: Power, now: BootNs) -> Evidence:
    tablet = power.tablet
    if tablet is None or tablet.percent is None:
        return unseen("tablet battery")
    value = f"{tablet.percent} %"
    if tablet.temperature_dc is not None:
        value += f", {tablet.temperature_dc / 10:.1f} degC"
    return note("tablet battery", value, tablet.at, now, fresh=True, weight=100, remark="reported on change")


def _energy(power: Power, now: BootNs, policy: Policy) -> Evidence:
    if power.run_on_since is None:
        return note("energy since ignition off", "not counted", None, now, fresh=False)
    value, remark = energy.words(power, policy.power)
    return note(
        "energy since ignition off", value, power.counted_at, now, fresh=True, weight=100, remark=remark
    )
