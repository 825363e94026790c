"""The way between clients and a broker: in order, and late, held back, reset or cut off as its knobs say.

Conforms to ``simulator.faults.knobs.NetworkKnobs``. Time is that of the loops: ``loop`` is the world's, which
never stops; a client's own may be frozen, and then what arrives for it waits until it thaws.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from agent.core.types import SECOND
from simulator.virtual.mqtt_packets import CLOSED, RESET, Packet

Take = Callable[[Packet], None]
ROUND_S = 1e-6  # ours: what the loop's time as a float may be off
AT_ONCE = 0.0  # the time of arrival without a delay: no clock need be read


class Server(Protocol):
    """What listens at the far end."""

    running: bool

    def accept(self, link: Link) -> None:
        """A connection was made: set ``link.up.take``."""
        ...


class Way:
    """One direction of a connection. ``take`` gets the packets on the receiver's loop, in order."""

    __slots__ = ("_armed", "_loop", "_network", "_queue", "off", "take", "upwards")

    def __init__(self, network: Network, loop: asyncio.AbstractEventLoop, *, upwards: bool) -> None:
        self.take: Take | None = None
        self.off = False  # the receiver has closed: what comes now is lost
        self._network = network
        self._loop = loop
        self.upwards = upwards
        self._queue: deque[tuple[float, Packet]] = deque()  # bounded by what both ends keep unconfirmed
        self._armed = False

    def send(self, packet: Packet) -> None:
        if self.off:
            return
        due = self._network.arrival()
        if self._queue and self._queue[-1][0] > due:
            due = self._queue[-1][0]  # nothing overtakes
        self._queue.append((due, packet))
        self.arm()

    def reset(self) -> None:
        """Lose what is on its way, and tell the receiver at once."""
        if not self.off:
            self._queue.clear()
            self._queue.append((AT_ONCE, RESET))
            self._armed = True
            self._loop.call_soon(self._pump)

    def arm(self) -> None:
        """See to it that what waits arrives in its time, unless it is held back."""
        if self._armed or self.off or not self._queue or self._network.holds(self):
            return
        self._armed = True
        due = self._queue[0][0]
        if due == AT_ONCE:
            self._loop.call_soon(self._pump)
        else:
            self._loop.call_later(max(due - self._network.time(), 0.0), self._pump)

    def _pump(self) -> None:
        self._armed = False
        queue = self._queue
        while queue and not self.off:
            due, packet = queue[0]
            early = due != AT_ONCE and due > self._network.time() + ROUND_S
            if early or (packet is not RESET and self._network.holds(self)):
                self.arm()
                return
            queue.popleft()
            if packet is CLOSED or packet is RESET:
                self.off = True
            if self.take is not None:
                self.take(packet)


class Link:
    """A connection: ``up`` to the broker, ``down`` to the client, whose loop is ``client``."""

    def __init__(self, network: Network, client: asyncio.AbstractEventLoop) -> None:
        self.client = client
        self.up = Way(network, network.loop, upwards=True)
        self.down = Way(network, client, upwards=False)
        self._network = network

    def close_client(self) -> None:
        """The client's end closes; the broker learns of it after all that was sent before."""
        self.up.send(CLOSED)
        self.down.off = True
        self._network.links.pop(self, None)

    def close_broker(self) -> None:
        self.down.send(CLOSED)
        self.up.off = True
        self._network.links.pop(self, None)


class Network:
    """Carries connections to ``server``. ``covered`` is for the life: out of coverage nothing passes."""

    def __init__(self, loop: asyncio.AbstractEventLoop, server: Server) -> None:
        self.loop = loop
        self.delay_ns = 0
        self.links: dict[Link, None] = {}
        self._server = server
        self._cut = self._stall_up = self._stall_down = False
        self._covered = True
        self._held: dict[Way, None] = {}

    # --- knobs --------------------------------------------------------------------------------------

    @property
    def cut(self) -> bool:
        """Connections end and none can be made."""
        return self._cut

    @cut.setter
    def cut(self, on: bool) -> None:
        self._cut = on
        if on:
            self.drop()

    @property
    def stall_up(self) -> bool:
        """What clients send does not arrive, and arrives when this ends."""
        return self._stall_up

    @stall_up.setter
    def stall_up(self, on: bool) -> None:
        self._stall_up = on
        self._let_go()

    @property
    def stall_down(self) -> bool:
        """The same for what the broker sends."""
        return self._stall_down

    @stall_down.setter
    def stall_down(self, on: bool) -> None:
        self._stall_down = on
        self._let_go()

    @property
    def covered(self) -> bool:
        """Whether there is a signal; without one connections stand, half-open, and none can be made."""
        return self._covered

    @covered.setter
    def covered(self, on: bool) -> None:
        self._covered = on
        self._let_go()

    def drop(self) -> None:
        """Every connection ends with a reset."""
        for link in list(self.links):
            link.up.reset()
            link.down.reset()
        self.links.clear()

    def hang_up(self, client: asyncio.AbstractEventLoop) -> None:
        """The kernel closes the connections of a process that ended, which ran on this loop."""
        for link in [link for link in self.links if link.client is client]:
            link.close_client()

    def vanish(self, client: asyncio.AbstractEventLoop) -> None:
        """Power went: the process on this loop is gone and the broker is not told."""
        for link in [link for link in self.links if link.client is client]:
            link.down.off = True
            del self.links[link]

    # --- for both ends ------------------------------------------------------------------------------

    def dial(
        self,
        client: asyncio.AbstractEventLoop,
        take: Take,
        opened: Callable[[Link], None],
        failed: Callable[[str], None],
        timeout_s: float,
    ) -> asyncio.TimerHandle:
        """Connect: one of ``opened`` and ``failed`` is called on the client's loop. Cancel, and none is."""
        round_trip_s = 2 * self.delay_ns / SECOND
        if self._cut or not self._covered:
            return client.call_later(0.0, failed, "network is unreachable")
        if self._stall_up or self._stall_down or round_trip_s > timeout_s:
            return client.call_later(timeout_s, failed, "timed out")

        def arrived() -> None:
            if self._cut or not self._covered:
                failed("network is unreachable")
            elif not self._server.running:
                failed("connection refused")
            else:
                link = Link(self, client)
                link.down.take = take
                self.links[link] = None
                self._server.accept(link)
                opened(link)

        return client.call_later(round_trip_s, arrived)

    def time(self) -> float:
        return self.loop.time()

    def arrival(self) -> float:
        """When what is sent now arrives, in the world's time in seconds."""
        return self.loop.time() + self.delay_ns / SECOND if self.delay_ns else AT_ONCE

    def holds(self, way: Way) -> bool:
        """Whether this way is held back now; it is armed again when it no longer is."""
        if self._covered and not (self._stall_up if way.upwards else self._stall_down):
            return False
        self._held[way] = None
        return True

    def _let_go(self) -> None:
        held, self._held = self._held, {}
        for way in held:
            way.arm()
