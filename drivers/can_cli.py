"""`ivmactl can record | stats | watch`: a vehicle's bus, for an engineer. It listens and never sends."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from agent.core.types import SECOND, BootNs
from drivers.can_listen import Heard, listen
from drivers.ports.can import EVERY_FRAME
from drivers.vehicles.cli import Agent, find
from drivers.vehicles.codec import CAN_FRAME, ERROR, EXTENDED
from drivers.vehicles.tables import ProfileError
from drivers.vehicles.watch import CompiledProfile

OK, NOT_WELL, REFUSED = 0, 1, 4  # docs/operating.md
# Bits of a frame without stuffing and with the gap after it: ISO 11898-1, data excepted.
HEAD_BITS = {False: 47, True: 67}
NOTICE = (
    "Raw frames can tell where a person drove and how. Keep the file as personal data, use it for\n"
    "the purpose that was recorded, and delete it."
)


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """The verb with its parsers."""
    can = commands.add_parser("can", help="a vehicle's bus: record it, count it, watch its signals")
    verbs = can.add_subparsers(required=True, metavar="WHAT")
    record = verbs.add_parser("record", parents=[common], help="frames to a file; root, and if allowed")
    record.add_argument("file", type=Path, metavar="FILE", help="a new file")
    record.add_argument("--bus", default="powertrain", metavar="NAME", help="[powertrain]")
    record.add_argument("--seconds", type=int, default=60, metavar="S", help="at most [60]")
    record.add_argument("--size", type=int, default=16, metavar="MIB", help="at most [16]")
    record.add_argument("--format", choices=("candump", "blf"), default="candump", help="[candump]")
    record.add_argument("--all", action="store_true", help="every frame, not only the profile's")
    record.set_defaults(run=_record)
    stats = verbs.add_parser("stats", parents=[common], help="frames a second by id, load, errors, drops")
    _where(stats, 10.0)
    stats.add_argument("--bitrate", type=int, metavar="B", help="for the load, where the kernel does not say")
    stats.set_defaults(run=_stats, connect=_nobody)
    watch = verbs.add_parser("watch", parents=[common], help="a profile's signals as they change")
    watch.add_argument("profile", metavar="PROFILE", help="a registered name, or a path to a TOML file")
    watch.add_argument("--bus", default="powertrain", metavar="NAME", help="the profile's bus [powertrain]")
    _where(watch, 3600.0)
    watch.set_defaults(run=_watch, connect=_nobody)


def _where(parser: argparse.ArgumentParser, seconds: float) -> None:
    parser.add_argument("--interface", default="socketcan", metavar="NAME", help="[socketcan]")
    parser.add_argument("--channel", default="can0", metavar="NAME", help="[can0]")
    parser.add_argument("--seconds", type=float, default=seconds, metavar="S", help=f"[{seconds:g}]")


def _nobody(_path: Path, user: str | None = None) -> contextlib.AbstractContextManager[None]:
    """No agent is needed."""
    return contextlib.nullcontext()


# --- record ---------------------------------------------------------------------------------------


def _record(client: Agent, options: argparse.Namespace) -> int:
    if os.geteuid() != 0:
        return _failed("only root may record a bus", REFUSED)
    args: dict[str, object] = {
        "bus": options.bus, "seconds": options.seconds, "size": options.size << 20, "all": options.all,
    }  # fmt: skip
    where = client.ask("can.record", options.reason, args)
    filters = [(int(number), int(mask)) for number, mask in where["filters"]] or list(EVERY_FRAME)
    from drivers.can_file import Recording  # python-can takes 170 ms: only to record

    heard = Heard()
    try:
        recording = Recording(options.file, options.format, where["channel"], options.size << 20)
    except OSError as error:
        _ended(client, options, 0, 0, heard)
        return _failed(str(error))
    problem = None
    try:
        frames = listen(
            where["interface"], where["channel"], options.seconds, heard, filters, fd=bool(where["fd"])
        )
        for batch in frames:
            if not recording.put(batch):
                break
    except KeyboardInterrupt:
        pass  # ended by hand: what there is is kept
    except OSError as error:
        problem = str(error)
    size = 0
    try:
        size = recording.end()
    except OSError as error:
        problem = str(error)
    _ended(client, options, recording.frames, size, heard)
    said = {"file": str(options.file), "frames": recording.frames, "bytes": size, "dropped": heard.dropped}
    if options.json:
        print(json.dumps(said | {"problem": problem}))
    else:
        print(f"{recording.frames} frames, {size} bytes in {options.file}; {heard.dropped} dropped")
        print(NOTICE)
    return OK if problem is None else _failed(problem)


def _ended(client: Agent, options: argparse.Namespace, frames: int, size: int, heard: Heard) -> None:
    args: dict[str, object] = {"bus": options.bus, "frames": frames, "size": size, "dropped": heard.dropped}
    client.ask("can.recorded", options.reason, args)


# --- stats ----------------------------------------------------------------------------------------


def _stats(_client: None, options: argparse.Namespace) -> int:
    heard, by_id = Heard(), Counter[tuple[int, bool]]()
    bits = errors = fd = 0
    try:
        for batch in listen(options.interface, options.channel, options.seconds, heard, fd=True):
            for _, raw in batch:
                word = int.from_bytes(raw[:4], sys.byteorder)
                if word & ERROR:
                    errors += 1
                    continue
                extended = bool(word & EXTENDED)
                by_id[word & (0x1FFF_FFFF if extended else 0x7FF), extended] += 1
                if len(raw) > CAN_FRAME.size:
                    fd += 1
                else:
                    bits += HEAD_BITS[extended] + 8 * raw[4]
    except OSError as error:
        return _failed(str(error))
    link, rate = heard.link, heard.link.bitrate or options.bitrate
    load = None if not rate else round(100 * bits / options.seconds / rate, 1)
    frames = sum(by_id.values())
    ids = {_named(*key): round(n / options.seconds, 1) for key, n in sorted(by_id.items())}
    said = {
        "frames": frames, "frames_per_s": round(frames / options.seconds, 1), "load_percent": load, "fd": fd,
        "error_frames": errors, "dropped": heard.dropped, "controller": link.state, "bitrate": rate,
        "tx_errors": link.tx_errors, "rx_errors": link.rx_errors, "listen_only": link.listen_only,
    }  # fmt: skip
    if options.json:
        print(json.dumps(said | {"ids": ids}))
    else:
        for name, value in said.items():
            print(f"{name.replace('_', ' '):14} {'not known' if value is None else value}")
        for name, per_s in ids.items():
            print(f"{name:>10} {per_s:8.1f}/s")
    return OK if frames else NOT_WELL


def _named(number: int, extended: bool) -> str:
    return f"{number:08X}" if extended else f"{number:03X}"


# --- watch ----------------------------------------------------------------------------------------


def _watch(_client: None, options: argparse.Namespace) -> int:
    try:
        profile = CompiledProfile(find(options.profile), options.bus)
    except ProfileError as error:
        return _failed(str(error))
    heard, shown, began = Heard(), dict[str, object](), 0
    try:
        batches = listen(
            options.interface, options.channel, options.seconds, heard, profile.filters(), fd=profile.fd
        )
        for batch in batches:
            began = began or batch[0][0]
            for at, raw in batch:
                for signal in profile.feed([raw], BootNs(at)):
                    value = getattr(signal.value, "value", signal.value)
                    if shown.get(signal.kind.value) == value:
                        continue
                    shown[signal.kind.value] = value
                    _show(options, (at - began) / SECOND, signal.kind.value, value)
    except KeyboardInterrupt:
        return OK
    except OSError as error:
        return _failed(str(error))
    refused = {k: n for k, n in profile.counters.values.items() if k != "frames" and n}
    if refused and not options.json:
        print(f"not believed: {', '.join(f'{name} {count}' for name, count in refused.items())}")
    return OK if shown else NOT_WELL


def _show(options: argparse.Namespace, at_s: float, kind: str, value: object) -> None:
    if options.json:
        print(json.dumps({"s": round(at_s, 3), "signal": kind, "value": value}), flush=True)
    else:
        print(f"{at_s:9.3f} s  {kind} {value}", flush=True)


def _failed(words: str, code: int = NOT_WELL) -> int:
    print(f"ivmactl: {words}", file=sys.stderr)
    return code
