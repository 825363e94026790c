"""The serial line between a tablet and what is at the other end of its path, in memory.

Conforms to ``simulator.faults.knobs.DockWireKnobs``. Two layers say what is at the other end: the life (the
paired dock, a foreign one, nothing) and over it a fault. Bytes take their time on the line; what is on its
way when the plug comes out is lost.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

from agent.core.types import SECOND, BootNs
from simulator.faults.knobs import Behind
from simulator.virtual import tamper
from simulator.virtual.agenda import Agenda, Entry
from simulator.virtual.events import DockBytes, Events
from simulator.virtual.impostors import Chatter, Reflector, Replayer

BITS_A_BYTE = 10  # 8N1: start, eight, stop
KEPT_WRITES = 256  # towards the tablet, for the replay knob and for a replayer


class Device(Protocol):
    """Something that can be at the other end, sans-IO, in the world's time."""

    def feed(self, data: bytes, at: BootNs) -> None: ...
    def timer(self, at: BootNs) -> None: ...
    def next_deadline(self) -> BootNs | None: ...

    def next_actuation(self) -> BootNs | None:
        """The same for a device that nobody listens to: what it would only say does not count."""

    def outgoing(self) -> bytes: ...


class Opener(Protocol):
    """The tablet's side: who has the port open."""

    def readable(self, data: bytes) -> None:
        """Bytes arrived."""

    def lost(self) -> None:
        """The path is gone: end of file."""

    def changed(self) -> None:
        """udev: something came to the path."""


class Living:
    """A device with its own deadline on the agenda; it lives on while nobody listens."""

    def __init__(self, agenda: Agenda, device: Device, send: Callable[[Living, bytes], None]) -> None:
        self.device = device
        self.heard = False
        self.dark = False  # without power: it neither hears nor says anything
        self.fed: Callable[[], None] = lambda: None  # called when it took bytes
        self._agenda = agenda
        self._send = send
        self._entry: Entry | None = None
        self.kick()

    def kick(self) -> None:
        """Send what the device has to say, and arm its deadline. After every direct call of the device."""
        data = self.device.outgoing()
        if data and self.heard and not self.dark:
            self._send(self, data)
        deadline = self.device.next_deadline() if self.heard else self.device.next_actuation()
        if deadline is None or self.dark:
            return
        if self._entry is not None:
            if self._entry.call is not None and self._entry.at <= deadline:
                return  # comes early and is put off then
            self._entry.cancel()
        self._entry = self._agenda.at(deadline, self._due)

    def feed(self, data: bytes) -> None:
        if not self.dark:
            self.device.feed(data, self._agenda.now)
            self.kick()
            self.fed()

    def listen(self, heard: bool) -> None:
        """Somebody listens from now on, or no longer."""
        self.heard = heard
        self._due()

    def _due(self) -> None:
        if not self.dark:
            self.device.timer(self._agenda.now)
        self.kick()


class _Way:
    """One direction of the line."""

    def __init__(self) -> None:
        self.free_at = 0  # the line carries one byte at a time
        self.last_at = 0  # nothing overtakes
        self.bucket: list[bytes] = []  # what arrives together at ``last_at``


class DockWire:
    """The line. ``tally`` is told of every write, for the history.

    ``impostors`` makes those that come in the dock's place and need to know more than the line does.
    """

    def __init__(
        self,
        agenda: Agenda,
        rng: random.Random,
        own: Device,
        foreign: Device,
        events: Events,
        tally: Callable[[bool, bytes], None],
        baud: int,
        impostors: Mapping[Behind, Callable[[BootNs], Device]] | None = None,
    ) -> None:
        self.lose_permille = self.flip_permille = self.split_bytes = 0
        self.merge_ns = self.delay_ns = 0
        self.duplicate_permille = self.replay_permille = self.change_permille = 0
        self.version: int | None = None
        self._bystander = False
        self._impostors = impostors or {}
        self.plugged: Callable[[], None] = lambda: None  # called when something else is at the other end
        self.asleep = False  # the tablet is suspended: its port hears nothing
        self.carried = [0, 0]  # bytes put on the line: to the dock, to the tablet
        self.dropped = 0  # bytes that nobody heard
        self._agenda = agenda
        self._rng = rng
        self._events = events
        self._tally = tally
        self._byte_ns = BITS_A_BYTE * SECOND // baud
        self.own = Living(agenda, own, self._from_device)
        self.foreign = Living(agenda, foreign, self._from_device)
        self._life: Living | None = self.own
        self._faulty = False
        self._fault: Living | None = None  # what a fault has put there; None with ``_faulty``: nothing
        self._waiting: tuple[Behind | None, int] | None = None  # a plug, and the bytes until then
        self._behind: Living | None = self.own
        self._port: Opener | None = None
        self._era = 0  # counts plugs: what was on its way before is lost
        self._ways = (_Way(), _Way())
        self._kept: deque[tuple[BootNs, bytes]] = deque(maxlen=KEPT_WRITES)

    # --- what is at the other end -----------------------------------------------------------------------

    def plug(self, behind: Behind | None, after_bytes: int = 0) -> None:
        if after_bytes > 0:
            self._waiting = behind, after_bytes
        else:
            self._waiting = None
            self._faulty = behind is not None
            self._fault = None if behind is None else self._impostor(behind)
            self._settle()

    def dock(self, which: Living | None) -> None:
        """The life's layer: ``own``, ``foreign``, or nothing."""
        self._life = which
        self._settle()

    @property
    def behind(self) -> Living | None:
        """What is at the other end of the tablet's path."""
        return self._behind

    def _settle(self) -> None:
        behind = self._fault if self._faulty else self._life
        if behind is self._behind:
            return
        if self._behind is not None:
            self._behind.listen(False)
        self._behind = behind
        self._overhear()
        self._era += 1
        port, self._port = self._port, None
        for way in self._ways:
            way.bucket = []
        self.plugged()
        if port is not None:
            port.lost()
            if behind is not None:
                port.changed()

    def _impostor(self, behind: Behind) -> Living | None:
        now = self._agenda.now
        match behind:
            case Behind.NOTHING:
                return None
            case Behind.FOREIGN:
                return self.foreign
            case Behind.CHATTER:
                return Living(self._agenda, Chatter(now), self._from_device)
            case Behind.REPLAYER:
                return Living(self._agenda, Replayer([*self._kept], now), self._from_device)
            case Behind.REFLECTOR:
                return Living(self._agenda, Reflector(), self._from_device)
            case Behind.FORGER | Behind.TWIN:
                return Living(self._agenda, self._impostors[behind](now), self._from_device)

    @property
    def bystander(self) -> bool:
        """Another dock is on the same line."""
        return self._bystander

    @bystander.setter
    def bystander(self, there: bool) -> None:
        self._bystander = there
        self._overhear()

    def _overhear(self) -> None:
        """Whether the other dock, which is not the one at the end of the path, hears something."""
        behind = self._behind
        if behind is not self.foreign:
            heard = self._bystander and behind is not None and behind.heard
            if heard != self.foreign.heard:
                self.foreign.listen(heard)

    # --- the tablet's side ------------------------------------------------------------------------------

    def open(self, port: Opener) -> bool:
        """Open the path; False when nothing is there."""
        if self._behind is None:
            return False
        self._port = port
        self._listen()
        return True

    def close(self, port: Opener) -> None:
        if self._port is port:
            self._port = None
            self._listen()

    def write(self, port: Opener, data: bytes) -> None:
        """From the tablet to the device."""
        behind = self._behind
        if self._port is port and behind is not None:
            self._carry(data, 0)

    def sleep(self, asleep: bool) -> None:
        """The tablet suspends, or wakes."""
        self.asleep = asleep
        self._listen()

    def _listen(self) -> None:
        if self._behind is not None:
            heard = self._port is not None and not self.asleep
            if heard != self._behind.heard:
                self._behind.listen(heard)
        self._overhear()

    # --- bytes ------------------------------------------------------------------------------------------

    def _from_device(self, living: Living, data: bytes) -> None:
        second = self._bystander and living is self.foreign and self._behind is not None
        if living is not self._behind and not second:
            return
        if living is self.own:
            self._kept.append((self._agenda.now, data))
        self._carry(data, 1)

    def _carry(self, data: bytes, to_tablet: int) -> None:
        now = self._agenda.now
        self.carried[to_tablet] += len(data)
        self._tally(bool(to_tablet), data)
        if self._events.wanted(DockBytes):
            self._events.emit(DockBytes(now, bool(to_tablet), len(data)))
        way = self._ways[to_tablet]
        for piece in self._pieces(data, to_tablet):
            way.free_at = (way.free_at if way.free_at > now else now) + len(piece) * self._byte_ns
            at = way.free_at + self.delay_ns
            if self.merge_ns:
                at = -(-at // self.merge_ns) * self.merge_ns
                if at <= way.last_at and way.bucket:
                    way.bucket.append(piece)
                    continue
                pieces = way.bucket = [piece]
            else:
                pieces = [piece]
            way.last_at = at if at > way.last_at else way.last_at
            arrive = partial(self._arrive, self._era, pieces, way, to_tablet)
            self._agenda.at(BootNs(way.last_at), arrive)

    def _pieces(self, data: bytes, to_tablet: int) -> list[bytes]:
        """What of a write arrives, after everything that the knobs do to it."""
        writes = [data]
        if not (
            self.lose_permille
            or self.flip_permille
            or self.split_bytes
            or self.duplicate_permille
            or self.replay_permille
            or self.change_permille
            or self.version is not None
        ):
            return writes
        if self.version is not None:
            writes = [tamper.with_version(data, self.version)]
        if self.change_permille and self._happens(self.change_permille):
            writes = [tamper.with_turned_bits(writes[0], self._rng)]
        if self.duplicate_permille and self._happens(self.duplicate_permille):
            writes.append(data)
        if to_tablet and self.replay_permille and self._kept and self._happens(self.replay_permille):
            writes.append(self._rng.choice(self._kept)[1])
        if self.lose_permille or self.flip_permille:
            writes = [self._damaged(each) for each in writes]
        if self.split_bytes:
            size = self.split_bytes
            writes = [each[n : n + size] for each in writes for n in range(0, len(each), size)]
        return [each for each in writes if each]

    def _damaged(self, data: bytes) -> bytes:
        out = bytearray()
        for byte in data:
            if self._happens(self.lose_permille):
                continue
            out.append(byte ^ (1 << self._rng.randrange(8)) if self._happens(self.flip_permille) else byte)
        return bytes(out)

    def _happens(self, permille: int) -> bool:
        return self._rng.randrange(1000) < permille

    def _arrive(self, era: int, pieces: Sequence[bytes], way: _Way, to_tablet: int) -> None:
        if pieces is way.bucket:
            way.bucket = []
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if era == self._era:
            self._arrived(data, to_tablet)
        else:
            self.dropped += len(data)

    def _arrived(self, data: bytes, to_tablet: int) -> None:
        if not to_tablet:
            if self._behind is not None:
                self._behind.feed(data)
            if self._bystander and self._behind is not self.foreign:
                self.foreign.feed(data)
        elif self._port is None or self.asleep:
            self.dropped += len(data)
        elif self._waiting is None:
            self._port.readable(data)
        else:
            self._count_down(data)

    def _count_down(self, data: bytes) -> None:
        """Some bytes before another device takes the path: the old one ends in mid-frame."""
        if self._waiting is None or self._port is None:
            return
        behind, left = self._waiting
        self._port.readable(data[:left])
        if len(data) >= left:
            self.plug(behind)
        else:
            self._waiting = behind, left - len(data)
