"""The dock models and serial ports of this tablet, as pairing needs them."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from agent.core.types import BootNs
from drivers import registry
from drivers.pairing import PairingPort
from drivers.spec import DockSession, DockSpec

if TYPE_CHECKING:
    from drivers.ports.udev import Udev

MARK = {"IVMA_DOCK": "1"}  # set by systemd/60-ivma-dock.rules
# By these a port is found again, whatever its name is then: who made it, what it is, which one it is.
KEPT = ("ID_VENDOR_ID", "ID_MODEL_ID", "ID_SERIAL_SHORT")


class Dockyard:
    """``tapped`` puts the black box between a pairing and its wire."""

    def __init__(
        self,
        udev: Callable[[], Udev],
        now: Callable[[], BootNs],
        tapped: Callable[[DockSpec, DockSession], DockSession],
    ) -> None:
        self._udev = udev
        self._now = now
        self._tapped = tapped

    def open(self, model: str, path: str) -> PairingPort:
        """A port for pairing.

        Raises:
            LookupError: no such model, or it has no key to be given.
        """
        spec = dock_spec(model)
        return PairingPort(
            spec, lambda: path, self._now, secrets.token_bytes, lambda session: self._tapped(spec, session)
        )

    def version(self, model: str) -> int:
        return dock_spec(model).version

    def baud(self, model: str) -> int:
        return dock_spec(model).baud

    def docks(self) -> list[tuple[str, Mapping[str, str]]]:
        """Every port that the udev rules mark as a dock's, with what it is found again by."""
        return [(path, _kept(said)) for path, said in sorted(self._udev().all("tty", MARK).items())]

    def found(self, path: str) -> tuple[str, Mapping[str, str]]:
        """A port by its path; one that udev does not know is found again by its path only."""
        real = os.path.realpath(path)
        said = self._udev().all("tty", {"DEVNAME": real}).get(real, {})
        return (path, _kept(said))

    def locate(self, port: str | None, match: Mapping[str, str]) -> str | None:
        return port if port is not None else self._udev().find("tty", match)


def dock_spec(model: str) -> DockSpec:
    """What a model offers. Raises LookupError."""
    spec = registry.load(registry.DOCKS, model)
    if not isinstance(spec, DockSpec):
        raise registry.NotRegisteredError(f"`{model}` of {registry.DOCKS} is no DockSpec")
    return spec


def _kept(said: Mapping[str, str]) -> dict[str, str]:
    """Vendor and model at least; a port of which udev knows less is found by its path."""
    kept = {name: said[name] for name in KEPT if name in said}
    return kept if len(kept) >= 2 else {}
