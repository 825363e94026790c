"""A tablet's dock switch: moves with the seat, bounces when it is worn."""

from __future__ import annotations

from dataclasses import dataclass

from drivers.docks.dock_switch.codec import EV_SYN, SYN_DROPPED, Event, switched


@dataclass
class DockSwitch:
    """Every act returns what the kernel writes to readers of the device."""

    docked: bool = True

    def move(self, docked: bool) -> bytes:
        """Nothing where it stands already: the kernel tells of changes only."""
        if docked is self.docked:
            return b""
        self.docked = docked
        return switched(docked)

    def bounce(self, times: int) -> bytes:
        return b"".join(self.move(not self.docked) for _ in range(2 * times))

    def overrun(self, docked: bool) -> bytes:
        """It moved while nobody read: the kernel says only that events were lost."""
        self.docked = docked
        return Event(EV_SYN, SYN_DROPPED, 0).encode()

    def state(self) -> bytes:
        """What a look at the switch gives, as the event that would lead there."""
        return switched(self.docked)
