"""A connection to the system bus on the asyncio loop: calls, signals of trusted senders, reconnection.

A call is written to the socket before ``call`` returns, so that a lock does not wait for another turn of
the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog
from jeepney import DBusAddress, HeaderFields, Message, MessageType, new_method_call
from jeepney.auth import AuthenticationError
from jeepney.bus import get_bus
from jeepney.fds import FileDescriptor

from agent.dbus_wire import BusError, Wire, authenticate
from agent.logs import Cycle

CALL_TIMEOUT_S = 5.0  # ours: logind answers in milliseconds; libdbus itself would wait 25 s
CONNECT_TIMEOUT_S = 5.0  # ours
# Ours: a lock may be waiting for a bus that comes back late, and to try a local socket costs nothing.
BACKOFF_FIRST_S, BACKOFF_MAX_S = 0.25, 1.0
PENDING_MAX = 256  # calls, ours

DRIVER = "org.freedesktop.DBus"
_DRIVER = DBusAddress("/org/freedesktop/DBus", bus_name=DRIVER, interface=DRIVER)

log = structlog.get_logger()

Reply = tuple[Any, ...]
OnSignal = Callable[[str, Reply], None]  # object path, arguments


class BusDown(BusError):
    """There is no connection to the bus."""


class CallRefused(BusError):
    """The peer answered with an error; ``name`` is the D-Bus error name."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{text or 'no words given'} ({name})")
        self.name = name


class CallTimeout(BusError):
    """The peer did not answer in time."""


class LocalProtocolError(BusError):
    """We asked for something that the protocol or our own bounds do not allow."""


@dataclass(frozen=True, slots=True)
class _Subscription:
    sender: str
    interface: str
    member: str
    namespace: str
    callback: OnSignal

    def rule(self) -> str:
        return (
            f"type='signal',sender='{self.sender}',interface='{self.interface}',"
            f"member='{self.member}',path_namespace='{self.namespace}'"
        )

    def wants(self, interface: str, member: str, path: str) -> bool:
        return (
            (interface, member) == (self.interface, self.member)
            and f"{path}/".startswith(f"{self.namespace.rstrip('/')}/")
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Watch:
    name: str
    appeared: Callable[[], None]
    vanished: Callable[[], None]


class Bus:
    """One connection, kept up. Calls are written at once; what comes of them comes later.

    Signals are delivered only when their sender owns the name subscribed to: on the system bus anybody
    may send a signal to anybody, so a forged PrepareForSleep or LockedHint would else be believed.

    Args:
        jitter: a number in [0, 1) for each reconnection delay.
        address: a D-Bus address; None is the system bus, by DBUS_SYSTEM_BUS_ADDRESS or the default.
    """

    def __init__(self, jitter: Callable[[], float], address: str | None = None) -> None:
        self._jitter = jitter
        self._address = address
        self._wire: Wire | None = None
        self._ready = False
        self._lost = asyncio.Event()
        self._tried = asyncio.Event()
        self._serials = itertools.count(1)
        self._pending: dict[int, tuple[asyncio.Future[Reply], asyncio.TimerHandle]] = {}
        self._subscriptions: list[_Subscription] = []
        self._watches: list[_Watch] = []
        self._owners: dict[str, str] = {}
        self._outage = Cycle(log, "bus.unreachable")
        self._task: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        return self._ready

    def subscribe(self, sender: str, interface: str, member: str, namespace: str, callback: OnSignal) -> None:
        """Deliver the signal ``member`` of the objects at and below ``namespace``. Before ``start``."""
        self._subscriptions.append(_Subscription(sender, interface, member, namespace, callback))

    def watch(self, name: str, appeared: Callable[[], None], vanished: Callable[[], None]) -> None:
        """Tell when a service comes and goes; a lost connection counts as gone. Before ``start``."""
        self._watches.append(_Watch(name, appeared, vanished))

    def start(self) -> None:
        """Connect in the background, and keep connected."""
        self._task = asyncio.create_task(self._keep_connected(), name="system bus")

    async def tried(self) -> None:
        """Wait for the end of the first attempt to connect, whatever came of it."""
        await self._tried.wait()

    async def close(self) -> None:
        """Stop; calls under way fail with BusDown."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        self._drop(BusDown("we closed the connection to the system bus"))

    def call(self, message: Message, timeout_s: float = CALL_TIMEOUT_S) -> asyncio.Future[Reply]:
        """Send a method call, before returning; the future brings its reply or a BusError."""
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        # Whoever is no longer interested in a call (superseded, cancelled) need not collect its error.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        if self._wire is None:
            future.set_exception(BusDown("no connection to the system bus; is dbus running?"))
        elif len(self._pending) >= PENDING_MAX:
            future.set_exception(LocalProtocolError(f"{PENDING_MAX} calls are already waiting for the bus"))
        else:
            serial = next(self._serials)
            what = f"{message.header.fields.get(HeaderFields.member)}: no answer in {timeout_s:g} s"
            timer = future.get_loop().call_later(timeout_s, self._fail, serial, CallTimeout(what))
            self._pending[serial] = future, timer
            self._wire.send(message.serialise(serial=serial))
        return future

    async def _keep_connected(self) -> None:
        attempts = 0
        while True:
            self._lost.clear()
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    await self._connect()
            except (
                OSError,
                TimeoutError,
                BusError,
                AuthenticationError,
                RuntimeError,
                ValueError,
            ) as problem:
                self._outage.failed(error=str(problem) or type(problem).__name__)
                self._drop(BusDown(f"no connection to the system bus: {problem}"))
            else:
                attempts = 0
                self._outage.ended()
                self._tried.set()
                await self._lost.wait()
                self._outage.failed(error="connection lost")
            self._tried.set()
            attempts += 1
            await asyncio.sleep(min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** min(attempts, 10)) * self._jitter())

    async def _connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, get_bus(self._address or "SYSTEM"))
            await authenticate(sock)
        except BaseException:
            sock.close()
            raise
        self._wire = Wire(sock, self._received, self._wire_lost)
        await self.call(new_method_call(_DRIVER, "Hello"))
        await self._subscribe_all()
        self._ready = True
        for watch in self._watches:
            if watch.name in self._owners:
                watch.appeared()

    async def _subscribe_all(self) -> None:
        names = {s.sender for s in self._subscriptions} | {w.name for w in self._watches}
        rules = [f"type='signal',sender='{DRIVER}',member='NameOwnerChanged',arg0='{name}'" for name in names]
        rules += [subscription.rule() for subscription in self._subscriptions]
        calls = [self.call(new_method_call(_DRIVER, "AddMatch", "s", (rule,))) for rule in rules]
        for call in calls:
            await call
        for name in names:
            with contextlib.suppress(CallRefused):  # nobody owns it yet: NameOwnerChanged will tell
                (self._owners[name],) = await self.call(
                    new_method_call(_DRIVER, "GetNameOwner", "s", (name,))
                )

    def _wire_lost(self) -> None:
        self._drop(BusDown("the connection to the system bus was lost"))
        self._lost.set()

    def _drop(self, why: BusError) -> None:
        if self._wire is not None:
            self._wire.close()
            self._wire = None
        for serial in list(self._pending):
            self._fail(serial, why)
        was_ready, self._ready = self._ready, False
        owners, self._owners = self._owners, {}
        for watch in self._watches:
            if was_ready and watch.name in owners:
                watch.vanished()

    def _fail(self, serial: int, why: BusError) -> None:
        future, timer = self._pending.pop(serial)
        timer.cancel()
        if not future.done():
            future.set_exception(why)

    def _received(self, message: Message) -> None:
        kind, fields, body = message.header.message_type, message.header.fields, message.body
        if kind is MessageType.signal:
            sender = fields.get(HeaderFields.sender, "")
            interface, member = fields[HeaderFields.interface], fields[HeaderFields.member]
            self._signal(sender, interface, member, fields[HeaderFields.path], body)
        elif kind in (MessageType.method_return, MessageType.error):
            future, timer = self._pending.pop(fields[HeaderFields.reply_serial], (None, None))
            if timer is not None:
                timer.cancel()
            if future is not None and not future.done():
                if kind is MessageType.method_return:
                    future.set_result(body)
                    return
                future.set_exception(_refusal(message))
        _close_descriptors(body)  # of a message that nobody waits for

    def _signal(self, sender: str, interface: str, member: str, path: str, body: Reply) -> None:
        if sender == DRIVER and member == "NameOwnerChanged":
            self._owner_changed(*body)
            return
        for subscription in self._subscriptions:
            if subscription.wants(interface, member, path) and sender == self._owners.get(
                subscription.sender
            ):
                subscription.callback(path, body)

    def _owner_changed(self, name: str, old: str, new: str) -> None:
        self._owners.pop(name, None)
        if new:
            self._owners[name] = new
        for watch in self._watches:
            if self._ready and watch.name == name:
                if old:
                    watch.vanished()
                if new:
                    watch.appeared()


def _refusal(message: Message) -> CallRefused:
    name = str(message.header.fields.get(HeaderFields.error_name, "unnamed"))
    text = message.body[0] if message.body and isinstance(message.body[0], str) else ""
    return CallRefused(name, text)


def _close_descriptors(body: Reply) -> None:
    for value in body:
        if isinstance(value, FileDescriptor):
            value.close()
