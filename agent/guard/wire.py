"""What agent and guard say to each other: text, one message a datagram of a SOCK_SEQPACKET socket.

agent:  lease DECISION UNTIL EVIDENCE_AT       times in boot ns
        end DECISION BECAUSE...
guard:  hello 1 lease DECISION UNTIL EVIDENCE_AT
        hello 1 locked DECISION RULE           the lease of DECISION ran out, and nobody has taken note
        hello 1 nothing
        locked DECISION RULE
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.core.basics import BootNs, Lease

VERSION = "1"
MESSAGE_MAX = 1024  # bytes; ours
NUMBER_MAX = 1 << 63


class RemoteProtocolError(ValueError):
    """The other end said what is no message; the text says what came."""


@dataclass(frozen=True, slots=True)
class End:
    decision: int
    because: str


@dataclass(frozen=True, slots=True)
class Locked:
    """The guard locked: the lease of ``decision`` ran out."""

    decision: int
    rule: str


@dataclass(frozen=True, slots=True)
class Hello:
    """The first word of the guard."""

    lease: Lease | None = None
    locked: Locked | None = None


Message = Lease | End | Locked | Hello


def encode(message: Message) -> bytes:
    """A message as bytes, never longer than ``MESSAGE_MAX``: words are cut."""
    match message:
        case Lease():
            text = f"lease {message.decision} {message.until} {message.evidence_at}"
        case End():
            text = f"end {message.decision} {_words(message.because)}"
        case Locked():
            text = f"locked {message.decision} {_words(message.rule)}"
        case Hello():
            first = message.lease or message.locked
            text = f"hello {VERSION} " + ("nothing" if first is None else encode(first).decode())
    return text.encode(errors="replace")[:MESSAGE_MAX]


def decode(data: bytes) -> Message:
    """Raises RemoteProtocolError."""
    if len(data) > MESSAGE_MAX:
        raise RemoteProtocolError(f"a message of over {MESSAGE_MAX} bytes")
    words = data.decode(errors="replace").split(" ")
    match words:
        case ["lease", decision, until, evidence_at]:
            return Lease(_number(decision), BootNs(_number(until)), BootNs(_number(evidence_at)))
        case ["end", decision, *because]:
            return End(_number(decision), " ".join(because))
        case ["locked", decision, *rule]:
            return Locked(_number(decision), " ".join(rule))
        case ["hello", version, *rest] if version == VERSION:
            return _hello(" ".join(rest).encode())
        case _:
            raise RemoteProtocolError(f"expected a message of version {VERSION}, came {data[:80]!r}")


def _hello(rest: bytes) -> Hello:
    if rest == b"nothing":
        return Hello()
    match decode(rest):
        case Lease() as lease:
            return Hello(lease=lease)
        case Locked() as locked:
            return Hello(locked=locked)
        case _:
            raise RemoteProtocolError(f"expected a lease or a lock after hello, came {rest[:80]!r}")


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 19) or int(text) >= NUMBER_MAX:
        raise RemoteProtocolError(f"expected a number below 2^63, came {text[:40]!r}")
    return int(text)


def _words(text: str) -> str:
    """One line that others may print: no control characters, and short."""
    return "".join(char if char.isprintable() else " " for char in text[:200])
