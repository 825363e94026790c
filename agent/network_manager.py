"""NetworkManager (org.freedesktop.NetworkManager), the part of it that switches the network off and on."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable

from jeepney import DBusAddress, Properties, new_method_call

from agent.dbus import Bus, Reply
from agent.dbus_wire import RemoteProtocolError

NAME = "org.freedesktop.NetworkManager"
ROOT = "/org/freedesktop/NetworkManager"
_MANAGER = DBusAddress(ROOT, bus_name=NAME, interface=NAME)
_PROPERTIES = "org.freedesktop.DBus.Properties"


class Switch(enum.Enum):
    """What can be switched, by the property that says how it stands."""

    ALL = "NetworkingEnabled"
    WIFI = "WirelessEnabled"
    MOBILE = "WwanEnabled"


class NetworkManager:
    """Typed calls and signals over ``bus``. Subscribe before the bus is started."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def on_change(self, changed: Callable[[], None]) -> None:
        """Tell when a switch may stand otherwise than before, or the service came."""

        def properties(_path: str, body: Reply) -> None:
            if any(switch.value in body[1] for switch in Switch):
                changed()

        self._bus.subscribe(NAME, _PROPERTIES, "PropertiesChanged", ROOT, properties)
        self._bus.watch(NAME, changed, lambda: None)

    async def read(self) -> dict[Switch, bool]:
        """How every switch stands. Raises BusError."""
        (values,) = await self._bus.call(Properties(_MANAGER).get_all())
        try:
            return {switch: bool(values[switch.value][1]) for switch in Switch}
        except (KeyError, IndexError, TypeError) as missing:
            raise RemoteProtocolError(f"NetworkManager gave no usable {missing}") from missing

    def set(self, switch: Switch, *, on: bool) -> asyncio.Future[Reply]:
        """Ask for it; that it was done is to be read back."""
        if switch is Switch.ALL:  # the property is read-only, and Enable refuses what stands already
            return self._bus.call(new_method_call(_MANAGER, "Enable", "b", (on,)))
        return self._bus.call(Properties(_MANAGER).set(switch.value, "b", on))
