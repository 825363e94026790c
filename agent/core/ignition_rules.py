"""The rules of ignition as data: what each source may say, and the verdict for every combination.

The first row of ``RULES`` that fits decides; the last one fits everything, so the table is total.
Weights and agreement say how far evidence supports a verdict. Sources: 2-behaviour, but for the weights,
which are ours: wire outranks CAN outranks engine speed outranks voltage.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from agent.core.state import IgnitionState

UNKNOWN, OFF, ACCESSORY = IgnitionState.UNKNOWN, IgnitionState.OFF, IgnitionState.ACCESSORY
ON, CRANKING, RUNNING = IgnitionState.ON, IgnitionState.CRANKING, IgnitionState.RUNNING


class WireWord(enum.Enum):
    NONE = "nothing"
    OFF = "KL15 off"
    ON = "KL15 on"
    FEED_OFF = "accessory feed off"
    FEED_ON = "accessory feed on"


class KeyWord(enum.Enum):
    NONE = "nothing"
    OFF = "off"
    ACCESSORY = "accessory"
    ON = "on"
    START = "start"


class EngineWord(enum.Enum):
    NONE = "nothing"
    STILL = "still"  # never "off": stop-start, coasting hybrids, electric vehicles
    CRANKING = "cranking speed"
    TURNING = "running"  # or an electric vehicle that is ready


class When(enum.Enum):
    """A circumstance that a row needs besides the words."""

    ALWAYS = "always"
    LOST_IN_CRANK = "wire lost within a crank window"
    STUCK = "no rotation and no charging for long"
    SAID_OFF = "CAN said off while the wire said on, then fell silent"


class Delay(enum.Enum):
    """How long a verdict must stand before it counts; lengths are policy."""

    NONE = "none"
    ON = "on debounce"
    OFF = "off debounce"
    SETTLE = "settling time"


@dataclass(frozen=True, slots=True)
class Rule:
    """One row. Empty word sets fit anything; ``verdict`` None holds the one that stands."""

    rule: str
    because: str
    verdict: IgnitionState | None
    delay: Delay
    wire: frozenset[WireWord] = frozenset()
    key: frozenset[KeyWord] = frozenset()
    engine: frozenset[EngineWord] = frozenset()
    when: When = When.ALWAYS
    conflict: str = ""

    def fits(self, wire: WireWord, key: KeyWord, engine: EngineWord, when: frozenset[When]) -> bool:
        return (
            (not self.wire or wire in self.wire)
            and (not self.key or key in self.key)
            and (not self.engine or engine in self.engine)
            and (self.when is When.ALWAYS or self.when in when)
        )


def _wire(*words: WireWord) -> frozenset[WireWord]:
    return frozenset(words)


def _key(*words: KeyWord) -> frozenset[KeyWord]:
    return frozenset(words)


WIRE_STUCK = "wire stuck on"
W, K, E = WireWord, KeyWord, EngineWord
QUIET = frozenset({E.NONE, E.STILL})
ROTATES = frozenset({E.CRANKING, E.TURNING})

RULES = (
    Rule(
        "ignition.hold_in_crank", "the wire was lost within a crank window: the verdict holds",
        None, Delay.NONE, _wire(W.NONE), _key(K.NONE, K.OFF, K.ACCESSORY, K.ON), QUIET,
        When.LOST_IN_CRANK,
    ),
    Rule(
        "ignition.hold_in_crank", "the wire was lost within a crank window: the verdict holds",
        None, Delay.NONE, _wire(W.NONE), _key(K.OFF, K.ACCESSORY), ROTATES, When.LOST_IN_CRANK,
    ),
    Rule(
        "ignition.wire_stuck",
        "the wire says on, but CAN says off and nothing turned or charged for long: planned as off",
        OFF, Delay.NONE, _wire(W.ON), _key(K.OFF), QUIET, When.STUCK, WIRE_STUCK,
    ),
    Rule(
        "ignition.wire_fault", "the engine turns although the wire says off", RUNNING, Delay.SETTLE,
        _wire(W.OFF, W.FEED_OFF), frozenset(), ROTATES, conflict="wire says off while the engine turns",
    ),
    Rule(
        "ignition.running", "the engine turns, or the electric vehicle is ready", RUNNING, Delay.ON,
        _wire(W.ON, W.FEED_ON, W.NONE), _key(K.ON, K.START, K.NONE), frozenset({E.TURNING}),
    ),
    Rule(
        "ignition.cranking", "the starter is asked for", CRANKING, Delay.NONE,
        _wire(W.ON, W.FEED_ON, W.NONE), _key(K.START),
    ),
    Rule(
        "ignition.cranking_speed", "the engine turns slower than it runs", CRANKING, Delay.NONE,
        _wire(W.ON, W.FEED_ON, W.NONE), _key(K.ON, K.NONE), frozenset({E.CRANKING}),
    ),
    Rule(
        "ignition.silent_after_off", "the wire says on, and CAN said off before it fell silent",
        UNKNOWN, Delay.SETTLE, _wire(W.ON), _key(K.NONE), QUIET, When.SAID_OFF,
        "wire says on, CAN said off and fell silent",
    ),
    Rule(
        "ignition.wire_on", "the KL15 wire is on", ON, Delay.ON,
        _wire(W.ON), _key(K.ON, K.NONE), QUIET,
    ),
    Rule(
        "ignition.can_on", "CAN reports the ignition on", ON, Delay.ON,
        _wire(W.FEED_ON, W.NONE), _key(K.ON), QUIET,
    ),
    Rule(
        "ignition.accessory_feed", "the accessory feed is on, which does not prove ignition on",
        ACCESSORY, Delay.OFF, _wire(W.FEED_ON), _key(K.ACCESSORY, K.NONE), QUIET,
    ),
    Rule(
        "ignition.can_accessory", "CAN reports the accessory position", ACCESSORY, Delay.OFF,
        _wire(W.OFF, W.NONE), _key(K.ACCESSORY), QUIET,
    ),
    Rule(
        "ignition.wire_off", "the wire is off", OFF, Delay.OFF,
        _wire(W.OFF, W.FEED_OFF), _key(K.OFF, K.NONE), QUIET,
    ),
    Rule(
        "ignition.can_off", "CAN reports the ignition off", OFF, Delay.OFF, _wire(W.NONE), _key(K.OFF), QUIET,
    ),
    Rule(
        "ignition.no_evidence", "no source that could decide is fresh", UNKNOWN, Delay.NONE,
        _wire(W.NONE), _key(K.NONE), QUIET,
    ),
    Rule(
        "ignition.contradiction", "fresh sources contradict each other", UNKNOWN, Delay.SETTLE,
        conflict="sources contradict each other",
    ),
)  # fmt: skip

Word = WireWord | KeyWord | EngineWord

SUPPORTS: dict[Word, frozenset[IgnitionState]] = {
    W.OFF: frozenset({OFF, ACCESSORY}),
    W.ON: frozenset({ON, CRANKING, RUNNING}),
    W.FEED_OFF: frozenset({OFF}),
    W.FEED_ON: frozenset({ACCESSORY, ON, CRANKING, RUNNING}),
    K.OFF: frozenset({OFF}),
    K.ACCESSORY: frozenset({ACCESSORY}),
    K.ON: frozenset({ON, CRANKING, RUNNING}),
    K.START: frozenset({CRANKING, RUNNING}),
    E.CRANKING: frozenset({CRANKING}),
    E.TURNING: frozenset({RUNNING, ON}),
}
"""Verdicts that a word agrees with; it contradicts every other. Words that are not here are neutral."""

# Percent of doubt that one agreeing source removes (ours).
WIRE_WEIGHT, KEY_WEIGHT, ENGINE_WEIGHT, VOLTAGE_WEIGHT, SILENCE_WEIGHT = 60, 50, 40, 15, 15
STRONG_WEIGHT = 50


def decide(wire: WireWord, key: KeyWord, engine: EngineWord, when: frozenset[When] = frozenset()) -> Rule:
    """The rule for a combination of words."""
    return _CACHE.get((wire, key, engine, when)) or _search(wire, key, engine, when)


def _search(wire: WireWord, key: KeyWord, engine: EngineWord, when: frozenset[When]) -> Rule:
    return next(rule for rule in RULES if rule.fits(wire, key, engine, when))


_CACHE = {
    (wire, key, engine, frozenset[When]()): _search(wire, key, engine, frozenset())
    for wire in WireWord
    for key in KeyWord
    for engine in EngineWord
}
