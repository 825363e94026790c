"""The control lines of a serial port as a dock's wire: looks for its session, levels from it.

An owned thread does what may block: TIOCMIWAIT always does, and on a USB adapter every one of these calls is
a transfer. It looks, hands the look to the loop, and waits: in TIOCMIWAIT where the driver has it, otherwise
for the poll period. A signal of its own interrupts the wait, to set outputs, to look at least once a second
(an edge between a look and the wait would go unseen), and to end. TIOCGICOUNT tells of pulses that were over
before the look. A pty has none of these calls and is refused.

Opening a serial port raises DTR and RTS for a moment, whatever is done about it afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import signal
import struct
import termios
import threading
from collections.abc import Callable

from agent.core.types import BootNs, Counters, Observation
from drivers.docks.control_lines.codec import NO_INPUT, NO_OUTPUT, Input, Look, Output, decode_set
from drivers.ports.link import Link
from drivers.spec import DockSession

# asm-generic/ioctls.h; termios has them but for the first two, and not everywhere.
TIOCMIWAIT, TIOCGICOUNT = 0x545C, 0x545D
TIOCMGET, TIOCMBIS, TIOCMBIC, TIOCEXCL = 0x5415, 0x5416, 0x5417, 0x540C
# asm-generic/termios.h
_TIOCM = {Input.CTS: 0x020, Input.DCD: 0x040, Input.RI: 0x080, Input.DSR: 0x100}
_OUT = {Output.DTR: 0x002, Output.RTS: 0x004}
_WAIT_FOR = sum(_TIOCM.values())
_ICOUNT = struct.Struct("20i")  # linux/serial.h, struct serial_icounter_struct: cts, dsr, rng, dcd first
_COUNTED = (Input.CTS, Input.DSR, Input.RI, Input.DCD)
_INT = struct.Struct("i")
# What a driver says that has no such call: ptys ENOTTY, some USB adapters EINVAL or EOPNOTSUPP.
_LACKING = {errno.ENOTTY, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}

BEAT_S = 1.0  # a look at least this often; ours, see REPEAT_NS of the session
LEAST_S = 0.01  # between two looks while something moves: at most 100 a second; ours
NUDGE_S = 0.02  # a signal that came just before the wait began is sent again after this; ours
WAKE = signal.SIGRTMIN + 3  # ours; no handler of it is expected elsewhere


class _Watch(threading.Thread):
    """Looks at one open port until it is told to stop, or the port fails."""

    def __init__(
        self, fd: int, poll_s: float, seen: Callable[[Look], None], failed: Callable[[str], None]
    ) -> None:
        super().__init__(name="modem-lines", daemon=True)
        self.waits = True  # the driver has TIOCMIWAIT
        self.counts = True  # and TIOCGICOUNT
        self.done = False
        self._fd = fd
        self._poll_s = poll_s
        self._seen = seen
        self._failed = failed
        self._nudged = threading.Event()
        self._stopping = False
        self._outputs: Output | None = None
        self._counters: tuple[int, ...] | None = None

    # --- called on the loop ---

    def set_outputs(self, outputs: Output) -> None:
        self._outputs = outputs
        self.nudge()

    def stop(self) -> None:
        self._stopping = True
        self.nudge()

    def nudge(self) -> None:
        """End a wait, so that it looks anew."""
        self._nudged.set()
        if self.waits and not self.done and self.ident is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pthread_kill(self.ident, WAKE)

    @property
    def busy(self) -> bool:
        """It was nudged and has not looked since: the signal may have come before the wait."""
        return self._nudged.is_set()

    # --- the thread ---

    def run(self) -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {WAKE})
        problem = "its thread failed"
        look: Look | None = None
        try:
            while not self._stopping:
                self._nudged.clear()
                self._apply()
                look, before = self._look(), look
                self._seen(look)
                if before is not None and (look.moved or look.inputs != before.inputs):
                    # What moves may move again before the wait begins; and chatter must not flood the loop.
                    self._nudged.wait(LEAST_S)
                else:
                    self._wait()
            problem = ""  # told to stop
        except OSError as error:
            problem = error.strerror or str(error)
        finally:
            self.done = True  # no signal from here on
            os.close(self._fd)
            self._failed(problem)

    def _apply(self) -> None:
        wanted, self._outputs = self._outputs, None
        if wanted is None:
            return
        for call, on in ((TIOCMBIS, True), (TIOCMBIC, False)):
            bits = sum(bit for line, bit in _OUT.items() if bool(wanted & line) is on)
            if bits:
                fcntl.ioctl(self._fd, call, _INT.pack(bits))

    def _look(self) -> Look:
        # Counters first: a level that changes in between shows as a level, and its edge in the next look.
        moved = self._moved()
        (bits,) = _INT.unpack(fcntl.ioctl(self._fd, TIOCMGET, _INT.pack(0)))
        inputs, outputs = NO_INPUT, NO_OUTPUT
        for line, bit in _TIOCM.items():
            inputs |= line if bits & bit else NO_INPUT
        for out, bit in _OUT.items():
            outputs |= out if bits & bit else NO_OUTPUT
        return Look(inputs, outputs, moved)

    def _moved(self) -> Input:
        if not self.counts:
            return NO_INPUT
        try:
            raw = fcntl.ioctl(self._fd, TIOCGICOUNT, bytes(_ICOUNT.size))
        except OSError as error:
            if error.errno not in _LACKING:
                raise
            self.counts = False
            return NO_INPUT
        before, self._counters = self._counters, _ICOUNT.unpack(raw)[: len(_COUNTED)]
        moved = NO_INPUT
        for line, old, new in zip(_COUNTED, before or self._counters, self._counters, strict=True):
            moved |= line if old != new else NO_INPUT
        return moved

    def _wait(self) -> None:
        if self._nudged.is_set():
            return
        if not self.waits:
            self._nudged.wait(self._poll_s)
            return
        try:
            fcntl.ioctl(self._fd, TIOCMIWAIT, _WAIT_FOR)
        except InterruptedError:
            return
        except OSError as error:
            if error.errno not in _LACKING:
                raise
            self.waits = False


def open_lines(path: str) -> int:
    """A serial port of our own whose closing leaves the lines as they are.

    Raises:
        OSError: absent, busy, forbidden, or not a serial port with control lines.
    """
    fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        iflag, oflag, cflag, lflag, ispeed, ospeed, cc = termios.tcgetattr(fd)
        cflag = (cflag | termios.CLOCAL) & ~(termios.HUPCL | termios.CRTSCTS)
        termios.tcsetattr(fd, termios.TCSANOW, [iflag, oflag, cflag, lflag, ispeed, ospeed, cc])
        fcntl.ioctl(fd, TIOCEXCL)
        fcntl.ioctl(fd, TIOCMGET, _INT.pack(0))
    except termios.error as error:
        os.close(fd)
        raise OSError(error.args[0], f"not a serial port: {error.args[1]}", path) from None
    except OSError as error:
        os.close(fd)
        if error.errno in _LACKING:
            raise OSError(error.errno, "it has no control lines", path) from None
        raise
    return fd


class ModemLines(Link):
    """One dock on the control lines of one serial port.

    Made on the loop, in the main thread, which alone may set a signal's handler.
    """

    def __init__(
        self,
        session: DockSession,
        locate: Callable[[], str | None],
        observe: Callable[[Observation], None],
        now: Callable[[], BootNs],
        poll_s: float = 0.2,
    ) -> None:
        super().__init__(session, locate, observe, now)
        self._poll_s = poll_s
        self._watch: _Watch | None = None
        self._old: _Watch | None = None  # told to stop; nothing is opened before it has
        self._beat: asyncio.TimerHandle | None = None

    def start(self) -> None:
        signal.signal(WAKE, _nothing)  # also ends a system call that it interrupts
        super().start()

    def counters(self) -> Counters:
        watch = self._watch
        ways = {} if watch is None else {"waits": int(watch.waits), "counts": int(watch.counts)}
        return Counters({**super().counters().values, **ways})

    @property
    def is_open(self) -> bool:
        return self._watch is not None

    # --- opening and losing ---

    def _attach(self, path: str) -> None:
        if self._old is not None and not self._old.done:
            raise OSError(errno.EBUSY, "the thread that looked at it before has not ended yet", path)
        self._old = None
        watch = _Watch(
            open_lines(path), self._poll_s,
            lambda look: self._call(self._seen, watch, look),
            lambda problem: self._call(self._failed, watch, problem),
        )  # fmt: skip
        self._watch = watch
        watch.start()
        self._beat_on()

    def _detach(self) -> None:
        """The thread ends by itself; nothing waits for it."""
        watch, self._watch = self._watch, None
        self._beat_on()
        if watch is not None:
            self._old = watch
            self._reap(watch)

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        """From the thread to the loop; a loop that is closed has nobody left to tell."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)

    def _reap(self, watch: _Watch) -> None:
        """Tell it to stop, until it does: a signal that comes before the wait begins ends nothing."""
        if not watch.done:
            watch.stop()
            self._loop.call_later(NUDGE_S, self._reap, watch)

    def _failed(self, watch: _Watch, problem: str) -> None:
        if watch is self._watch:
            self._lost(problem)

    # --- looks ---

    def _beat_on(self) -> None:
        """Look again after a while, whatever happens; sooner if it was nudged and has not looked since."""
        if self._beat is not None:
            self._beat.cancel()
            self._beat = None
        watch = self._watch
        if watch is not None:
            delay_s = NUDGE_S if watch.busy else BEAT_S
            self._beat = self._loop.call_later(delay_s, self._beat_now, watch)

    def _beat_now(self, watch: _Watch) -> None:
        if watch is self._watch:
            watch.nudge()
            self._beat_on()

    def _seen(self, watch: _Watch, look: Look) -> None:
        if watch is self._watch:
            self._beat_on()
            self._take(look.encode(), self._now())

    def _put(self, data: bytes) -> None:
        outputs = decode_set(data)
        if outputs is not None and self._watch is not None:
            self._watch.set_outputs(outputs)
            self._beat_on()


def _nothing(_number: int, _frame: object) -> None:
    """The handler of WAKE: that a signal came is all there is to it."""
