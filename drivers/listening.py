"""What a dock session is that only listens: it has nothing to send, to drive, or to wait for."""

from __future__ import annotations

from agent.core.types import BootNs, DriveOutputs, Observation


class ListeningSession:
    """The part of ``drivers.spec.DockSession`` that is the same for every source without outputs."""

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    def timer(self, at: BootNs) -> list[Observation]:
        return []

    def next_deadline(self) -> BootNs | None:
        return None

    def drive(self, wanted: DriveOutputs, at: BootNs) -> None:
        """It has no outputs."""

    def cut_power(self, seconds: int | None, at: BootNs) -> None:
        """It cannot."""

    def prove(self, at: BootNs) -> None:
        """There is nothing that it could prove by."""

    def outgoing(self) -> bytes:
        return b""
