"""A switch of the input subsystem on the loop: where it stands by EVIOCGSW, and each event of the descriptor.

A look is taken when it is opened, after events were lost, and every half minute, so that the age of what it
says stays honest. Only events of switches are passed on and kept, whatever else the device has: keys, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import struct
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from agent.core.types import BootNs, Observation
from drivers.docks.dock_switch.codec import EV_SW, EV_SYN, SW_DOCK, SYN_DROPPED, Decoder, switched
from drivers.ports.descriptor import Descriptor, DescriptorLink, Opened
from drivers.spec import DockSession

if TYPE_CHECKING:
    from drivers.ports.udev import Udev

LOOK_S = 30.0  # ours
_BITS = struct.Struct("@Q")
EVIOCGSW = 2 << 30 | _BITS.size << 16 | ord("E") << 8 | 0x1B  # linux/input.h: EVIOCGSW(len)
EV_KEY = 0x01  # linux/input-event-codes.h
_MASK = struct.Struct("@IIQ")  # linux/input.h, struct input_mask: type, size of codes, pointer to codes
EVIOCSMASK = 1 << 30 | _MASK.size << 16 | ord("E") << 8 | 0x93
NO_CODES = 0  # of the keys; with a size of 0 none passes


class SwitchLink(DescriptorLink):
    """One switch behind one event node."""

    def __init__(
        self,
        session: DockSession,
        locate: Callable[[], str | None],
        observe: Callable[[Observation], None],
        now: Callable[[], BootNs],
    ) -> None:
        super().__init__(session, locate, observe, now)
        self._events = Decoder()
        self._look: asyncio.TimerHandle | None = None

    def _open(self) -> None:
        super()._open()
        if self.path is not None:
            self._events = Decoder()
            self._look_now()

    def _open_port(self, path: str) -> Opened:
        port: Opened = Descriptor(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        try:
            state(port.fileno())
        except OSError:
            port.close()
            raise
        with contextlib.suppress(OSError):  # before Linux 4.4: they are dropped here instead
            fcntl.ioctl(port.fileno(), EVIOCSMASK, _MASK.pack(EV_KEY, 0, NO_CODES))
        return port

    def _detach(self) -> None:
        if self._look is not None:
            self._look.cancel()
            self._look = None
        super()._detach()

    def _take(self, data: bytes, at: BootNs) -> None:
        events = [event for event in self._events.feed(data) if event.type in (EV_SYN, EV_SW)]
        super()._take(b"".join(event.encode() for event in events), at)
        if any(event.type == EV_SYN and event.code == SYN_DROPPED for event in events):
            self._look_now()

    def _look_now(self) -> None:
        """Say where it stands; the next look is due later."""
        if self._look is not None:
            self._look.cancel()
        try:
            docked = state(self._fd)
        except OSError as error:
            self._lost(error.strerror or str(error))
            return
        self._look = self._loop.call_later(LOOK_S, self._look_now)
        super()._take(switched(docked), self._now())


def state(fd: int) -> bool:
    """Whether the dock switch is closed. Raises OSError: it is no event device, or it went."""
    (bits,) = _BITS.unpack(fcntl.ioctl(fd, EVIOCGSW, bytes(_BITS.size)))
    return bool(bits >> SW_DOCK & 1)


def locate(udev: Callable[[], Udev], port: str | None, match: Mapping[str, str]) -> str | None:
    """The node by its path, by its properties, or by being the first that has a dock switch."""
    if port is not None:
        return port
    found = udev().all("input", match, inherited=True)
    return min((node for node, said in found.items() if "event" in node and _has_dock(said)), default=None)


def _has_dock(said: Mapping[str, str]) -> bool:
    """``SW`` is the kernel's bitmap of the device's switches: words in hex, the last one the lowest."""
    try:
        return bool(int(said.get("SW", "").split()[-1], 16) >> SW_DOCK & 1)
    except (IndexError, ValueError):
        return False
