"""Leave to record a vehicle's bus: root's, where the configuration allows it, and itself recorded.

The recording is made by `ivmactl`, not by the agent: nothing of it touches what the agent decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agent.config import Can
from agent.control import Caller, Refusal, Verb
from agent.core.catalogue import CAN_RECORDED, CAN_RECORDING
from agent.core.records import Record
from agent.core.types import BootNs

SECONDS_MAX = 600  # ours: a start, a drive round the yard and a stop
SIZE_MIN, SIZE_MAX = 1 << 20, 64 << 20  # bytes, ours: a full bus for ten minutes is some 120 MB as candump

Filters = Sequence[tuple[int, int]]


class CanDesk:
    """The verbs. ``listened``: id and mask of what the agent itself listens for on each bus; and CAN FD."""

    def __init__(
        self,
        buses: Sequence[Can],
        listened: Mapping[str, Filters],
        fd: Mapping[str, bool],
        record: Callable[[Record], None],
        now: Callable[[], BootNs],
    ) -> None:
        self._buses = {bus.name: bus for bus in buses}
        self._listened = listened
        self._fd = fd
        self._record = record
        self._now = now

    def verbs(self) -> dict[str, Verb]:
        return {
            "can.record": Verb(self._begin, changes=True, consults=True, with_caller=True),
            "can.recorded": Verb(self._end, changes=True, with_caller=True),
        }

    def _begin(self, args: Mapping[str, Any], caller: Caller) -> object:
        bus = self._allowed(args, caller)
        seconds = _whole(args, "seconds", 1, SECONDS_MAX)
        size = _whole(args, "size", SIZE_MIN, SIZE_MAX)
        everything = args.get("all") is True
        filters = [] if everything else list(self._listened.get(bus.name, ()))
        if not everything and not filters:
            raise Refusal(
                "refused", f"no profile reads bus {bus.name}", "give --all to record every frame of it"
            )
        self._record(
            CAN_RECORDING.make(
                self._now(), bus=bus.name, scope="all" if everything else "profile", seconds=seconds,
                size=size, uid=caller.peer.uid,
            )
        )  # fmt: skip
        return {
            "interface": bus.interface,
            "channel": bus.channel,
            "filters": filters,
            "fd": self._fd.get(bus.name, False),
        }

    def _end(self, args: Mapping[str, Any], caller: Caller) -> object:
        bus = self._allowed(args, caller)
        numbers = {name: _whole(args, name, 0, 1 << 40) for name in ("frames", "size", "dropped")}
        self._record(CAN_RECORDED.make(self._now(), bus=bus.name, uid=caller.peer.uid, **numbers))
        return {}

    def _allowed(self, args: Mapping[str, Any], caller: Caller) -> Can:
        if caller.peer.uid != 0:
            raise Refusal("forbidden", "only root may record a bus", "ask as root")
        bus = self._buses.get(str(args.get("bus")))
        if bus is None:
            known = ", ".join(self._buses) or "none"
            raise Refusal("bad_request", f"no bus {args.get('bus')!r}", f"configured: {known}")
        if not bus.record:
            raise Refusal(
                "forbidden", f"recording of bus {bus.name} is off",
                "set `record = true` under its [[can]], restart the agent, and take it out again afterwards",
            )  # fmt: skip
        return bus


def _whole(args: Mapping[str, Any], name: str, least: int, most: int) -> int:
    value = args.get(name)
    if type(value) is not int or not least <= value <= most:
        raise Refusal("bad_request", f"{name}: expected {least} to {most}, came {value!r}", "give a number")
    return value
