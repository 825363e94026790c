"""The clocks that the world's inhabitants read."""

from __future__ import annotations

from agent.core.types import BootNs
from simulator.virtual.agenda import Agenda

EPOCH_NS = 1_792_000_000 * 1_000_000_000  # ours: the wall time at the world's beginning, in October 2026


class Clock:
    """World time, the tablet's boot clock, and its wall clock, which can be wrong.

    The boot clock begins at 0 with each boot and counts through suspend, as CLOCK_BOOTTIME does.
    """

    def __init__(self, agenda: Agenda) -> None:
        self._agenda = agenda
        self.booted_at = BootNs(0)  # world time of the tablet's latest boot
        self.synced = True  # a time service keeps the wall clock
        self._off_ns = 0

    def world(self) -> BootNs:
        return self._agenda.now

    def boot(self) -> BootNs:
        """The tablet's CLOCK_BOOTTIME now."""
        return BootNs(self._agenda.now - self.booted_at)

    def wall_ns(self) -> int:
        return EPOCH_NS + self._agenda.now + self._off_ns

    def to_world(self, boot: BootNs) -> BootNs:
        """The world's time of a time of the current boot."""
        return BootNs(boot + self.booted_at)

    def step_wall(self, by_ns: int) -> None:
        """The wall clock jumps; the boot clock does not."""
        self._off_ns += by_ns
