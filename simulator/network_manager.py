"""A double of NetworkManager on a private bus: switches that obey, are slow, or do not move.

It answers what agent/network_manager.py asks, as NetworkManager 1.42 does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, cast

from dbus_fast import Message, MessageType, RequestNameReply, Variant
from dbus_fast.aio import MessageBus

NAME = "org.freedesktop.NetworkManager"
ROOT = "/org/freedesktop/NetworkManager"
PROPERTIES = "org.freedesktop.DBus.Properties"
READ_ONLY = "NetworkingEnabled"


class NetworkManagerDouble:
    """NetworkManager for one rig, on the bus at ``address``."""

    def __init__(self, address: str, *, on_call: Callable[[str], None] = lambda _member: None) -> None:
        self.switches = {"NetworkingEnabled": True, "WirelessEnabled": True, "WwanEnabled": True}
        self.stuck: set[str] = set()  # switches that say yes and do not move
        self.after_s = 0.0  # how long a switch takes
        self.refuse: dict[str, str] = {}  # member -> D-Bus error name
        self.sets: list[tuple[str, bool]] = []
        self.on_call = on_call  # told of every call, and of every switch that moved
        self._address = address
        self._bus: MessageBus | None = None

    async def start(self) -> None:
        """Connect and take the name. Raises RuntimeError: it is taken."""
        self._bus = await MessageBus(bus_address=self._address).connect()
        self._bus.add_message_handler(self._handle)
        if await self._bus.request_name(NAME) is not RequestNameReply.PRIMARY_OWNER:
            raise RuntimeError(f"{NAME} is already owned on {self._address}; is this the real system bus?")

    async def stop(self) -> None:
        if self._bus is not None:
            self._bus.disconnect()
            with contextlib.suppress(EOFError, OSError):  # the bus went first
                await cast(Any, self._bus).wait_for_disconnect()
            self._bus = None

    def move(self, switch: str, *, on: bool) -> None:
        """A switch moves, by us or by somebody else."""
        if self.switches[switch] != on and self._bus is not None:
            self.switches[switch] = on
            changed = {switch: Variant("b", on)}
            self._bus.send(
                Message.new_signal(ROOT, PROPERTIES, "PropertiesChanged", "sa{sv}as", [NAME, changed, []])
            )
            self.on_call("PropertiesChanged")

    def _handle(self, message: Message) -> Message | bool | None:
        if message.message_type is not MessageType.METHOD_CALL or message.path != ROOT:
            return None
        member, body = str(message.member), message.body
        self.on_call(member)
        if error := self.refuse.get(member):
            return Message.new_error(message, error, "refused by the rig")
        match member:
            case "GetAll":
                values = {name: Variant("b", on) for name, on in self.switches.items()}
                return Message.new_method_return(message, "a{sv}", [values])
            case "Set" if body[1] != READ_ONLY:
                self._set(body[1], on=body[2].value)
            case "Enable" if self.switches[READ_ONLY] != body[0]:
                self._set(READ_ONLY, on=body[0])
            case "Enable":
                error = f"{NAME}.AlreadyEnabledOrDisabled"
                return Message.new_error(message, error, "Already enabled or disabled")
            case _:
                return Message.new_error(message, "org.freedesktop.DBus.Error.UnknownMethod", member)
        return Message.new_method_return(message)

    def _set(self, switch: str, *, on: bool) -> None:
        self.sets.append((switch, on))
        if switch not in self.stuck:
            asyncio.get_running_loop().call_later(self.after_s, lambda: self.move(switch, on=on))
