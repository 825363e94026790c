"""Run with tests/modem_shim.c preloaded by test_modem_lines.py: one scene of a port with control lines."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.core.types import (
    CommandOutcome,
    DockCommandDone,
    DockHint,
    DockLinkLost,
    DockLinkUp,
    DriveOutputs,
    LinkLoss,
)
from drivers.docks.control_lines.session import ControlLinesSession
from drivers.ports.modem_lines import ModemLines
from drivers.spec import DockSettings
from simulator.docks.control_lines import ControlLinesDock
from tests.dock_port import PATIENCE_S, Seen, boot_now
from tests.modem_shim import NO_GICOUNT, NO_MIWAIT, ShimLines

WIRING = {"dsr": "seated", "cts": "!mated", "dcd": "kl15", "dtr": "latch", "rts": "!led"}
OPTIONS = {
    "seated": "dsr", "mated": "!cts", "kl15": "dcd", "latch": "dtr", "led": "!rts", "debounce_ms": 20,
}  # fmt: skip


@dataclass
class Bench:
    lines: ShimLines
    link: ModemLines
    seen: Seen
    port: Path
    pty: str

    def plug(self) -> None:
        self.port.symlink_to(self.pty)
        self.lines.plug()

    def pull(self) -> None:
        self.port.unlink()
        self.lines.pull()

    async def until(self, what: Callable[[], bool]) -> None:
        """Wait for something that has no event on this side: the shim's counters."""
        async with asyncio.timeout(PATIENCE_S):
            while not what():  # noqa: ASYNC110
                await asyncio.sleep(0.002)


async def edges(bench: Bench) -> dict[str, Any]:
    """Blocked in TIOCMIWAIT; what moves is seen at once, though the next look of its own is a second away."""
    first = await bench.seen.next(DockHint)
    took_ms = []
    for seated in (False, True) * 5:
        await bench.until(lambda: bench.lines.waiting)
        begun = time.monotonic()
        bench.lines.put(seated=seated)
        await bench.seen.next(DockHint, lambda hint, seated=seated: hint.seated is seated)  # type: ignore[misc]
        took_ms.append(round((time.monotonic() - begun) * 1000))
    await bench.until(lambda: bench.lines.waiting)
    looks, begun = bench.lines.looks, time.process_time()
    await asyncio.sleep(3.2)  # nothing moves: what it costs to wait
    return {
        "first": [first.seated, first.mated, first.kl15, first.locked],
        "median_ms": sorted(took_ms)[len(took_ms) // 2],
        "looks_a_second": (bench.lines.looks - looks) / 3.2,
        "cpu_share": (time.process_time() - begun) / 3.2,
        "counters": dict(bench.link.counters().values),
    }


async def pulse(bench: Bench) -> dict[str, Any]:
    """A bounce that is over before anybody looks is no change of the seat, and is told of."""
    await bench.seen.next(DockHint)
    await bench.until(lambda: bench.lines.waiting)
    bench.lines.pulse("seated")
    told = await bench.seen.next(DockHint, lambda hint: bool(hint.detail))
    return {
        "detail": told.detail,
        "seated": [hint.seated for hint in bench.seen.of(DockHint)].count(False),
        "pulses": bench.link.counters().values["pulses"],
    }


async def outputs(bench: Bench) -> dict[str, Any]:
    """Levels are set while the port waits for edges, and read back."""
    await bench.seen.next(DockHint)
    await bench.until(lambda: bench.lines.waiting)
    before = sorted(bench.lines.outputs)
    bench.link.drive(DriveOutputs(latch=True, led=True))
    done = await bench.seen.next(DockCommandDone)
    alarm = sorted(bench.lines.outputs)
    bench.link.drive(DriveOutputs(latch=False, led=False))
    await bench.seen.next(DockCommandDone)
    return {
        "before": before,
        "done": [done.command, done.outcome is CommandOutcome.DONE],
        "alarm": alarm,
        "after": sorted(bench.lines.outputs),
    }


async def replug(bench: Bench) -> dict[str, Any]:
    """Pulled while it waits: lost at once; plugged in again: found again, with the outputs as they were."""
    await bench.seen.next(DockHint)
    bench.link.drive(DriveOutputs(latch=True))
    await bench.seen.next(DockCommandDone)
    await bench.until(lambda: bench.lines.waiting)
    begun = time.monotonic()
    bench.pull()
    lost = await bench.seen.next(DockLinkLost)
    took_ms = round((time.monotonic() - begun) * 1000)
    bench.lines.put(seated=False)
    bench.plug()
    bench.link.poke()
    await bench.seen.next(DockLinkUp)
    hint = await bench.seen.next(DockHint)
    return {
        "lost": lost.reason is LinkLoss.UNPLUGGED,
        "lost_ms": took_ms,
        "seated": hint.seated,
        "outputs": sorted(bench.lines.outputs),
        "threads": watching(),
    }


async def closing(bench: Bench) -> dict[str, Any]:
    """Closed while it waits: the thread ends, within a bounded time, with nobody waiting for it."""
    await bench.seen.next(DockHint)
    spent = []
    for _ in range(20):
        await bench.until(lambda: bench.lines.waiting)
        begun = time.monotonic()
        bench.link._drop(LinkLoss.CLOSED)
        spent.append(time.monotonic() - begun)
        await bench.until(lambda: not watching())
        bench.link._open()
    bench.link.close()
    await bench.until(lambda: not watching())
    lost = await bench.seen.next(DockLinkLost)
    return {"lost": lost.reason is LinkLoss.CLOSED, "longest_ms": round(max(spent) * 1000)}


async def polled(bench: Bench) -> dict[str, Any]:
    """A driver with neither TIOCMIWAIT nor TIOCGICOUNT: looks at the poll period."""
    await bench.seen.next(DockHint)
    bench.lines.put(seated=False, kl15=True)
    hint = await bench.seen.next(DockHint, lambda hint: hint.seated is False)
    looks = bench.lines.looks
    await asyncio.sleep(2.0)
    return {
        "hint": [hint.seated, hint.kl15],
        "looks_a_second": (bench.lines.looks - looks) / 2.0,
        "counters": dict(bench.link.counters().values),
    }


async def chatter(bench: Bench) -> dict[str, Any]:
    """A line that rattles: neither a flood of looks nor a hint that nobody debounced."""
    await bench.seen.next(DockHint)
    looks, hints = bench.lines.looks, len(bench.seen.of(DockHint))
    begun = time.monotonic()
    moves = 0
    while time.monotonic() - begun < 1.0:
        bench.lines.put(seated=moves % 2 == 0)
        moves += 1
        await asyncio.sleep(0.001)
    took_s = time.monotonic() - begun
    return {
        "moves": moves,
        "looks_a_second": (bench.lines.looks - looks) / took_s,
        "hints": [hint.seated for hint in bench.seen.of(DockHint)[hints:]],
    }


def watching() -> int:
    return sum(thread.name == "modem-lines" for thread in threading.enumerate())


SCENES: dict[str, tuple[Callable[[Bench], Awaitable[dict[str, Any]]], int]] = {
    "edges": (edges, 0),
    "pulse": (pulse, 0),
    "outputs": (outputs, 0),
    "replug": (replug, 0),
    "closing": (closing, 0),
    "polled": (polled, NO_MIWAIT | NO_GICOUNT),
    "chatter": (chatter, 0),
}


async def play(scene: str, folder: Path) -> dict[str, Any]:
    run, lacks = SCENES[scene]
    # A busy machine must not make a rattling line stand still for long enough to count.
    options = OPTIONS | ({"debounce_ms": 1000} if scene == "chatter" else {})
    dock = ControlLinesDock(WIRING, switches={"seated": True, "mated": True})
    lines = ShimLines(Path(os.environ["IVMA_MODEM_SHIM"]), dock, lacks)
    master, slave = os.openpty()
    port = folder / "ttyLINES"
    seen = Seen()
    session = ControlLinesSession(DockSettings("cradle", options=options), os.urandom)
    link = ModemLines(session, lambda: str(port) if port.exists() else None, seen.observe, boot_now, 0.1)
    bench = Bench(lines, link, seen, port, os.ttyname(slave))
    bench.plug()
    link.start()
    try:
        return await run(bench)
    finally:
        link.close()
        await bench.until(lambda: not watching())
        os.close(master)
        os.close(slave)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(play(sys.argv[1], Path(sys.argv[2])))) + "\n")
