"""The desktop notification: the fallback where no page can be shown (org.freedesktop.Notifications)."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Any

import structlog
from jeepney import DBusAddress, new_method_call

from agent.dbus import Bus
from agent.dbus_wire import BusError

NAME = "org.freedesktop.Notifications"
_NOTIFICATIONS = DBusAddress("/org/freedesktop/Notifications", bus_name=NAME, interface=NAME)
CRITICAL = 2  # urgency, Desktop Notifications Specification 1.2: is not hidden by itself
SETTLE_S = 2.0  # ours: a page that is opening needs none

log = structlog.get_logger()


class Toast:
    """Keeps one notification on the desktop while there is something to say and no page says it.

    Args:
        page_open: whether a page is shown.
        address: of the session's bus.
    """

    def __init__(self, page_open: Callable[[], bool], address: str) -> None:
        self._page_open = page_open
        self._bus = Bus(random.random, address)
        self._bus.watch(NAME, self._appeared, self._vanished)
        self._wanted: tuple[str, str] | None = None  # title, body
        self._shown: tuple[str, str] | None = None
        self._id = 0
        self._desktops = 0  # how many have gone
        self._stirred = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._bus.start()
        self._task = asyncio.create_task(self._keep(), name="desktop notification")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._bus.close()

    def say(self, title: str, body: str) -> None:
        self._want((title, body))

    def hush(self) -> None:
        """There is nothing to say."""
        self._want(None)

    def _want(self, wanted: tuple[str, str] | None) -> None:
        self._wanted = wanted
        self._stirred.set()

    def _appeared(self) -> None:
        self._stirred.set()

    def _vanished(self) -> None:
        self._shown, self._id = None, 0  # what it showed went with it, also what it was just answering
        self._desktops += 1
        self._stirred.set()

    async def _keep(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if self._wanted == self._shown else SETTLE_S):
                    await self._stirred.wait()
            self._stirred.clear()
            wanted = self._wanted
            if wanted is not None and self._shown is None:
                await asyncio.sleep(SETTLE_S)
            if self._page_open():
                wanted = None
            if wanted != self._shown and self._bus.connected:
                await self._show(wanted)

    async def _show(self, wanted: tuple[str, str] | None) -> None:
        desktop, number = self._desktops, 0
        try:
            if wanted is None:
                await self._bus.call(new_method_call(_NOTIFICATIONS, "CloseNotification", "u", (self._id,)))
            else:
                hints: dict[str, tuple[str, Any]] = {"urgency": ("y", CRITICAL)}
                no_actions: list[str] = []
                arguments = ("ivma-notice", self._id, "dialog-warning", *wanted, no_actions, hints, 0)
                call = new_method_call(_NOTIFICATIONS, "Notify", "susssasa{sv}i", arguments)
                (number,) = await self._bus.call(call)
        except BusError as error:
            log.debug("notice.no_notification", error=str(error))
            if wanted is not None:
                return
        if desktop == self._desktops:
            self._shown, self._id = wanted, number
