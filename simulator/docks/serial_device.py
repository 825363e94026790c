"""Runs a device model on a wire: a pty that can be pulled and plugged again, or a real serial port."""

from __future__ import annotations

import asyncio
import os
import tty
from collections.abc import Callable
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import serial

from agent.core.types import SECOND, BootNs

READ_SIZE = 4096  # bytes; the kernel's tty buffer, ours


class DeviceModel(Protocol):
    """The device side of a dock link, sans-IO."""

    def feed(self, data: bytes, at: BootNs) -> None: ...
    def timer(self, at: BootNs) -> None: ...
    def next_deadline(self) -> BootNs: ...
    def outgoing(self) -> bytes: ...


Model = TypeVar("Model", bound=DeviceModel, covariant=True)


class SerialDevice(Generic[Model]):
    """A model on an asyncio loop. It goes on living while it is unplugged, as a dock in a vehicle does.

    Call ``kick`` after every direct call of the model, such as a change of its inputs.
    """

    def __init__(self, model: Model, now: Callable[[], BootNs]) -> None:
        self.model = model
        self.dropped_bytes = 0  # of which the wire took none: nobody reads, or nothing is plugged in
        self._now = now
        self._loop = asyncio.get_running_loop()
        self._fd: int | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._lost: Callable[[], None] = lambda: None
        self.kick()

    def attach(self, fd: int, lost: Callable[[], None] = lambda: None) -> None:
        """Speak on a non-blocking descriptor, which stays the caller's; ``lost`` is called when it dies."""
        self._fd, self._lost = fd, lost
        self._loop.add_reader(fd, self._readable, fd)

    def detach(self) -> None:
        if self._fd is not None:
            self._loop.remove_reader(self._fd)
            self._fd = None

    def close(self) -> None:
        self.detach()
        if self._timer is not None:
            self._timer.cancel()

    def kick(self) -> None:
        """Send what the model has to say, and arm its next deadline."""
        self._write(self.model.outgoing())
        if self._timer is not None:
            self._timer.cancel()
        delay_s = max(0, self.model.next_deadline() - self._now()) / SECOND
        self._timer = self._loop.call_later(delay_s, self._due)

    async def inject(self, data: bytes) -> int:
        """Put raw bytes on the wire past the model: noise, half a frame. Returns how many the wire took."""
        sent = 0
        while sent < len(data) and self._fd is not None:
            try:
                sent += os.write(self._fd, data[sent : sent + READ_SIZE])
            except BlockingIOError:
                await self._writable(self._fd)
        return sent

    async def _writable(self, fd: int) -> None:
        ready = asyncio.Event()
        self._loop.add_writer(fd, ready.set)
        try:
            await ready.wait()
        finally:
            self._loop.remove_writer(fd)

    def _due(self) -> None:
        self.model.timer(self._now())
        self.kick()

    def _readable(self, fd: int) -> None:
        try:
            data = os.read(fd, READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.detach()
            self._lost()
            return
        self.model.feed(data, self._now())
        self.kick()

    def _write(self, data: bytes) -> None:
        """As a UART does: what the other end does not take is gone."""
        sent = 0
        if self._fd is not None and data:
            try:
                sent = os.write(self._fd, data)
            except OSError:
                sent = 0
        self.dropped_bytes += len(data) - sent


class PtyPlug:
    """A serial port made of a pty, found at ``path``: plug a device in, pull it out, plug in another."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._device: SerialDevice[DeviceModel] | None = None
        self._fds: tuple[int, ...] = ()

    def plug(self, device: SerialDevice[DeviceModel]) -> None:
        """Make the port appear with this device behind it."""
        if self._device is not None:
            raise RuntimeError(f"{self.path}: a device is plugged in already; pull it first")
        master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(master, False)
        # The slave stays open here: without one the master hangs up whenever nobody has the port open.
        self._fds, self._device = (master, slave), device
        fresh = self.path.with_name(f"{self.path.name}.new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(os.ttyname(slave))
        fresh.replace(self.path)
        device.attach(master)

    def pull(self) -> None:
        """Make the port disappear, in mid-frame if need be: who has it open reads the end of it."""
        if self._device is None:
            return
        self._device.detach()
        self.path.unlink(missing_ok=True)
        for fd in self._fds:
            os.close(fd)
        self._fds, self._device = (), None


def open_port(path: str, baud: int) -> serial.Serial:
    """A real serial port, for ourselves alone. Raises ``serial.SerialException`` (an OSError)."""
    return serial.Serial(path, baudrate=baud, timeout=0, write_timeout=0, exclusive=True)
