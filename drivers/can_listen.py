"""A bus listened to by a command of `ivmactl`, beside the agent or without it. Nothing here sends."""

from __future__ import annotations

import select
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from drivers.ports.can import EVERY_FRAME, BusHandle, open_bus
from drivers.ports.can_link import CanLink
from drivers.ports.socketcan import RawBus

BUDGET = 512  # frames in one go
WAIT_S = 0.05  # a batch; a key that is pressed is noticed as soon

Batch = list[tuple[int, bytes]]  # arrival, ns by the wall clock, and struct can_frame


@dataclass
class Heard:
    """What a run of ``listen`` can tell beside the frames."""

    link: CanLink = field(default_factory=CanLink)
    dropped: int = 0


def listen(
    interface: str,
    channel: str,
    seconds: float,
    heard: Heard,
    filters: Sequence[tuple[int, int]] = EVERY_FRAME,
    *,
    fd: bool = False,
) -> Iterator[Batch]:
    """What comes within ``seconds``, in batches of 50 ms, with the kernel's times where it gives them.

    Raises:
        OSError: the bus cannot be opened, would acknowledge frames, or went away.
    """
    bus: BusHandle = open_bus(interface, channel, filters, fd=fd)
    try:
        heard.link = bus.link()
        if heard.link.listen_only is False:
            raise OSError(
                f"{channel} acknowledges frames; set it to listen only first: "
                f"ip link set {channel} down; ip link set {channel} up type can bitrate RATE listen-only on"
            )
        if isinstance(bus, RawBus):
            bus.stamp()
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if not select.select([bus.fileno()], [], [], min(left, 1.0))[0]:
                continue
            batch = [each for each in _read(bus) if _passes(each[1], filters)]
            heard.dropped = bus.dropped
            if batch:
                yield batch
            select.select([], [], [], min(WAIT_S, max(0.0, end - time.monotonic())))
        heard.link = bus.link()
    finally:
        bus.close()


def _read(bus: BusHandle) -> Batch:
    now = time.time_ns()
    if isinstance(bus, RawBus):
        return [(now if at is None else at, frame) for at, frame in bus.drain_stamped(BUDGET)]
    return [(now, frame) for frame in bus.drain(BUDGET)]


def _passes(frame: bytes, filters: Sequence[tuple[int, int]]) -> bool:
    """As the kernel does it, for the interfaces that do not."""
    word = int.from_bytes(frame[:4], sys.byteorder)
    return any(word & mask == number & mask for number, mask in filters)
