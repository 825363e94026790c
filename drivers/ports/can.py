"""A vehicle's CAN bus, listened to on the loop and drained in batches.

A full bus wakes the loop twenty times a second, not thousands: the descriptor is read empty at most every
``drain_ms``, and of a light or filtered bus half as often. A frame after quiet is handled at once.

The port cannot send: a bus it holds is only ever drained. (python-can's Notifier is not used: it loses
errors or its thread, python-can issues 907, 1667, 1865, 1912.)
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Protocol

import structlog

from agent.core.types import BootNs, BusState, CanBus, Counters, Observation
from drivers.ports.can_link import CanLink
from drivers.ports.socketcan import open_simcan, open_socketcan
from drivers.vehicles.watch import CompiledProfile

DRAIN_MS = 50  # ours: a key turn waits no longer than anybody notices
BUDGET = 512  # frames in one go; a full 500 kbit/s bus (4,504 frames/s at 111 bits) sends 225 in 50 ms
FEW = 32  # frames in a batch; of a bus with no more, twice the wait fills no buffer and halves the wake-ups
SILENT_S = 2.0  # openpilot: silence of more than 2 s
REOPEN_FIRST_S = 0.25  # ours: a re-enumerated adapter is back in about a second
REOPEN_MAX_S = 8.0  # ours
EVERY_FRAME = ((0, 0),)  # linux/can.h: id and mask that fit all

log = structlog.get_logger()


class BusHandle(Protocol):
    """An open bus."""

    dropped: int  # frames lost before they could be read

    def link(self) -> CanLink:
        """What the interface is like now; OSError if it went."""

    def fileno(self) -> int: ...

    def drain(self, budget: int) -> list[bytes]:
        """Frames that wait, as struct can_frame, ``budget`` at most; never blocks; OSError if it is over."""

    def close(self) -> None: ...


class CanPort:
    """One bus of the vehicle: observations of its signals and of its state."""

    def __init__(
        self,
        bus_name: str,
        open: Callable[[], BusHandle],
        profile: CompiledProfile,
        observe: Callable[[Observation], None],
        now: Callable[[], BootNs],
        *,
        bitrate: int | None = None,
        drain_ms: int = DRAIN_MS,
        silent_s: float = SILENT_S,
    ) -> None:
        self.state: BusState | None = None  # None: opened, nothing known yet
        self._name = bus_name
        self._open = open
        self._profile = profile
        self._observe = observe
        self._now = now
        self._bitrate = bitrate
        self._drain_s = drain_ms / 1000
        self._silent_s = silent_s
        self._reopen_s = REOPEN_FIRST_S
        self._bus: BusHandle | None = None
        self._listening = False  # the descriptor may wake the loop
        self._drained_at = 0.0  # loop time
        self._timer: asyncio.TimerHandle | None = None
        self._controller: str | None = None  # the state that was last told
        self._counts = {"opened": 0, "down": 0, "dropped": 0, "bus_off": 0}

    @property
    def counters(self) -> Counters:
        """Frames and what did not count, by reason; how often the bus was opened and went down."""
        dropped = self._counts["dropped"] + (self._bus.dropped if self._bus else 0)
        return Counters({**self._profile.counters.values, **self._counts, "dropped": dropped})

    @property
    def filters(self) -> list[tuple[int, int]]:
        """Id and mask of each frame that it listens for."""
        return self._profile.filters()

    @property
    def fd(self) -> bool:
        return self._profile.fd

    def start(self) -> None:
        """Open the bus on the running loop; it is opened again whenever it goes down."""
        try:
            bus = self._open()
        except OSError as error:
            self._down(error)
            return
        self._bus = bus
        try:
            self._accept(bus.link())
        except OSError as error:
            self._down(error)
            return
        self._counts["opened"] += 1
        self._listen()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._bus is not None:
            self._rest()
            self._counts["dropped"] += self._bus.dropped
            self._bus.close()
            self._bus = None

    def status(self) -> dict[str, object]:
        """What `ivmactl status` shows of the bus, as JSON; the interface is asked anew."""
        try:
            link = CanLink() if self._bus is None else self._bus.link()
        except OSError:
            link = CanLink()
        state = self.state.value if self.state else None
        said = {"controller" if name == "state" else name: value for name, value in asdict(link).items()}
        return {"state": state, **said, **self.counters.values}

    def _accept(self, link: CanLink) -> None:
        """Refuse an interface that could disturb the vehicle, or cannot hear it.

        Raises:
            OSError: it acknowledges frames, or its bitrate is another one.
        """
        again = "ip link set CHANNEL down; ip link set CHANNEL up type can bitrate RATE listen-only on"
        if link.listen_only is False:
            raise OSError(
                errno.EPERM, f"the interface acknowledges frames; expected one that only listens: {again}"
            )
        if None not in (link.bitrate, self._bitrate) and link.bitrate != self._bitrate:
            raise OSError(
                errno.EINVAL,
                f"the interface is set to {link.bitrate} bit/s, expected {self._bitrate}: {again}",
            )
        if link.state == "bus-off":
            back = f"in {link.restart_ms} ms by itself" if link.restart_ms else "never by itself"
            raise OSError(
                errno.ENETDOWN,
                f"the controller is bus-off and comes back {back}: `ip link set CHANNEL type can restart`, "
                "set restart-ms, check bitrate and wiring",
            )
        if link.restart_ms == 0:
            log.warning(
                "can.no_restart", bus=self._name, do="set restart-ms, else bus-off stays until a reboot"
            )

    def _after(self, delay_s: float, call: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(delay_s, call)

    def _listen(self) -> None:
        """Let a frame wake the loop; say SILENT if none comes."""
        if self._bus is not None and not self._listening:
            asyncio.get_running_loop().add_reader(self._bus.fileno(), self._woken)
            self._listening = True
        if self.state is not BusState.SILENT:
            self._after(self._silent_s, lambda: self._turn(BusState.SILENT))

    def _rest(self) -> None:
        """Let no frame wake the loop."""
        if self._bus is not None and self._listening:
            asyncio.get_running_loop().remove_reader(self._bus.fileno())
            self._listening = False

    def _woken(self) -> None:
        wait_s = self._drained_at + self._drain_s - asyncio.get_running_loop().time()
        if wait_s > 0:
            self._rest()
            self._after(wait_s, self._drain)
        else:
            self._drain()

    def _drain(self) -> None:
        if self._bus is None:
            return
        at = self._now()
        self._drained_at = asyncio.get_running_loop().time()
        try:
            frames = self._bus.drain(BUDGET)
        except OSError as error:
            self._down(error)
            return
        if frames:
            self._take(frames, at)
        if self._profile.controller_changed:
            self._profile.controller_changed = False
            self._tell_controller()
        if self._profile.bus_off:
            self._profile.bus_off = False
            self._counts["bus_off"] += 1
            self._down(OSError(errno.ENETDOWN, "the controller is bus-off; set restart-ms, check the wiring"))
        elif len(frames) == BUDGET:
            self._rest()
            self._after(0, self._drain)
        elif frames and not self._listening:
            self._after(self._drain_s * (1 if len(frames) > FEW else 2), self._drain)
        else:
            self._listen()

    def _tell_controller(self) -> None:
        """An error frame came: say what state the controller is in, once for each."""
        try:
            link = CanLink() if self._bus is None else self._bus.link()
        except OSError:
            return  # it went; the next read says so
        if link.state != self._controller:
            say = log.info if link.state == "error-active" else log.warning
            say("can.controller", bus=self._name, state=link.state, tx=link.tx_errors, rx=link.rx_errors)
            self._controller = link.state

    def _take(self, frames: list[bytes], at: BootNs) -> None:
        self._reopen_s = REOPEN_FIRST_S
        self._turn(BusState.ACTIVE)
        for signal in self._profile.feed(frames, at):
            self._observe(signal)

    def _down(self, error: OSError) -> None:
        say = log.debug if self.state is BusState.DOWN else log.warning
        say("can.down", bus=self._name, error=str(error), again_in_s=self._reopen_s)
        self._counts["down"] += 1
        self.close()
        self._turn(BusState.DOWN)
        self._after(self._reopen_s, self.start)
        self._reopen_s = min(2 * self._reopen_s, REOPEN_MAX_S)

    def _turn(self, state: BusState) -> None:
        if state is self.state:
            return
        if self.state is BusState.DOWN:
            log.info("can.back", bus=self._name)
        self.state = state
        self._observe(CanBus(self._now(), self._name, state))


def opener(interface: str, channel: str, profile: CompiledProfile) -> Callable[[], BusHandle]:
    """How to open the bus that a configuration names, for the frames of a profile."""
    return partial(open_bus, interface, channel, profile.filters(), fd=profile.fd)


def open_bus(
    interface: str, channel: str, filters: Sequence[tuple[int, int]] = EVERY_FRAME, *, fd: bool = False
) -> BusHandle:
    """Open a bus to listen: ``socketcan``, ``simcan``, or python-can's name. SocketCAN filters in the kernel.

    CAN FD frames are read with ``fd`` only.

    Raises:
        OSError: it cannot be opened.
    """
    if interface == "socketcan":
        return open_socketcan(channel, filters, fd=fd)
    if interface == "simcan":
        return open_simcan(channel)
    from drivers.ports.python_can import PythonCanBus  # 170 ms and 18 MiB: only where it is needed

    return PythonCanBus(interface, channel, fd=fd)
