"""Calibration of a dock's voltage against an installer's meter: offset at rest, cable drop under load.

The dock measures at its own terminals; what counts is the battery: ``dock + offset + R * current``.
It is applied to authenticated STATUS before the core sees it, and outlives a restart.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import structlog

from agent import durable
from agent.control import Caller, Refusal, Verb
from agent.core.catalogue import CALIBRATED
from agent.core.records import Record
from agent.core.types import SECOND, BootNs, DockStatus, Observation

FILE = "calibration.json"
METER_MV = (6000, 32_000)  # ours: from a tired 12 V battery to a charging 24 V one
# Ours. More is no tolerance of a divider, and no cable, but another battery or a bad contact.
OFFSET_MAX_MV = 1500
CABLE_MAX_MOHM = 2000
LOAD_STEP_MA = 300  # ours: less says nothing of a cable beside the meter's last digit
WINDOW_NS = 5 * SECOND  # what the dock said within it is averaged
SAMPLES_MIN = 5  # ours; STATUS comes at 5 Hz
STEADY_MV = 100  # ours: between the least and the most within the window

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Correction:
    """What to add to a dock's voltage. The rest measurement stays, for the one under load."""

    offset_mv: int = 0
    cable_mohm: int = 0
    rest_mv: int | None = None  # meter less dock, at rest
    rest_ma: int = 0  # the tablet's current then

    def of(self, mv: int, ma: int | None) -> int:
        return mv + self.offset_mv + self.cable_mohm * max(ma or 0, 0) // 1000


class Calibration:
    """Keeps a correction for each dock in ``folder``; ``record`` takes the audit record of each change."""

    def __init__(self, folder: Path, record: Callable[[Record], None], now: Callable[[], BootNs]) -> None:
        self._file = folder / FILE
        self._record = record
        self._now = now
        self._by_dock = _read(self._file)
        self._raw: deque[DockStatus] = deque(maxlen=256)

    def applied(self, seen: Observation) -> Observation:
        """An observation as the core is to have it."""
        if not isinstance(seen, DockStatus) or not seen.authenticated or seen.vehicle_mv is None:
            return seen
        self._raw.append(seen)
        correction = self._by_dock.get(seen.dock)
        if correction is None:
            return seen
        return replace(seen, vehicle_mv=max(0, correction.of(seen.vehicle_mv, seen.tablet_ma)))

    def status(self) -> dict[str, dict[str, int]]:
        return {
            name: {"offset_mv": each.offset_mv, "cable_mohm": each.cable_mohm}
            for name, each in self._by_dock.items()
        }

    def verbs(self) -> dict[str, Verb]:
        return {"vehicle.calibrate": Verb(self._calibrate, changes=True, with_caller=True)}

    # --- the verb ---

    def _calibrate(self, args: Mapping[str, Any], caller: Caller) -> object:
        if caller.peer.uid != 0:
            raise Refusal("forbidden", "only root may calibrate", "ask as root")
        wanted = [name for name in ("rest_mv", "load_mv", "undo") if args.get(name)]
        if len(wanted) != 1:
            raise Refusal("bad_request", "expected one of rest_mv, load_mv, undo", "one step at a time")
        dock, mv, ma = self._measured()
        before = self._by_dock.get(dock, Correction())
        (step,) = wanted
        if step == "undo":
            after = Correction()
        else:
            meter = args[step]
            if type(meter) is not int or not METER_MV[0] <= meter <= METER_MV[1]:
                raise Refusal(
                    "bad_request", f"{step}: expected {METER_MV[0]} to {METER_MV[1]} mV, came {meter!r}",
                    "read the meter at the battery's terminals",
                )  # fmt: skip
            after = (
                _at_rest(before, meter - mv, ma) if step == "rest_mv" else _under_load(before, meter - mv, ma)
            )
        self._keep(dock, after)
        self._record(
            CALIBRATED.make(
                self._now(), dock=dock, step=step.removesuffix("_mv"), offset_mv=after.offset_mv,
                cable_mohm=after.cable_mohm, offset_before_mv=before.offset_mv,
                cable_before_mohm=before.cable_mohm, dock_mv=mv, tablet_ma=ma,
                meter_mv=None if step == "undo" else args[step], uid=caller.peer.uid,
            )
        )  # fmt: skip
        return {"dock": dock, "dock_mv": mv, "tablet_ma": ma, "shown_mv": after.of(mv, ma), **_told(after)}

    def _measured(self) -> tuple[str, int, int | None]:
        """The dock that speaks, its voltage and the tablet's current, averaged."""
        since = self._now() - WINDOW_NS
        recent = [each for each in self._raw if each.at >= since]
        if recent:
            recent = [each for each in recent if each.dock == recent[-1].dock]
        volts = [each.vehicle_mv for each in recent if each.vehicle_mv is not None]
        if len(volts) < SAMPLES_MIN:
            raise Refusal(
                "silent", f"the dock said its voltage {len(volts)} times in 5 s, expected {SAMPLES_MIN}",
                "seat the tablet in its dock; see `ivmactl dock show`",
            )  # fmt: skip
        if max(volts) - min(volts) > STEADY_MV:
            raise Refusal(
                "refused", f"the voltage moved by {max(volts) - min(volts)} mV in 5 s, expected {STEADY_MV}",
                "engine off, nothing switched; wait until it is steady",
            )  # fmt: skip
        amps = [each.tablet_ma for each in recent if each.tablet_ma is not None]
        return recent[-1].dock, round(sum(volts) / len(volts)), round(sum(amps) / len(amps)) if amps else None

    def _keep(self, dock: str, correction: Correction) -> None:
        fresh = {**self._by_dock, dock: correction}
        if correction == Correction():
            del fresh[dock]
        try:
            durable.replace(self._file, json.dumps({name: asdict(each) for name, each in fresh.items()}))
        except OSError as error:
            raise Refusal("not_kept", f"{self._file}: {error.strerror}", "nothing was changed") from error
        self._by_dock = fresh


def _at_rest(before: Correction, difference: int, ma: int | None) -> Correction:
    """The cable is as it was known; with no load step yet it is nothing."""
    offset = difference - before.cable_mohm * max(ma or 0, 0) // 1000
    return _plausible(replace(before, offset_mv=offset, rest_mv=difference, rest_ma=max(ma or 0, 0)))


def _under_load(before: Correction, difference: int, ma: int | None) -> Correction:
    if before.rest_mv is None:
        raise Refusal("refused", "not measured at rest yet", "give --rest first, then --load")
    if ma is None or ma - before.rest_ma < LOAD_STEP_MA:
        raise Refusal(
            "refused", f"the tablet takes {ma} mA, at rest {before.rest_ma}: expected {LOAD_STEP_MA} more",
            "charge the tablet's battery from low, screen at its brightest, and measure again",
        )  # fmt: skip
    cable = round(1000 * (difference - before.rest_mv) / (ma - before.rest_ma))
    if cable < 0:
        raise Refusal(
            "refused", "under load the battery is nearer to the dock than at rest", "measure both anew"
        )
    offset = before.rest_mv - cable * before.rest_ma // 1000
    return _plausible(replace(before, offset_mv=offset, cable_mohm=cable))


def _plausible(correction: Correction) -> Correction:
    if abs(correction.offset_mv) > OFFSET_MAX_MV or correction.cable_mohm > CABLE_MAX_MOHM:
        raise Refusal(
            "refused",
            f"that would be {correction.offset_mv} mV and {correction.cable_mohm} mOhm; expected "
            f"{OFFSET_MAX_MV} mV and {CABLE_MAX_MOHM} mOhm at most",
            "measure at this vehicle's battery; look for a bad contact or a wrong fuse",
        )
    return correction


def _told(correction: Correction) -> dict[str, object]:
    return {"offset_mv": correction.offset_mv, "cable_mohm": correction.cable_mohm}


def _read(file: Path) -> dict[str, Correction]:
    """What is kept; a file that cannot be used is said and left alone: the dock's own voltage counts then."""
    try:
        read = {name: Correction(**values) for name, values in json.loads(file.read_text()).items()}
        if all(
            type(each.offset_mv) is int is type(each.cable_mohm)
            and abs(each.offset_mv) <= OFFSET_MAX_MV
            and 0 <= each.cable_mohm <= CABLE_MAX_MOHM
            for each in read.values()
        ):
            return read
        problem = "a value is out of bounds"
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        problem = str(error)
    log.error(
        "calibration.bad", file=str(file), problem=problem, effect="none is applied",
        do="calibrate again: `ivmactl vehicle calibrate`",
    )  # fmt: skip
    return {}
