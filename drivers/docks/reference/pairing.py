"""Giving a reference dock its key, and taking it back. Tablet side, sans-IO; docs/dock-link.md, "Pairing".

PAIR goes in clear, and its answer can be forged by whoever sits on the wire: only the proof that is asked for
after it says that this dock holds this key.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from agent.core.types import MS, BootNs, Counters, DockIdent, DriveOutputs, LinkLoss, Observation, PairAnswer
from drivers.docks.reference.auth import (
    KEY_SIZE,
    NONCE_SIZE,
    Direction,
    Session,
    proof_mac,
    same,
    session_key,
)
from drivers.docks.reference.codec import (
    SERIAL_SIZE,
    VEHICLE_ID_SIZE,
    VERSION,
    Ack,
    Challenge,
    Decoder,
    Dropped,
    Frame,
    Hello,
    Ident,
    Message,
    Nak,
    NakReason,
    Pair,
    Proof,
    Unpair,
    encode,
    padded,
)
from drivers.docks.reference.meaning import dock_ident
from drivers.docks.reference.prover import PACE_NS
from drivers.spec import Entropy, Told

NAME = "pairing"  # in logs and in the black box; no configured dock is meant
AGAIN_NS = 200 * MS  # between two sendings of a command, the longest of docs/dock-link.md
TRIES = 5  # of a command; docs/dock-link.md
CHALLENGES = 3  # of a proof, one a second; as many as make a dock FOREIGN (docs/dock-link.md)


@dataclass(slots=True)
class _Question:
    message: Message
    sequence: int
    due: BootNs  # when it is sent next, or given up
    left: int  # sendings


@dataclass(slots=True)
class _Claim:
    """What a proof is to show."""

    key: bytes = field(repr=False)
    serial: bytes
    vehicle_id: bytes
    bad: bool = False  # a PROOF came that does not


class ReferencePairing:
    """Implements ``drivers.spec.PairingSession``."""

    def __init__(self, entropy: Entropy, told: Told) -> None:
        self._entropy = entropy
        self._told = told
        self._decoder = Decoder()
        self._counts: Counter[str] = Counter()
        self._out = bytearray()
        self._sequence = entropy(1)[0]
        self._up = False
        self._question: _Question | None = None
        self._claim: _Claim | None = None
        self._session: Session | None = None  # what the last good proof opened

    @property
    def name(self) -> str:
        return NAME

    # --- questions ---

    def ask_ident(self, at: BootNs) -> None:
        self._ask(Hello(VERSION, VERSION, self._entropy(8)), at, TRIES)

    def ask_proof(self, key: bytes, serial: str, vehicle_id: str, at: BootNs) -> None:
        if len(key) != KEY_SIZE:
            raise ValueError(f"a pairing key has {KEY_SIZE} bytes, not {len(key)}")
        self._session = None
        self._claim = _Claim(key, padded(serial, SERIAL_SIZE), padded(vehicle_id, VEHICLE_ID_SIZE))
        self._ask(Challenge(bytes(NONCE_SIZE)), at, CHALLENGES)  # its nonce is drawn when it is sent

    def ask_pair(self, key: bytes, vehicle_id: str, at: BootNs) -> None:
        self._session = None
        self._ask(Pair(key, padded(vehicle_id, VEHICLE_ID_SIZE)), at, TRIES)

    def ask_unpair(self, at: BootNs) -> None:
        if self._session is None:
            raise ValueError("a dock forgets its key only in a session: ask for its proof first")
        self._ask(Unpair(), at, TRIES)

    def _ask(self, message: Message, at: BootNs, tries: int) -> None:
        self._question = _Question(message, self._next_sequence(), at, tries)

    def _answer(self, answer: PairAnswer | DockIdent) -> None:
        self._question = self._claim = None
        self._told(answer)

    # --- the wire ---

    def link_up(self, at: BootNs) -> list[Observation]:
        self._up = True
        self._decoder = Decoder()
        self._out.clear()
        return []

    def link_lost(self, at: BootNs, reason: LinkLoss) -> list[Observation]:
        self._up, self._session = False, None
        self._out.clear()
        return []

    def outgoing(self) -> bytes:
        data = bytes(self._out)
        self._out.clear()
        return data

    def counters(self) -> Counters:
        return Counters(dict(self._counts))

    # --- time ---

    def next_deadline(self) -> BootNs | None:
        return None if self._question is None else self._question.due

    def timer(self, at: BootNs) -> list[Observation]:
        question = self._question
        if question is None or at < question.due:
            return []
        if not question.left:
            bad = self._claim is not None and self._claim.bad
            self._answer(PairAnswer.OTHER_KEY if bad else PairAnswer.SILENT)
            return []
        question.left -= 1
        question.due = BootNs(at + (PACE_NS if self._claim is not None else AGAIN_NS))
        if self._up:
            self._send(question)
        return []

    def _send(self, question: _Question) -> None:
        message = question.message
        if isinstance(message, Challenge):
            # Never the same challenge again: only the answer to the newest counts.
            question.message = message = Challenge(self._entropy(NONCE_SIZE))
            question.sequence = self._next_sequence()
        if isinstance(message, Unpair) and self._session is not None:
            self._out += self._session.packet(message, question.sequence, ack_wanted=True)
        elif not isinstance(message, Unpair):
            wanted = isinstance(message, Pair)
            self._out += encode(Frame(message, question.sequence, wanted))

    def _next_sequence(self) -> int:
        sequence, self._sequence = self._sequence, (self._sequence + 1) % 256
        return sequence

    # --- answers ---

    def feed(self, data: bytes, at: BootNs) -> list[Observation]:
        for item in self._decoder.feed(data):
            if isinstance(item, Dropped):
                self._counts[item.reason.value] += 1
            elif self._question is not None:
                self._receive(item, self._question, at)
        return []

    def _receive(self, frame: Frame, question: _Question, at: BootNs) -> None:
        match question.message, frame.message:
            case Hello(), Ident() as ident:
                self._answer(dock_ident(NAME, at, ident))
            case Challenge(nonce), Proof() as proof:
                self._judge(nonce, proof)
            case Challenge(), Nak(question.sequence, NakReason.REFUSED) if frame.trailer is None:
                self._answer(PairAnswer.UNPAIRED)
            case Pair(), Ack(question.sequence) if frame.trailer is None:
                self._answer(PairAnswer.DONE)
            case Pair(), Nak(question.sequence, NakReason.REFUSED | NakReason.NOT_AUTHENTICATED):
                self._answer(PairAnswer.REFUSED)
            case Unpair(), Ack(question.sequence) if self._ours(frame):
                self._answer(PairAnswer.DONE)
            case Unpair(), Nak(question.sequence) if self._ours(frame):
                self._answer(PairAnswer.REFUSED)
            case _:
                self._counts["unmatched"] += 1

    def _ours(self, frame: Frame) -> bool:
        return self._session is not None and frame.trailer is not None and self._session.check(frame) is None

    def _judge(self, nonce: bytes, proof: Proof) -> None:
        claim = self._claim
        if claim is None:
            return
        mac = proof_mac(
            claim.key, nonce, proof.dock_nonce, claim.serial, claim.vehicle_id, proof.status_counter
        )
        if not same(mac, proof.mac):
            # Perhaps the late answer to another's challenge: the next one decides.
            claim.bad = True
            self._counts["mac"] += 1
            return
        self._session = Session(session_key(claim.key, nonce, proof.dock_nonce), Direction.TO_DOCK)
        self._answer(PairAnswer.DONE)

    # --- what a pairing leaves alone ---

    def drive(self, wanted: DriveOutputs, at: BootNs) -> None:
        """Outputs stay as they are."""

    def cut_power(self, seconds: int | None, at: BootNs) -> None:
        """The supply stays as it is."""

    def prove(self, at: BootNs) -> None:
        """Nothing is proved to the core from here."""
