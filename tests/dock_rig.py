"""A dock link in virtual time: the tablet's session and the simulated dock on a wire that can misbehave."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from typing import TypeVar

from agent.core.types import MS, BootNs, DockStatus, Observation
from drivers.docks.reference.codec import Decoder, Frame, Message
from drivers.docks.reference.session import ReferenceSession
from drivers.spec import DockSettings
from simulator.docks.reference import Identity, ReferenceDock
from simulator.docks.serial_device import DeviceModel

KEY = bytes(range(32))
SERIAL, VEHICLE_ID = "DK-000042", "WV1ZZZ7HZNH000042"
LATENCY_NS = 2 * MS

# What becomes of one packet: copies of it, each with its delay. ``to_dock`` says which way it goes.
Fault = Callable[[bytes, bool], list[tuple[int, bytes]]]
Kind = TypeVar("Kind", bound=Observation)


def clean(packet: bytes, to_dock: bool) -> list[tuple[int, bytes]]:
    return [(LATENCY_NS, packet)]


def cut(packet: bytes, to_dock: bool) -> list[tuple[int, bytes]]:
    return []


def carries(packet: bytes, *kinds: type[Message]) -> bool:
    """Whether a packet is a frame of one of these kinds."""
    return any(isinstance(item, Frame) and isinstance(item.message, kinds) for item in Decoder().feed(packet))


class Rig:
    """Runs both ends to a time. ``seen`` is what the tablet observed, ``sent`` what was put on the wire."""

    def __init__(
        self,
        *,
        dock_key: bytes | None = KEY,
        dock_serial: str = SERIAL,
        dock_vehicle: str = VEHICLE_ID,
        seed: int = 1,
        fault: Fault = clean,
        device: Callable[[BootNs], DeviceModel] | None = None,
    ) -> None:
        self.at = BootNs(0)
        self.fault = fault
        self.seen: list[Observation] = []
        self.sent: list[tuple[bool, bytes]] = []
        self.tablet_wakeups = 0
        dice = random.Random(seed)
        self.session = ReferenceSession(DockSettings("dock", SERIAL, VEHICLE_ID, KEY), dice.randbytes)
        identity = Identity.of(dock_serial, dock_vehicle, dock_key)
        self.dock = ReferenceDock(identity, dice.randbytes, self.at)
        # What is on the wire: another device side of the same link, or the simulated dock.
        self.device: DeviceModel = self.dock if device is None else device(self.at)
        self._heap: list[tuple[int, int, bool, bytes]] = []
        self._order = itertools.count()
        self._observe(self.session.link_up(self.at))

    def run(self, ns: int) -> None:
        """Let so much time pass."""
        end = BootNs(self.at + ns)
        self.carry()
        while True:
            deadline = self.session.next_deadline()
            due = [self.device.next_deadline(), *([] if deadline is None else [deadline])]
            at = BootNs(max(self.at, min([*due, *(entry[0] for entry in self._heap[:1])])))
            if at > end:
                self.at = end
                return
            self.at = at
            while self._heap and self._heap[0][0] <= at:
                _, _, to_dock, data = heapq.heappop(self._heap)
                self.deliver(data, to_dock)
            if self.device.next_deadline() <= at:
                self.device.timer(at)
            deadline = self.session.next_deadline()
            if deadline is not None and deadline <= at:
                self.tablet_wakeups += 1
                self._observe(self.session.timer(at))
            self.carry()

    def deliver(self, data: bytes, to_dock: bool) -> None:
        """Hand bytes to one end now, past the faults."""
        if to_dock:
            self.device.feed(data, self.at)
        else:
            self.tablet_wakeups += 1
            self._observe(self.session.feed(data, self.at))

    def of(self, kind: type[Kind]) -> list[Kind]:
        return [each for each in self.seen if isinstance(each, kind)]

    def authenticated(self) -> list[DockStatus]:
        return [status for status in self.of(DockStatus) if status.authenticated]

    def packets(self, to_dock: bool) -> list[bytes]:
        return [packet for towards, packet in self.sent if towards == to_dock]

    def frames(self, to_dock: bool) -> list[Frame]:
        read = Decoder().feed(b"".join(self.packets(to_dock)))
        return [item for item in read if isinstance(item, Frame)]

    def messages(self, to_dock: bool) -> list[Message]:
        return [frame.message for frame in self.frames(to_dock)]

    def _observe(self, observations: list[Observation]) -> None:
        self.seen += observations

    def carry(self) -> None:
        for to_dock, data in ((True, self.session.outgoing()), (False, self.device.outgoing())):
            for packet in data.split(b"\0")[:-1]:
                self.sent.append((to_dock, packet + b"\0"))
                for delay, copy in self.fault(packet + b"\0", to_dock):
                    heapq.heappush(self._heap, (self.at + delay, next(self._order), to_dock, copy))
