"""Every record kind of the project. To add one, declare it here; docs/data-inventory.md follows."""

from __future__ import annotations

from agent.core.records import Field, PersonalData, RecordKind, Stream

NONE, DEVICE, CONDUCT = PersonalData.NONE, PersonalData.DEVICE, PersonalData.CONDUCT

# Retention at the depot. Alarm and audit: a year, so that a complaint about an incident can be answered;
# state: a quarter, for fault finding; telemetry: a month. Set by us; a force's own schedule overrides it.
YEAR, QUARTER, MONTH = 366, 92, 31


def _text(name: str, meaning: str, personal: PersonalData = NONE, *, optional: bool = False) -> Field:
    return Field(name, str, "", "exact", personal, meaning, optional)


def _count(
    name: str, meaning: str, unit: str = "1", precision: str = "1", *, optional: bool = False
) -> Field:
    return Field(name, int, unit, precision, NONE, meaning, optional)


def _flag(name: str, meaning: str, personal: PersonalData = NONE, *, optional: bool = False) -> Field:
    return Field(name, bool, "", "exact", personal, meaning, optional)


_DECISION = (
    _text("verdict", "the state after the change"),
    _text("before", "the state before the change"),
    _text("rule", "identifier of the rule that decided"),
    _text("because", "the rule in words"),
    _text("evidence", "what the rule looked at, with ages, as JSON"),
)

ENFORCEMENT_CHANGED = RecordKind(
    "enforcement.changed", Stream.ALARM, 1,
    "Show when the tablet was usable and why not: evidence in an incident or a complaint.", YEAR,
    (
        _count("decision", "running number of the change of enforcement"),
        _text("posture", "locked or usable", CONDUCT),
        _text("basis", "what a loosening rests on: proof, hint, grant or override; empty for a lock"),
        *_DECISION,
    ),
)  # fmt: skip

LOCK_OUTCOME = RecordKind(
    "enforcement.outcome", Stream.ALARM, 1,
    "Show that a lock took, or that it did not.", YEAR,
    (
        _count("decision", "the change of enforcement that it belongs to"),
        _text("action", "the enforcement action"),
        _flag("ok", "verified by reading back"),
        _count("took_us", "from the decision to the verified lock", "us", "1"),
        _text("detail", "what went wrong, in words"),
    ),
)  # fmt: skip

LOCK_RECOVERED = RecordKind(
    "enforcement.recovered", Stream.ALARM, 1,
    "Record a lock that a crash kept from being recorded when it was made.", YEAR,
    (_count("decision", "running number of the change of enforcement"), _text("rule", "why it locked")),
)  # fmt: skip

RECORD_RECOVERED = RecordKind(
    "record.recovered", Stream.ALARM, 1,
    "Record a change that took effect while the store could not take its record, after a crash in between.",
    YEAR,
    (
        _text("kind", "the kind that the record was to have"),
        _text("boot_id", "the kernel's boot id at that time", DEVICE),
        _count("boot_ms", "boot time of the change", "ms"),
        _text("values", "its fields, as JSON", CONDUCT),
    ),
)  # fmt: skip

USED_WHILE_LOCKED = RecordKind(
    "enforcement.defied", Stream.ALARM, 1,
    "A session was used although the tablet is to be locked.", YEAR,
    (_text("detail", "what was seen", CONDUCT),),
)  # fmt: skip

GUARD_CHANGED = RecordKind(
    "guard.changed", Stream.ALARM, 1,
    "Show when nobody would have locked the tablet, had the agent died.", YEAR,
    (_flag("present", "the guard is there and listens"), _text("detail", "what was seen")),
)  # fmt: skip

TETHER_CHANGED = RecordKind(
    "tether.changed", Stream.STATE, 1,
    "Follow the tether for fault finding: which dock link fails, how often, and why.", QUARTER,
    (*_DECISION, _text("dock", "configured name of the dock", DEVICE, optional=True)),
)  # fmt: skip

FOREIGN_DOCK = RecordKind(
    "tether.foreign", Stream.ALARM, 1,
    "A dock answered that is provably not the paired one: theft, or a swap without pairing.", YEAR,
    (_text("dock", "configured name of the dock", DEVICE), _text("reason", "how it was proved")),
)  # fmt: skip

LINK_VERSION = RecordKind(
    "dock.version", Stream.ALARM, 1,
    "A device on a dock's line speaks another version of the link: a downgrade, or old firmware.",
    YEAR, (_text("dock", "configured name of the dock", DEVICE),),
)  # fmt: skip

TETHER_CONFLICT = RecordKind(
    "tether.conflict", Stream.STATE, 1,
    "Find a seat switch, a wire or a relay that contradicts what the paired dock proves.", QUARTER,
    (
        _text("source", "configured name of the source without a key", DEVICE),
        _text("kind", "lines, usb or switch"),
        _flag("begins", "the contradiction has lasted long enough to be reported; false: it is over"),
        _text("detail", "what contradicts what, in words"),
    ),
)  # fmt: skip

IGNITION_CHANGED = RecordKind(
    "ignition.changed", Stream.STATE, 1,
    "Explain sleep, wake and shutdown afterwards; find wiring faults.", QUARTER,
    (
        *_DECISION,
        _text("grade", "confirmed, single or inferred"),
        _text("conflicts", "contradictions, as JSON"),
    ),
)  # fmt: skip

POWER_CHANGED = RecordKind(
    "power.changed", Stream.STATE, 1,
    "Explain run-on, shedding and shutdown; show that the tablet did not drain the vehicle.", QUARTER,
    (*_DECISION, _count("vehicle_mv", "vehicle supply, filtered", "mV", optional=True)),
)  # fmt: skip

SHUTDOWN = RecordKind(
    "power.shutdown", Stream.ALARM, 1,
    "Show why and when the tablet was shut down or suspended.", YEAR,
    (
        _text("verb", "suspend or power_off"),
        _text("rule", "identifier of the rule that decided"),
        _text("because", "the rule in words"),
        _text("evidence", "what the rule looked at, with ages, as JSON"),
    ),
)  # fmt: skip

WOKE = RecordKind(
    "power.woke", Stream.STATE, 1,
    "Find what wakes a parked tablet, and what that costs the vehicle.", QUARTER,
    (
        _text("reason", "interrupt and wake-up sources, as the kernel tells them", DEVICE),
        _count("slept_s", "time asleep", "s"),
    ),
)  # fmt: skip

POWER_SAMPLE = RecordKind(
    "power.sample", Stream.TELEMETRY, 1,
    "Find weak batteries, bad cables and docks before they fail in service.", MONTH,
    (
        _count("vehicle_mv", "vehicle supply", "mV", "1", optional=True),
        _count("dock_mv", "dock supply", "mV", "1", optional=True),
        _count("tablet_ma", "tablet current, negative when it feeds back", "mA", "1", optional=True),
        _count("board_dc", "dock board temperature", "0.1 degC", "1", optional=True),
        _count("tablet_percent", "tablet battery", "%", "1", optional=True),
        _count("engine_rpm", "engine speed, rounded to 50", "rpm", "50", optional=True),
    ),
)  # fmt: skip

AVAILABILITY = RecordKind(
    "availability.day", Stream.STATE, 1,
    "Measure what officers wait for and what keeps the tablet from them. Sums over a day at most; those of "
    "several records add up.", QUARTER,
    (
        _count("period_s", "boot time that it covers", "s"),
        _count("shifts", "times that the ignition was switched on"),
        _count("shift_s", "time with the ignition on", "s"),
        _count("usable_s", "of that with the tablet usable", "s"),
        _count("first_uses", "shifts in which it became usable"),
        _count("first_use_ms", "from ignition on to usable, their sum", "ms"),
        _count("first_use_max_ms", "and the longest", "ms"),
        _count("unused", "shifts that ended before it was usable"),
        _text("causes", "seconds not usable by cause, as JSON"),
    ),
)  # fmt: skip

AGENT_STARTED = RecordKind(
    "agent.started", Stream.AUDIT, 1,
    "Account for every time the agent was not running.", YEAR,
    (
        _text("version", "version of the agent"),
        _text("config", "first 16 hex digits of the configuration's SHA-256"),
        _text("boot_id", "the kernel's boot id", DEVICE),
    ),
)  # fmt: skip

AGENT_STOPPED = RecordKind(
    "agent.stopped", Stream.AUDIT, 1,
    "Tell an orderly stop from a crash.", YEAR,
    (_text("reason", "signal, shutdown or error"),),
)  # fmt: skip

CONFIG_REFUSED = RecordKind(
    "config.refused", Stream.AUDIT, 1,
    "Show that a new configuration was refused and the last good one stayed in force.", YEAR,
    (_text("problem", "what was wrong, where, and what was expected"),),
)  # fmt: skip

CONFIG_APPLIED = RecordKind(
    "config.applied", Stream.AUDIT, 1,
    "Show which configuration was in force.", YEAR,
    (_text("config", "first 16 hex digits of the configuration's SHA-256"),),
)  # fmt: skip

QUEUE_SHED = RecordKind(
    "queue.shed", Stream.ALARM, 1,
    "Records were dropped before the fleet had them: which, and why.", YEAR,
    (
        _text("stream", "the stream that lost them"),
        _count("first_seq", "first sequence number dropped"),
        _count("last_seq", "last sequence number dropped"),
        _text("reason", "quota: its room was used up; thinned: of older samples every second stretch; age"),
    ),
)  # fmt: skip

QUEUE_DAMAGED = RecordKind(
    "queue.damaged", Stream.ALARM, 1,
    "The queue's file was damaged: what was saved of each stream, and exactly what was not.", YEAR,
    (
        _text("stream", "the stream"),
        _count("acked", "last sequence number that the depot had acknowledged, as far as the file says"),
        _count("saved", "records after it that were saved"),
        _count("lost", "records after it that were not, up to the last one of which a trace was found"),
        _count("first_lost", "first sequence number of those; 0 for none"),
        _count("last_lost", "last sequence number of those; 0 for none"),
        _count("upto", "last sequence number of which a trace was found; numbers go on after it"),
        _text("kept_as", "name of the damaged file, which stays"),
        _text("epoch", "epoch of the damaged file; empty when it is not known", DEVICE),
    ),
)  # fmt: skip

QUEUE_STALLED = RecordKind(
    "queue.stalled", Stream.ALARM, 1,
    "The disk did not answer: records waited in memory, and a power cut would have cost them.", YEAR,
    (_count("lasted_ms", "how long it took in the end", "ms"),),
)  # fmt: skip

SYNC_TROUBLE = RecordKind(
    "sync.trouble", Stream.ALARM, 1,
    "The way to the fleet needs a person: a foreign chain, refused or unanswered batches.", YEAR,
    (
        _text("stream", "the stream concerned"),
        _text("trouble", "what kind of trouble"),
        _text("detail", "what was seen"),
    ),
)  # fmt: skip

LOCAL_ACCESS = RecordKind(
    "access.local", Stream.AUDIT, 1,
    "Log of consultation (DPA 2018 s62): who read records on the tablet, and when.", YEAR,
    (
        _count("uid", "numeric user of the peer, from the kernel"),
        _text("verb", "what was asked", CONDUCT),
        _text("reason", "given by the user, if any", CONDUCT, optional=True),
    ),
)  # fmt: skip

_PAIRING = (
    _text("dock", "name of the dock on this tablet", DEVICE),
    _text("serial", "serial of the dock", DEVICE),
    _text("vehicle_id", "vehicle that the dock was commissioned with", DEVICE),
)

DOCK_PAIRED = RecordKind(
    "dock.paired", Stream.AUDIT, 1,
    "Show which docks this tablet trusts, since when, and who bound them: a swap is told from a theft.", YEAR,
    (
        *_PAIRING,
        _text("model", "what the dock says it is"),
        _text("way", "new key, given key, provisioned, resumed or recovered"),
        _count("version", "version of the link that was agreed"),
        _count("uid", "numeric user of the peer, from the kernel; -1 for the agent itself"),
    ),
)  # fmt: skip

DOCK_UNPAIRED = RecordKind(
    "dock.unpaired", Stream.AUDIT, 1,
    "Show when this tablet stopped trusting a dock, and whether the dock forgot its key too.", YEAR,
    (
        *_PAIRING,
        _text("way", "dock: the dock forgot its key; forgotten: on the tablet only"),
        _count("uid", "numeric user of the peer, from the kernel"),
    ),
)  # fmt: skip

DOCK_TESTED = RecordKind(
    "dock.tested", Stream.AUDIT, 1,
    "Show that an installation was tested, and what was found.", YEAR,
    (
        _text("dock", "name of the dock on this tablet", DEVICE),
        _text("serial", "serial of the dock", DEVICE),
        _flag("ok", "everything that was tested did what it should"),
        _text("failed", "what did not, in words"),
        _text("left_out", "what was not tested, and why"),
        _count("round_trip_us", "middle time from a command to its answer", "us", "1", optional=True),
        _count("uid", "numeric user of the peer, from the kernel"),
    ),
)  # fmt: skip

CALIBRATED = RecordKind(
    "vehicle.calibrated", Stream.AUDIT, 1,
    "Show by what the dock's voltage is corrected, since when, and who measured it.", YEAR,
    (
        _text("dock", "name of the dock on this tablet", DEVICE),
        _text("step", "rest, load or undo"),
        _count("offset_mv", "added to the dock's voltage", "mV"),
        _count("cable_mohm", "resistance of the cable, whose drop is added", "mOhm"),
        _count("offset_before_mv", "what it was", "mV"),
        _count("cable_before_mohm", "what it was", "mOhm"),
        _count("dock_mv", "what the dock measured", "mV"),
        _count("tablet_ma", "the tablet's current", "mA", optional=True),
        _count("meter_mv", "what the installer's meter said", "mV", optional=True),
        _count("uid", "numeric user of the peer, from the kernel"),
    ),
)  # fmt: skip

CAN_RECORDING = RecordKind(
    "can.recording", Stream.AUDIT, 1,
    "Account for every recording of a vehicle's bus, which can tell where a person drove and how.", YEAR,
    (
        _text("bus", "configured name of the bus"),
        _text("scope", "profile: the frames that the agent listens for; all: every frame"),
        _count("seconds", "how long it may last", "s"),
        _count("size", "how large it may become", "B"),
        _count("uid", "numeric user of the peer, from the kernel"),
    ),
)  # fmt: skip

CAN_RECORDED = RecordKind(
    "can.recorded", Stream.AUDIT, 1,
    "Show what became of a recording of a vehicle's bus; without it the recording was broken off.", YEAR,
    (
        _text("bus", "configured name of the bus"),
        _count("frames", "frames that it holds"),
        _count("size", "its length", "B"),
        _count("dropped", "frames that were lost while it was made"),
        _count("uid", "numeric user of the peer, from the kernel"),
    ),
)  # fmt: skip

# --- use without proof ---

GRANT_CHANGED = RecordKind(
    "grant.changed", Stream.ALARM, 1,
    "Account for every use without the dock by leave: who gave it, for how long, and how it ended.", YEAR,
    (
        _text("verdict", "the grant after the change: permit, code, override or none", CONDUCT),
        _text("before", "the grant before the change"),
        _text("rule", "identifier of the rule that decided"),
        _text("because", "the rule in words"),
        _text("evidence", "what is left of each grant, as JSON"),
        _text("id", "id of the permit", optional=True),
        _count("number", "number of the permit", optional=True),
        _text("scope", "undocked, or any: in a foreign dock as well", optional=True),
        _count("left_s", "time that is left of it, without the open slice", "s", optional=True),
    ),
)  # fmt: skip

OVERRIDE_TAKEN = RecordKind(
    "grant.override", Stream.ALARM, 1,
    "Somebody took the safety override: to be looked at by a supervisor, every time.", YEAR,
    (
        _count("uid", "numeric user of the session that took it"),
        _count("length_s", "how long it lasts", "s"),
        _count("left", "overrides that are left"),
    ),
)  # fmt: skip

GRANT_REFUSED = RecordKind(
    "grant.refused", Stream.ALARM, 1,
    "Show attempts to get leave that failed: altered or used permits, wrong codes, too many overrides.", YEAR,
    (
        _text("rule", "identifier of the rule that decided"),
        _text("because", "the rule in words", CONDUCT),
        _count("before", "refusals since the last such record, that have none of their own"),
    ),
)  # fmt: skip

CODE_REQUESTED = RecordKind(
    "grant.challenge", Stream.AUDIT, 1,
    "A short code was asked for: to be compared with the control room's own log.", YEAR,
    (
        _text("challenge", "what the screen showed"),
        _text("scope", "undocked, or any: in a foreign dock as well"),
        _count("minutes", "powered time that was asked for", "min"),
        _count("before", "challenges since the last such record, that have none of their own"),
    ),
)  # fmt: skip

CONTRACTOR_USED = RecordKind(
    "contractor.used", Stream.AUDIT, 1,
    "Show what was done on this tablet under a contractor's token, each time.", YEAR,
    (
        _text("token", "id of the token"),
        _count("number", "number of the token"),
        _text("contractor", "to whom the token was given", CONDUCT),
        _text("action", "pair, unpair or test"),
        _count("left_s", "powered time that the token has left", "s"),
        _count("uid", "numeric user of the peer, from the kernel"),
    ),
)  # fmt: skip

CONTRACTOR_REFUSED = RecordKind(
    "contractor.refused", Stream.AUDIT, 1,
    "Show attempts on docks without right: no token, a bad one, or one that is used up.", YEAR,
    (
        _text("action", "pair, unpair or test"),
        _text("why", "what was wrong"),
        _count("before", "refusals since the last record that have none of their own"),
        _count("uid", "numeric user of the peer, from the kernel"),
    ),
)  # fmt: skip

# --- orders of the control room ---

COMMAND_TAKEN = RecordKind(
    "command.taken", Stream.AUDIT, 1,
    "Show what the control room had a tablet do, and that it came once; on disk before anything is loosened.",
    YEAR,
    (
        _text("id", "id of the command"),
        _count("number", "number of the command; each is greater than all before"),
        _text("verb", "what is to be done"),
        _text("level", "the log level, if that is what it is about"),
    ),
)  # fmt: skip

COMMAND_ANSWERED = RecordKind(
    "command.answered", Stream.AUDIT, 1,
    "Answer a command: what became of it.", YEAR,
    (
        _text("id", "id of the command"),
        _text("verb", "what was to be done"),
        _flag("done", "it was done"),
        _text("detail", "what came of it, or why it was not done", CONDUCT),
    ),
)  # fmt: skip

ORDER_REFUSED = RecordKind(
    "order.refused", Stream.AUDIT, 1,
    "Show orders that were not obeyed: forged, for another tablet or boot, too late, out of order.", YEAR,
    (
        _text("what", "command, desired or fleet-key"),
        _text("reason", "stable word for what was wrong"),
        _text("detail", "the same in words"),
        _count("before", "refusals since the last such record, that have none of their own"),
    ),
)  # fmt: skip

DIAGNOSTICS = RecordKind(
    "diagnostics.bundle", Stream.STATE, 1,
    "Let a fault be looked into from afar, when the control room asks for it by a command.", MONTH,
    (
        _text("id", "id of the command"),
        _text("status", "what `ivmactl status` and `queue` show, as JSON", CONDUCT),
    ),
)  # fmt: skip

CONFIG_DESIRED = RecordKind(
    "config.desired", Stream.AUDIT, 1,
    "Show what became of a configuration that the fleet wanted; told anew by each start.", YEAR,
    (
        _count("generation", "its generation"),
        _text("state", "trial, confirmed, rolled_back or refused"),
        _text("config", "first 16 hex digits of the SHA-256 of the configuration in force"),
        _text("detail", "why"),
    ),
)  # fmt: skip

FLEET_KEY_CHANGED = RecordKind(
    "sealing.changed", Stream.AUDIT, 1,
    "Show from when on records are sealed to another key of the fleet.", YEAR,
    (
        _count("generation", "generation of the key"),
        _text("key", "first 16 hex digits of its SHA-256"),
    ),
)  # fmt: skip

CATALOGUE: dict[str, RecordKind] = {
    kind.name: kind for kind in list(globals().values()) if isinstance(kind, RecordKind)
}
