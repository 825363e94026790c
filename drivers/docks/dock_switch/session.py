"""The tablet's own dock switch, SW_DOCK: a hint of the seat. Sans-IO.

The switch is the tablet's, so its way to the agent is short; what closes it is a magnet or a finger.
"""

from __future__ import annotations

from collections import Counter

from agent.core.types import (
    BootNs,
    Counters,
    DockHint,
    DockLinkLost,
    DockLinkUp,
    HintKind,
    LinkLoss,
    Observation,
)
from drivers.docks.dock_switch.codec import EV_SW, EV_SYN, SW_DOCK, SYN_DROPPED, Decoder
from drivers.listening import ListeningSession
from drivers.spec import DockSettings, Entropy


class DockSwitchSession(ListeningSession):
    """Implements ``drivers.spec.DockSession``. It has no outputs."""

    def __init__(self, settings: DockSettings, _entropy: Entropy) -> None:
        super().__init__(settings.name)
        self._decoder = Decoder()
        self._counts: Counter[str] = Counter()

    def link_up(self, at: BootNs) -> list[Observation]:
        self._decoder = Decoder()
        return [DockLinkUp(at, self._name)]

    def link_lost(self, at: BootNs, reason: LinkLoss) -> list[Observation]:
        return [DockLinkLost(at, self._name, reason)]

    def feed(self, data: bytes, at: BootNs) -> list[Observation]:
        """Only the last word counts; after events were lost none does until the next."""
        seated: bool | None = None
        told = False
        for event in self._decoder.feed(data):
            if event.type == EV_SW and event.code == SW_DOCK:
                seated, told = bool(event.value), True
            elif event.type == EV_SYN and event.code == SYN_DROPPED:
                self._counts["events_lost"] += 1
                seated, told = None, True
            elif event.type not in (EV_SW, EV_SYN):
                self._counts["other_events"] += 1
        return [DockHint(at, self._name, HintKind.SWITCH, seated=seated)] if told else []

    def counters(self) -> Counters:
        return Counters(dict(self._counts))
