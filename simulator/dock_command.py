"""`ivma-sim dock`: the simulated dock on a real serial port, or on a pty, for an engineer at a desk."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from agent.core.types import BootNs
from simulator.docks.reference import Identity, PairFault, ReferenceDock
from simulator.docks.serial_device import PtyPlug, SerialDevice, open_port

HELP = """commands, one a line:
  seated|mated|kl15|latch_jammed on|off|unknown      vehicle_mv|dock_mv|tablet_ma|temperature_dc N|unknown
  service on|off      pair_cut before|after|off: a brown-out at the next PAIR
  reset      brown_out      status      help      quit"""
_WORDS: dict[str, bool | None] = {"on": True, "off": False, "unknown": None}
LINE_LIMIT = 1024  # bytes of a command line; ours


def add_parser(sub: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = sub.add_parser(
        "dock", help="play the reference dock on a serial port", description=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--port", help="serial port to speak on, such as /dev/ttyUSB1")
    where.add_argument("--pty", type=Path, help="make a pty instead, and a link to it at this path")
    parser.add_argument("--baud", type=int, default=115200)
    parser.add_argument("--serial", default="DK-SIM", help="dock serial, up to 12 characters")
    parser.add_argument("--vehicle-id", default="", help="vehicle id, up to 17 characters")
    whose = parser.add_mutually_exclusive_group()
    whose.add_argument("--key-file", type=Path, help="pairing key, 64 hex digits; without it: unpaired")
    whose.add_argument("--fresh", action="store_true", help="a dock as it comes from its maker: unpaired")
    parser.set_defaults(func=run_dock)


def run_dock(args: argparse.Namespace) -> int:
    """Run until `quit`, the end of the port, or Ctrl-C. Exit code 0, or 2 when it cannot start."""
    try:
        key = None if args.key_file is None else read_key(args.key_file)
        identity = Identity.of(args.serial, args.vehicle_id, key)
        return asyncio.run(_play(args, identity))
    except (OSError, ValueError) as error:
        sys.stderr.write(f"ivma-sim dock: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 0


def read_key(path: Path) -> bytes:
    """A pairing key from its file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it does not hold 64 hex digits.
    """
    try:
        key = bytes.fromhex(path.read_text().strip())
    except ValueError:
        key = b""
    if len(key) != 32:
        raise ValueError(f"{path}: expected a pairing key of 64 hex digits")
    return key


async def _play(args: argparse.Namespace, identity: Identity) -> int:
    loop = asyncio.get_running_loop()
    dock = ReferenceDock(identity, os.urandom, _now())
    device = SerialDevice(dock, _now)
    ended = asyncio.Event()
    release = _connect(args, device, ended)
    paired = "paired" if identity.key else "unpaired"
    if args.fresh:
        _say(f"pair it with: ivmactl dock pair --port {args.pty or args.port} --vehicle ID")
    _say(f"dock {args.serial} on {args.pty or args.port}, {paired}; `help` lists commands")
    with contextlib.suppress(OSError):  # a file or /dev/null as input: play without commands
        loop.add_reader(sys.stdin, _read_command, dock, device, ended)
    try:
        await ended.wait()
    finally:
        with contextlib.suppress(OSError):
            loop.remove_reader(sys.stdin)
        device.close()
        release()
    return 0


def _connect(
    args: argparse.Namespace, device: SerialDevice[ReferenceDock], ended: asyncio.Event
) -> Callable[[], None]:
    """Put the device on its wire; what is returned takes it off again."""
    if args.pty is not None:
        plug = PtyPlug(args.pty)
        plug.plug(device)
        return plug.pull
    port = open_port(args.port, args.baud)
    device.attach(port.fileno(), ended.set)
    return port.close


def _read_command(dock: ReferenceDock, device: SerialDevice[ReferenceDock], ended: asyncio.Event) -> None:
    line = sys.stdin.readline(LINE_LIMIT)
    if not line:
        asyncio.get_running_loop().remove_reader(sys.stdin)  # the dock plays on
    elif line.strip() == "quit":
        ended.set()
    elif line.strip():
        _say(obey(line, dock, _now()))
        device.kick()


def obey(line: str, dock: ReferenceDock, at: BootNs) -> str:
    """Carry out one command line; returns what to answer."""
    match line.split():
        case ["reset"]:
            dock.reset(at)
        case ["brown_out"]:
            dock.brown_out(at)
        case ["status"]:
            session = "in session" if dock.in_session() else "no session"
            outputs = dock.actuators.outputs.name or "none"
            paired = "unpaired" if dock.identity.key is None else "paired"
            return f"{paired}; {session}; outputs {outputs}; {dock.inputs}; dropped {dict(dock.dropped)}"
        case ["service", "on" | "off" as word]:
            dock.service_contact = word == "on"
        case ["pair_cut", "before" | "after" | "off" as word]:
            dock.pair_fault = None if word == "off" else PairFault(word)
        case [("seated" | "mated" | "kl15" | "latch_jammed") as name, word] if word in _WORDS:
            dock.set_inputs(at, **{name: _WORDS[word]})
        case [("vehicle_mv" | "dock_mv" | "tablet_ma" | "temperature_dc") as name, word] if _is_number(word):
            dock.set_inputs(at, **{name: None if word == "unknown" else int(word)})
        case ["help"]:
            return HELP
        case _:
            return f"not understood: {line.strip()!r}\n{HELP}"
    return "ok"


def _is_number(word: str) -> bool:
    return word == "unknown" or word.removeprefix("-").isdecimal()


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _now() -> BootNs:
    return BootNs(time.clock_gettime_ns(time.CLOCK_BOOTTIME))
