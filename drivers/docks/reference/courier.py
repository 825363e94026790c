"""Commands on their way to the dock: one outstanding, the newest of each type waiting. Sans-IO."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from agent.core.types import MS, SECOND, BootNs
from drivers.docks.reference.auth import Session
from drivers.docks.reference.codec import Hello, Lease, Message, Outputs, PowerCutIn

MIN_RTO_NS, MAX_RTO_NS = 25 * MS, 200 * MS  # docs/dock-link.md
TRIES = 5  # docs/dock-link.md
LATEST = 64  # round trips that figures are of, half a minute of leases; ours
# A wish that could not be sent for so long is lost: a power cut must not happen at the next docking.
# The longest lease of the link; ours.
COMMAND_LIFE_NS = 5 * SECOND
ORDER: tuple[type[Message], ...] = (Hello, Lease, PowerCutIn, Outputs)


class RetryTimer:
    """How long to wait for an answer: RFC 6298 with the link's bounds; its alpha 1/8, beta 1/4, K 4."""

    def __init__(self) -> None:
        self.rto_ns = MAX_RTO_NS
        self._mean_ns: int | None = None
        self._deviation_ns = 0
        self._latest: deque[int] = deque(maxlen=LATEST)

    def figures(self) -> dict[str, int]:
        """Of the latest round trips, for people; nothing before the first."""
        if not self._latest:
            return {}
        ordered = sorted(self._latest)
        return {
            "round_trip_p50_us": ordered[len(ordered) // 2] // 1000,
            "round_trip_max_us": ordered[-1] // 1000,
        }

    def measured(self, round_trip_ns: int) -> None:
        """An answer to a first try; one to a later try says nothing of the time (Karn's rule)."""
        self._latest.append(round_trip_ns)
        if self._mean_ns is None:
            self._mean_ns, self._deviation_ns = round_trip_ns, round_trip_ns // 2
        else:
            self._deviation_ns += (abs(self._mean_ns - round_trip_ns) - self._deviation_ns) // 4
            self._mean_ns += (round_trip_ns - self._mean_ns) // 8
        wanted = self._mean_ns + 4 * self._deviation_ns
        self.rto_ns = min(max(wanted, MIN_RTO_NS), MAX_RTO_NS)

    def back_off(self) -> None:
        self.rto_ns = min(2 * self.rto_ns, MAX_RTO_NS)


@dataclass(slots=True)
class Outstanding:
    """A command that waits for its answer. Every try of it goes out under the same session."""

    message: Message
    sequence: int
    under: Session | None  # None: HELLO, which carries no tag
    asked_at: BootNs
    first_sent: BootNs
    again_at: BootNs
    tries: int = 1


class Courier:
    """Decides what is sent when; the session puts it on the wire."""

    def __init__(self) -> None:
        self.outstanding: Outstanding | None = None
        self._waiting: dict[type[Message], tuple[Message, BootNs]] = {}
        self._timer = RetryTimer()
        self.figures = self._timer.figures

    @property
    def waits(self) -> bool:
        """A command waits to be sent."""
        return bool(self._waiting)

    def ask(self, message: Message, at: BootNs) -> None:
        """Let a command wait. It replaces a waiting one of its type, but for outputs that only that names."""
        kind = type(message)
        if kind in self._waiting:
            message = _merged(self._waiting[kind][0], message)
        self._waiting[kind] = (message, at)

    def is_asked(self, kind: type[Message]) -> bool:
        outstanding = self.outstanding
        return kind in self._waiting or (outstanding is not None and type(outstanding.message) is kind)

    def start(self, sequence: int, under: Session | None, at: BootNs) -> Outstanding | None:
        """The next command to send, now outstanding; None when one already is, or none can go."""
        if self.outstanding is not None or not self._waiting:
            return None
        for kind in ORDER:
            if kind in self._waiting and (kind is Hello or under is not None):
                message, asked_at = self._waiting.pop(kind)
                key = None if kind is Hello else under
                again_at = BootNs(at + self._timer.rto_ns)
                self.outstanding = Outstanding(message, sequence, key, asked_at, at, again_at)
                return self.outstanding
        return None

    def answered(self, sequence: int, under: Session | None, at: BootNs) -> Outstanding | None:
        """The command that an answer settles, if it is the outstanding one."""
        done = self.outstanding
        if done is None or done.sequence != sequence or done.under is not under:
            return None
        if done.tries == 1:
            self._timer.measured(at - done.first_sent)
        self.outstanding = None
        return done

    def retry(self, at: BootNs) -> Outstanding | None:
        """The outstanding command, to be sent again; None when its tries are used up."""
        again = self.outstanding
        if again is None or again.tries == TRIES:
            return None
        self._timer.back_off()
        again.tries += 1
        again.again_at = BootNs(at + self._timer.rto_ns)
        return again

    def put_back(self) -> None:
        """The session changed under the outstanding command: it waits again, behind a newer wish."""
        old, self.outstanding = self.outstanding, None
        if old is None:
            return
        kind = type(old.message)
        newer, asked_at = self._waiting.get(kind, (old.message, old.asked_at))
        self._waiting[kind] = (_merged(old.message, newer), asked_at)

    def give_up(self) -> Message | None:
        """Drop the outstanding command."""
        lost, self.outstanding = self.outstanding, None
        return None if lost is None else lost.message

    def forget(self, *kinds: type[Message]) -> list[Message]:
        """Drop what waits of these types."""
        return [self._waiting.pop(kind)[0] for kind in kinds if kind in self._waiting]

    def expired(self, at: BootNs) -> list[Message]:
        """Drop what waited too long to be still wanted."""
        if not self._waiting:
            return []
        old = [kind for kind, (_, asked) in self._waiting.items() if at >= asked + COMMAND_LIFE_NS]
        return self.forget(*old)

    def expires_at(self) -> BootNs | None:
        if not self._waiting:
            return None
        return BootNs(min(asked for _, asked in self._waiting.values()) + COMMAND_LIFE_NS)


def _merged(older: Message, newer: Message) -> Message:
    if not isinstance(older, Outputs) or not isinstance(newer, Outputs):
        return newer
    return Outputs(older.mask | newer.mask, (older.values & ~newer.mask) | newer.values)
