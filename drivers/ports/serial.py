"""The serial port of a dock on the loop: pyserial opens and sets the line up."""

from __future__ import annotations

import contextlib
import termios
from collections.abc import Callable

from serial import Serial, SerialException

from agent.core.types import BootNs, Observation
from drivers.ports.descriptor import DescriptorLink, Opened
from drivers.spec import DockSession


class SerialLink(DescriptorLink):
    """One dock on one serial port."""

    def __init__(
        self,
        session: DockSession,
        locate: Callable[[], str | None],
        observe: Callable[[Observation], None],
        now: Callable[[], BootNs],
        baud: int = 115200,
    ) -> None:
        super().__init__(session, locate, observe, now)
        self._baud = baud

    def _open_port(self, path: str) -> Opened:
        try:
            port = Serial(path, baudrate=self._baud, timeout=0, write_timeout=0, exclusive=True)
        except (termios.error, ValueError) as error:
            raise OSError(f"not a serial port, or not at {self._baud} bit/s: {error}") from None
        with contextlib.suppress(OSError, ValueError, NotImplementedError):
            # FTDI holds bytes back for 16 ms without this; ptys and CDC-ACM do not know it.
            port.set_low_latency_mode(True)
        opened: Opened = port
        return opened

    def _close_port(self, port: Opened) -> None:
        with contextlib.suppress(OSError, termios.error):
            # Closing a port waits up to 30 s for output that nobody takes (closing_wait); discard it.
            termios.tcflush(port.fileno(), termios.TCIOFLUSH)
        with contextlib.suppress(SerialException):
            port.close()
