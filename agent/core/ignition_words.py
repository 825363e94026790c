"""What each ignition source says at a time, as a word for the rules. A stale source says nothing."""

from __future__ import annotations

from typing import Final

from agent.core.ignition_rules import WIRE_STUCK, EngineWord, KeyWord, WireWord
from agent.core.policy import IgnitionPolicy, Wire
from agent.core.state import Ignition, Reading
from agent.core.types import MS, SECOND, BootNs, KeyPosition, SignalKind

# What comes all the time, by its own name: to look a member up in its class takes longer than all the rest.
IGNITION: Final = SignalKind.IGNITION
ENGINE_SPEED: Final = SignalKind.ENGINE_SPEED
BATTERY: Final = SignalKind.BATTERY
ALTERNATOR: Final = SignalKind.ALTERNATOR
SPEED: Final = SignalKind.SPEED
READY: Final = SignalKind.READY
START: Final = KeyPosition.START
KL15, WIRE_ON, WIRE_OFF = Wire.KL15, WireWord.ON, WireWord.OFF
STILL, TURNING = EngineWord.STILL, EngineWord.TURNING

_KEY_WORDS = {
    KeyPosition.OFF: KeyWord.OFF,
    KeyPosition.ACCESSORY: KeyWord.ACCESSORY,
    KeyPosition.ON: KeyWord.ON,
    KeyPosition.START: KeyWord.START,
}


def crank_open(ignition: Ignition, now: BootNs, policy: IgnitionPolicy) -> bool:
    """Whether the supply may be low, and the wire away, because the starter turns."""
    crank = ignition.crank
    return (
        crank is not None
        and now < crank.evidence_at + policy.crank_quiet_s * SECOND
        and now < crank.opened_at + policy.crank_max_s * SECOND
    )


def wire_word(ignition: Ignition, now: BootNs, policy: IgnitionPolicy) -> WireWord:
    wire = ignition.wire
    if wire is None or now >= wire.at + policy.wire_fresh_ms * MS:
        return WireWord.NONE
    if policy.wire is KL15:
        return WIRE_ON if wire.value else WIRE_OFF
    if not wire.value and crank_open(ignition, now, policy):
        return WireWord.NONE  # an accessory feed drops while the starter turns
    return WireWord.FEED_ON if wire.value else WireWord.FEED_OFF


def key_word(ignition: Ignition, now: BootNs, policy: IgnitionPolicy) -> KeyWord:
    key = ignition.key
    if key is None or now >= key.at + policy.can_fresh_ms * MS:
        return KeyWord.NONE
    return _KEY_WORDS[key.value]


def rpm_word(ignition: Ignition, now: BootNs, policy: IgnitionPolicy) -> EngineWord:
    rpm = ignition.rpm
    if rpm is None or now >= rpm.at + policy.can_fresh_ms * MS:
        return EngineWord.NONE
    if rpm.value <= 0:
        return STILL
    # Beyond the longest crank it is no starter that turns the engine.
    slow = rpm.value < policy.running_rpm and crank_open(ignition, now, policy)
    return EngineWord.CRANKING if slow else TURNING


def ready_word(ignition: Ignition, now: BootNs, policy: IgnitionPolicy) -> EngineWord:
    ready = ignition.ready
    if ready is None or now >= ready.at + policy.can_fresh_ms * MS:
        return EngineWord.NONE
    return TURNING if ready.value else STILL


def engine_word(ignition: Ignition, now: BootNs, policy: IgnitionPolicy) -> EngineWord:
    """What engine speed and an electric vehicle's READY say together: the more of the two."""
    words = {rpm_word(ignition, now, policy), ready_word(ignition, now, policy)}
    for word in (EngineWord.TURNING, EngineWord.CRANKING, EngineWord.STILL):
        if word in words:
            return word
    return EngineWord.NONE


def charging(ignition: Ignition, now: BootNs, policy: IgnitionPolicy) -> bool:
    """Whether a fresh voltage shows charging. That it does not is no evidence of anything."""
    return (
        charges(ignition.dock_mv, now, policy)
        or charges(ignition.battery_mv, now, policy)
        or charges(ignition.alternator_mv, now, policy)
    )


def charges(voltage: Reading[int] | None, now: BootNs, policy: IgnitionPolicy) -> bool:
    return (
        voltage is not None
        and voltage.value >= policy.charging_mv
        and now < voltage.at + policy.voltage_fresh_ms * MS
    )


def says_on(ignition: Ignition, now: BootNs, policy: IgnitionPolicy) -> bool:
    """Whether any fresh source says ON; a wire found stuck, and an accessory feed, do not count."""
    stuck = ignition.conflict == WIRE_STUCK
    return (
        (wire_word(ignition, now, policy) is WireWord.ON and not stuck)
        or key_word(ignition, now, policy) in (KeyWord.ON, KeyWord.START)
        or engine_word(ignition, now, policy) in (EngineWord.CRANKING, EngineWord.TURNING)
    )
