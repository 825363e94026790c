"""`ivmactl vehicle check | detect | calibrate`, for whoever fits a tablet. It listens and never sends."""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import select
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from agent.core.types import BootNs
from drivers import registry
from drivers.ports.can import BusHandle, open_bus
from drivers.vehicles.codec import Profile, pack
from drivers.vehicles.detect import Detector, Fit
from drivers.vehicles.profile import load
from drivers.vehicles.tables import ProfileError

OK, NOT_WELL = 0, 1  # docs/operating.md
BUDGET = 512  # frames in one go
_LINE = re.compile(r"\((?P<s>\d+\.\d+)\) (?P<bus>\S+) (?P<id>[0-9A-Fa-f]{3,8})#(?P<data>(?:[0-9A-Fa-f]{2})*)")


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """The verbs `vehicle` and `can` with their parsers."""
    vehicle = commands.add_parser("vehicle", help="vehicle profiles: check one, or find the one that fits")
    verbs = vehicle.add_subparsers(required=True, metavar="WHAT")
    check = verbs.add_parser(
        "check", parents=[common], help="say whether a profile is good, and what is read"
    )
    check.add_argument("profile", metavar="PROFILE", help="a registered name, or a path to a TOML file")
    check.set_defaults(run=_check, connect=_nobody)
    detect = verbs.add_parser("detect", parents=[common], help="listen, and rank the profiles that fit")
    detect.add_argument("--interface", default="socketcan", metavar="NAME", help="[socketcan]")
    detect.add_argument("--channel", default="can0", metavar="NAME", help="[can0]")
    detect.add_argument("--seconds", type=float, default=10.0, metavar="S", help="how long to listen [10]")
    detect.add_argument("--log", type=Path, metavar="FILE", help="a candump log instead of a bus")
    detect.add_argument("--bus", metavar="NAME", help="of a log with several buses, only this one")
    detect.set_defaults(run=_detect, connect=_nobody)
    calibrate = verbs.add_parser(
        "calibrate", parents=[common], help="correct the dock's voltage by an installer's meter; root"
    )
    step = calibrate.add_mutually_exclusive_group(required=True)
    step.add_argument("--rest", type=float, metavar="V", help="meter at the battery, engine and loads off")
    step.add_argument(
        "--load", type=float, metavar="V", help="the same with the tablet charging; after --rest"
    )
    step.add_argument("--undo", action="store_true", help="believe the dock's own voltage again")
    calibrate.set_defaults(run=_calibrate)
    from drivers import can_cli  # it uses ``find``

    can_cli.add(commands, common)


class Agent(Protocol):
    def ask(self, verb: str, reason: str | None, args: dict[str, object]) -> Any: ...


def _nobody(_path: Path, user: str | None = None) -> contextlib.AbstractContextManager[None]:
    """No agent is needed."""
    return contextlib.nullcontext()


def find(name: str) -> Profile:
    """A registered profile, or one of a file.

    Raises:
        ProfileError: there is none, or it is bad.
    """
    if "/" in name or name.endswith(".toml"):
        return load(Path(name))
    try:
        offered: Any = registry.load(registry.VEHICLES, name)
    except registry.NotRegisteredError as error:
        raise ProfileError(f"{error}; or give the path of a TOML file") from None
    profile: Profile = offered()
    return profile


# --- check ----------------------------------------------------------------------------------------


def _check(_client: None, options: argparse.Namespace) -> int:
    try:
        profile = find(options.profile)
    except ProfileError as error:
        return _failed(str(error))
    if options.json:
        print(json.dumps(_described(profile)))
        return OK
    print(f"{profile.name}: good; {profile.title}")
    for frame in profile.frames:
        number = f"PGN {frame.pgn}" if frame.pgn is not None else f"0x{frame.can_id:03X}"
        checks = [word for word, has in (("counter", frame.counter), ("checksum", frame.checksum)) if has]
        says = ", ".join(signal.kind.value for signal in frame.signals)
        print(
            f"  {number} {frame.name}: {says}; every {frame.period_ms} ms; "
            f"{' and '.join(checks) or 'no check'}"
        )
    for source in profile.sources:
        print(f"  source: {source}")
    for recording in profile.recordings:
        print(f"  tried with: {recording}")
    if not profile.recordings:
        print("  UNPROVEN: no recording supports it; record yours through off, on, crank and run")
    return OK


def _described(profile: Profile) -> dict[str, object]:
    return {
        "name": profile.name,
        "title": profile.title,
        "sources": profile.sources,
        "recordings": profile.recordings,
        "proven": bool(profile.recordings),
        "frames": [
            {
                "name": frame.name,
                "bus": frame.bus,
                "id": frame.can_id,
                "pgn": frame.pgn,
                "period_ms": frame.period_ms,
                "signals": [signal.kind.value for signal in frame.signals],
                "counter": frame.counter is not None,
                "checksum": frame.checksum is not None,
            }
            for frame in profile.frames
        ],
    }


# --- calibrate ------------------------------------------------------------------------------------


def _calibrate(client: Agent, options: argparse.Namespace) -> int:
    args: dict[str, object] = {"undo": True}
    for name in ("rest", "load"):
        volts = getattr(options, name)
        if volts is not None:
            if not 0 < volts < 100:
                return _failed(f"--{name}: expected volts, such as 12.64, came {volts}")
            args = {f"{name}_mv": round(volts * 1000)}
    said = client.ask("vehicle.calibrate", options.reason, args)
    if options.json:
        print(json.dumps(said))
        return OK
    print(
        f"{said['dock']}: it says {said['dock_mv'] / 1000:.2f} V, taken for {said['shown_mv'] / 1000:.2f} V: "
        f"offset {said['offset_mv']} mV, cable {said['cable_mohm']} mOhm"
    )
    if options.rest is not None:
        print("now let the tablet charge from low, measure again, and give --load")
    return OK


# --- detect ---------------------------------------------------------------------------------------


def _detect(_client: None, options: argparse.Namespace) -> int:
    detector = Detector([find(name) for name in registry.names(registry.VEHICLES)])
    try:
        if options.log is not None:
            for at, frame in _logged(options.log, options.bus):
                detector.feed([frame], at)
        else:
            _listen(detector, options.interface, options.channel, options.seconds)
    except (OSError, ValueError) as error:
        return _failed(str(error))
    ranking = detector.ranking()
    if options.json:
        print(json.dumps({"heard": detector.heard, "ranking": [_fit(fit) for fit in ranking]}))
    else:
        print(f"{detector.heard} frames heard")
        for fit in ranking:
            print(f"  {fit.weight:3} {fit.profile}: {fit.because}")
        if not ranking or not ranking[0].weight:
            print("no profile fits; `generic` goes without CAN; see docs/adding-a-vehicle.md to add one")
    return OK if ranking and ranking[0].weight else NOT_WELL


def _fit(fit: Fit) -> dict[str, object]:
    return {
        "profile": fit.profile,
        "weight": fit.weight,
        "because": fit.because,
        "frames": [
            {"name": frame.name, "heard": frame.heard, "refused": frame.refused, "says": frame.says}
            for frame in fit.frames
        ],
    }


def _listen(detector: Detector, interface: str, channel: str, seconds: float) -> None:
    """Feed what a bus carries for a while.

    Raises:
        OSError: it cannot be opened, would acknowledge frames, or went away.
    """
    bus: BusHandle = open_bus(interface, channel)
    try:
        if bus.link().listen_only is False:
            raise OSError(
                f"{channel} acknowledges frames; set it to listen only first: "
                f"ip link set {channel} down; ip link set {channel} up type can bitrate RATE listen-only on"
            )
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if select.select([bus.fileno()], [], [], left)[0]:
                detector.feed(bus.drain(BUDGET), BootNs(time.clock_gettime_ns(time.CLOCK_BOOTTIME)))
    finally:
        bus.close()


def _logged(path: Path, bus: str | None) -> Iterator[tuple[BootNs, bytes]]:
    """Time and frame of each line of a candump log.

    Raises:
        OSError: it cannot be read.
        ValueError: a line is not of that format; CAN FD frames are passed over.
    """
    with path.open() as lines:
        for number, line in enumerate(lines, 1):
            if "##" in line:
                continue
            match = _LINE.match(line)
            if match is None or len(match["data"]) > 16:
                raise ValueError(f"{path}, line {number}: expected candump -L's format, such as "
                                 f"`(1.250000) can0 3C0#11223344`, came {line.strip()[:60]!r}")  # fmt: skip
            if bus is None or match["bus"] == bus:
                frame = pack(
                    int(match["id"], 16), bytes.fromhex(match["data"]), extended=len(match["id"]) > 3
                )
                yield BootNs(round(float(match["s"]) * 1e9)), frame


def _failed(words: str) -> int:
    print(f"ivmactl: {words}", file=sys.stderr)
    return NOT_WELL
