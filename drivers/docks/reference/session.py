"""The tablet's side of the reference dock link: proof, sessions, leases, commands. Sans-IO, without a clock.

``docs/dock-link.md`` says what each rule is for. Whoever sits on the wire can drop or delay, and nothing
more: only what a verified tag covers is reported as authenticated, and it is as old as the question whose
verified answer came before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from agent.core.types import (
    MS,
    SECOND,
    BootNs,
    CommandOutcome,
    Counters,
    DockCommandDone,
    DockForeign,
    DockLinkLost,
    DockLinkUp,
    DockProof,
    DockVersion,
    DriveOutputs,
    LinkLoss,
    Observation,
)
from drivers.docks.reference.auth import Session
from drivers.docks.reference.codec import (
    CANCEL_POWER_CUT,
    VERSION,
    Ack,
    Decoder,
    Dropped,
    Frame,
    Hello,
    Ident,
    Lease,
    Message,
    Nak,
    Outputs,
    PowerCutIn,
    Proof,
    Reason,
    Status,
    encode,
)
from drivers.docks.reference.courier import Courier, Outstanding
from drivers.docks.reference.meaning import dock_ident, dock_status, outputs
from drivers.docks.reference.prover import Foreign, Proven, Prover, Refusal
from drivers.spec import DockSettings, Entropy

# A LEASE goes out at least every 500 ms (docs/dock-link.md). The margin is ours: a dock that sends STATUS
# only once a second must meet evidence younger than the 1.5 s for which the tether counts it as fresh.
LEASE_PERIOD_NS = 450 * MS
# STATUS comes every 200 ms (docs/dock-link.md). A lease that would fall due before the next one goes out
# with this one, so that an idle agent wakes up for the dock's frames only. The margin is ours.
LEASE_AHEAD_NS = 200 * MS
LEASE_MS = 5000  # the longest that a dock grants; docs/dock-link.md
# Without a verified answer for the longest lease, the dock's dead man has ended the session; ours.
STALE_NS = 5 * SECOND
VERSION_TOLD_NS = 3600 * SECOND  # between reports of another version on the line; ours
HELLO_NONCE_SIZE = 8  # bytes; docs/dock-link.md

# By their own names: to look a member up in its class is slow.
BAD_TAG, BAD_COUNTER, BAD_VERSION = Reason.TAG, Reason.COUNTER, Reason.VERSION
DONE, REFUSED = CommandOutcome.DONE, CommandOutcome.REFUSED
_ANSWERS = (Ack, Nak)
_COMMANDS: dict[type[Message], str] = {Outputs: "outputs", PowerCutIn: "power_cut_in"}


@dataclass(slots=True)
class _Open:
    """A session with the sending time of the latest question that it, or its proof, answered."""

    keys: Session
    evidence_at: BootNs


class ReferenceSession:
    """Implements ``drivers.spec.DockSession``."""

    def __init__(self, settings: DockSettings, entropy: Entropy) -> None:
        if settings.version > VERSION:
            raise ValueError(
                f"dock {settings.name} was paired at version {settings.version} of the link, and this agent "
                f"speaks {VERSION}: a lower one is refused; install a newer agent, or pair the dock again"
            )
        self._settings = settings
        self._entropy = entropy
        self._prover = Prover(settings, entropy)
        self._courier = Courier()
        self._decoder = Decoder()
        self._counts: Counter[str] = Counter()
        self._out = bytearray()
        # Any start will do; one that differs between runs keeps a new agent's first commands from being
        # taken for retransmissions of the last one's.
        self._sequence = entropy(1)[0]
        self._up = False
        self._silent = False  # a command went unanswered; we ask on, once a second
        self._ident: Ident | None = None
        self._current: _Open | None = None
        self._pending: _Open | None = None
        self._leased_at = BootNs(0)
        self._version_told_at: BootNs | None = None

    @property
    def name(self) -> str:
        return self._settings.name

    # --- the wire ---

    def link_up(self, at: BootNs) -> list[Observation]:
        self._up, self._silent, self._ident = True, False, None
        self._decoder = Decoder()
        self._out.clear()
        self._prover.restart()
        self._courier.ask(Hello(self._settings.version, VERSION, self._entropy(HELLO_NONCE_SIZE)), at)
        self._pump(at)
        self._send(Frame(self._prover.challenge(at), self._next_sequence()))
        return [DockLinkUp(at, self.name)]

    def link_lost(self, at: BootNs, reason: LinkLoss) -> list[Observation]:
        out: list[Observation] = [DockLinkLost(at, self.name, reason)]
        self._up = False
        self._current = self._pending = None
        lost = [self._courier.give_up(), *self._courier.forget(Hello, Lease, PowerCutIn, Outputs)]
        self._report_lost(lost, at, out)
        self._out.clear()
        return out

    def feed(self, data: bytes, at: BootNs) -> list[Observation]:
        out: list[Observation] = []
        self._expire(at, out)
        for item in self._decoder.feed(data):
            if isinstance(item, Dropped):
                self._counts[item.reason.value] += 1
                if item.reason is BAD_VERSION:
                    self._tell_version(at, out)
            elif item.to_tablet():
                self._receive(item, at, out)
            else:
                self._counts["misdirected"] += 1
        self._pump(at)
        return out

    def _tell_version(self, at: BootNs, out: list[Observation]) -> None:
        told_at = self._version_told_at
        if told_at is None or at >= told_at + VERSION_TOLD_NS:
            self._version_told_at = at
            out.append(DockVersion(at, self.name))

    def outgoing(self) -> bytes:
        if not self._out:
            return b""
        data = bytes(self._out)
        self._out.clear()
        return data

    def counters(self) -> Counters:
        return Counters({**self._counts, **self._courier.figures()})

    # --- time ---

    def next_deadline(self) -> BootNs | None:
        courier = self._courier
        first = _first(courier.expires_at() if courier.waits else None, self._stale_at())
        if not self._up:
            return first
        first = _first(first, self._prover.due())
        if courier.outstanding is not None:
            first = _first(first, courier.outstanding.again_at)
        return _first(first, self._lease_at())

    def timer(self, at: BootNs) -> list[Observation]:
        out: list[Observation] = []
        self._expire(at, out)
        if self._up:
            self._retry(at, out)
            self._renew_lease(at)
            self._ask_for_proof(at)
            self._pump(at)
        return out

    def _expire(self, at: BootNs, out: list[Observation]) -> None:
        if self._courier.waits:
            self._report_lost(self._courier.expired(at), at, out)
        stale_at = self._stale_at()
        if stale_at is None or at < stale_at:
            return
        self._counts["stale"] += 1
        self._current = self._pending = None
        self._courier.forget(Lease)
        self._report_lost([self._courier.give_up()], at, out)
        self._prover.want()

    def _stale_at(self) -> BootNs | None:
        current, pending = self._current, self._pending
        if current is None or (pending is not None and pending.evidence_at > current.evidence_at):
            current = pending
        return None if current is None else BootNs(current.evidence_at + STALE_NS)

    def _retry(self, at: BootNs, out: list[Observation]) -> None:
        outstanding = self._courier.outstanding
        if outstanding is None or at < outstanding.again_at:
            return
        again = self._courier.retry(at)
        if again is not None:
            self._counts["retransmitted"] += 1
            self._transmit(again)
            return
        self._counts["unanswered"] += 1
        self._report_lost([self._courier.give_up()], at, out)
        self._courier.forget(Lease)
        self._silent = True
        self._prover.want()
        out.append(DockLinkLost(at, self.name, LinkLoss.UNANSWERED))

    def _lease_at(self) -> BootNs | None:
        if (self._current is None and self._pending is None) or self._silent:
            return None
        if self._courier.is_asked(Lease):
            return None
        return BootNs(self._leased_at + LEASE_PERIOD_NS)

    def _renew_lease(self, at: BootNs, ahead_ns: int = 0) -> None:
        lease_at = self._lease_at()
        if lease_at is not None and at + ahead_ns >= lease_at:
            self._courier.ask(Lease(LEASE_MS), at)

    def _ask_for_proof(self, at: BootNs) -> None:
        due = self._prover.due()
        if due is None or at < due:
            return
        if self._silent:
            hello = Hello(self._settings.version, VERSION, self._entropy(HELLO_NONCE_SIZE))
            self._send(Frame(hello, self._next_sequence()))
        self._send(Frame(self._prover.challenge(at), self._next_sequence()))

    # --- what the agent asks for ---

    def drive(self, wanted: DriveOutputs, at: BootNs) -> None:
        command = outputs(wanted)
        if command.mask:
            self._courier.ask(command, at)
            self._pump(at)

    def cut_power(self, seconds: int | None, at: BootNs) -> None:
        if seconds is not None and not 0 <= seconds < CANCEL_POWER_CUT:
            raise ValueError(f"power cut in {seconds} s; expected 0 to {CANCEL_POWER_CUT - 1}")
        self._courier.ask(PowerCutIn(CANCEL_POWER_CUT if seconds is None else seconds), at)
        self._pump(at)

    def prove(self, at: BootNs) -> None:
        self._prover.want()
        if self._up:
            self._ask_for_proof(at)

    # --- what the dock says ---

    def _receive(self, frame: Frame, at: BootNs, out: list[Observation]) -> None:
        message = frame.message
        if frame.trailer is not None:  # a decoder lets none of the handshake through with one
            opened = self._authenticate(frame)
            if opened is None:
                return
            # The wire carries again: a LEASE at once, not the next challenge, tells how fresh that is.
            self._answers(at, out)
            if isinstance(message, Status):
                out.append(dock_status(self.name, at, opened.evidence_at, message, authenticated=True))
                self._renew_lease(at, LEASE_AHEAD_NS)
            elif isinstance(message, _ANSWERS):
                self._on_answer(message, opened, at, out)
            else:
                self._counts["unmatched"] += 1  # PONG: we send no PING
        elif isinstance(message, Ident):
            self._on_ident(message, at, out)
        elif isinstance(message, Proof):
            self._on_proof(message, at, out)
        else:
            self._on_hint(message, at, out)

    def _authenticate(self, frame: Frame) -> _Open | None:
        """The session that a frame belongs to. The first frame under a pending one ends the current one."""
        refused = BAD_TAG
        for opened in (self._current, self._pending):
            if opened is None:
                continue
            reason = opened.keys.check(frame)
            if reason is None:
                if opened is self._pending:
                    self._current, self._pending = opened, None
                return opened
            if reason is BAD_COUNTER:
                refused = reason
        self._counts[refused.value] += 1
        return None

    def _on_ident(self, ident: Ident, at: BootNs, out: list[Observation]) -> None:
        self._ident = ident
        self._prover.want()
        hello = self._courier.outstanding
        if hello is not None and hello.under is None:
            self._courier.answered(hello.sequence, None, at)
        self._answers(at, out)
        out.append(dock_ident(self.name, at, ident))

    def _on_proof(self, proof: Proof, at: BootNs, out: list[Observation]) -> None:
        verdict = self._prover.judge(proof, self._ident, in_session=self._sealing() is not None)
        match verdict:
            case Refusal():
                self._counts[verdict.value] += 1
            case Foreign(reason, asked_at):
                self._counts["foreign"] += 1
                out.append(DockForeign(at, self.name, reason, asked_at))
            case Proven(keys, asked_at):
                self._pending = _Open(keys, asked_at)
                self._answers(at, out)
                out.append(DockProof(at, self.name, asked_at))
                self._courier.put_back()
                # Under the new key and at once: it tells the dock to drop the old session.
                self._courier.ask(Lease(LEASE_MS), at)
                self._courier.forget(Hello)

    def _on_hint(self, message: Message, at: BootNs, out: list[Observation]) -> None:
        if isinstance(message, Status):
            out.append(dock_status(self.name, at, at, message, authenticated=False))
        else:
            self._counts["untagged"] += 1
        if isinstance(message, Status | Nak):
            self._prover.want()

    def _on_answer(self, answer: Ack | Nak, opened: _Open, at: BootNs, out: list[Observation]) -> None:
        done = self._courier.answered(answer.sequence, opened.keys, at)
        if done is None:
            self._counts["unmatched"] += 1
            return
        self._answers(at, out)
        if isinstance(done.message, Lease) and isinstance(answer, Ack):
            # The first sending: the answer does not say to which try it is. A NAK is no evidence: a dock that
            # tags its NAK to untagged frames would make them in advance, for whoever asks.
            opened.evidence_at = max(opened.evidence_at, done.first_sent)
        outcome = DONE if isinstance(answer, Ack) else REFUSED
        self._report(done.message, outcome, at, out)

    def _answers(self, at: BootNs, out: list[Observation]) -> None:
        """The dock answered: a link that was lost for want of answers is up again."""
        if self._silent:
            self._silent = False
            out.append(DockLinkUp(at, self.name))

    # --- sending ---

    def _sealing(self) -> _Open | None:
        """The session that we send under: the newest."""
        return self._pending or self._current

    def _pump(self, at: BootNs) -> None:
        if not self._up or self._silent or not self._courier.waits:
            return
        opened = self._sealing()
        started = self._courier.start(self._sequence, None if opened is None else opened.keys, at)
        if started is None:
            return
        self._next_sequence()
        if isinstance(started.message, Lease):
            self._leased_at = at
        self._transmit(started)

    def _transmit(self, command: Outstanding) -> None:
        if command.under is None:
            self._send(Frame(command.message, command.sequence))
        else:
            self._out += command.under.packet(command.message, command.sequence, ack_wanted=True)

    def _send(self, frame: Frame) -> None:
        self._out += encode(frame)

    def _next_sequence(self) -> int:
        sequence, self._sequence = self._sequence, (self._sequence + 1) % 256
        return sequence

    def _report_lost(self, messages: Sequence[Message | None], at: BootNs, out: list[Observation]) -> None:
        for message in messages:
            if message is not None:
                self._report(message, CommandOutcome.LOST, at, out)

    def _report(self, message: Message, outcome: CommandOutcome, at: BootNs, out: list[Observation]) -> None:
        command = _COMMANDS.get(type(message))
        if command is not None:
            newest = not self._courier.is_asked(type(message))
            out.append(DockCommandDone(at, self.name, command, outcome, newest))


def _first(one: BootNs | None, other: BootNs | None) -> BootNs | None:
    if one is None or other is None:
        return one if other is None else other
    return one if one <= other else other
