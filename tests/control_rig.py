"""A control server with a known state, for tests of it and of ivmactl."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

from agent.control import ControlServer, Refusal, Verb

STATUS: dict[str, Any] = {
    "tether": {
        "state": "tethered", "usable": True, "posture": "usable", "since_ms_ago": 61_000,
        "ride_through_ms_left": None, "budget_ms": 60_000,
        "seated": {"value": True, "age_ms": 150}, "mated": {"value": True, "age_ms": 150},
        "locked": {"value": None, "age_ms": None}, "authenticated": {"value": True, "age_ms": 9000},
        "dock": "front",
    },
    "ignition": {
        "state": "running", "confidence": 95, "grade": "confirmed", "conflicts": [], "crank_window": False,
    },
    "power": {
        "state": "normal", "vehicle_mv": 13_800, "dock_mv": None, "tablet_ma": 900, "tablet_percent": 87,
        "shedding": False, "run_on_ms_left": None,
    },
    "enforcement": {"decision": 3, "locked": False, "actions": {"logind": {"ok": True, "detail": ""}}},
}  # fmt: skip
WHY_IGNITION: dict[str, Any] = {
    "topic": "ignition", "verdict": "running", "rule": "ignition.wire_and_rotation",
    "because": "the wire is on and the engine turns", "decided_ms_ago": 45_000,
    "evidence": [
        {"source": "wire", "value": "on", "age_ms": 150, "fresh": True, "weight": 100, "note": "KL15"},
        {"source": "can", "value": "on", "age_ms": 80, "fresh": True, "weight": 80, "note": ""},
        {"source": "engine speed", "value": "812 rpm", "age_ms": 40, "fresh": True, "weight": 60, "note": ""},
        {"source": "voltage", "value": "13.8 V", "age_ms": 5200, "fresh": False, "weight": 0, "note": "old"},
    ],
    "conflicts": [],
}  # fmt: skip
QUEUE: dict[str, Any] = {
    "alarm": {
        "head": 12, "hash": "ab", "acknowledged": 12, "pending": 0, "bytes": 4096, "quota": 65536,
        "refused": 0,
    },
    "telemetry": {
        "head": 900, "hash": "cd", "acknowledged": 860, "pending": 40, "bytes": 65536, "quota": 1 << 20,
        "refused": 0,
    },
}  # fmt: skip
EVENTS: dict[str, Any] = {
    "now_ns": 5_000_000_000,
    "events": [
        {
            "stream": "alarm", "kind": "enforcement.changed", "boot_ns": 2_000_000_000,
            "fields": {"posture": "locked"},
        }
    ],
}  # fmt: skip


def why(args: Mapping[str, Any]) -> object:
    topic = args.get("topic")
    if topic not in ("tether", "ignition", "power"):
        raise Refusal("bad_request", f"no topic {topic!r}", "tether, ignition or power")
    return {**WHY_IGNITION, "topic": topic}


def events(args: Mapping[str, Any]) -> object:
    if args["last"] < 1:
        raise Refusal("bad_request", "last: expected 1 or more", "give a number")
    return EVENTS


def verbs(**others: Verb) -> dict[str, Verb]:
    return {
        "status": Verb(lambda _args: STATUS),
        "why": Verb(why, consults=True),
        "events": Verb(events, consults=True),
        "queue": Verb(lambda _args: QUEUE),
        "version": Verb(lambda _args: {"version": "0.1.0", "protocol": 1}),
        "stop": Verb(lambda _args: {}, changes=True),
        **others,
    }


class Audits(list[tuple[int, str, str | None]]):
    """What the server asked to have recorded."""

    def __call__(self, uid: int, verb: str, reason: str | None) -> None:
        self.append((uid, verb, reason))


@contextlib.asynccontextmanager
async def serving(
    path: Path, *, group: int | None = None, audits: Audits | None = None, **others: Verb
) -> AsyncIterator[ControlServer]:
    # No "or": an empty list of audits is false, and still the caller's.
    audited = Audits() if audits is None else audits
    server = ControlServer(path, verbs(**others), group=group, audited=audited)
    await server.start()
    try:
        yield server
    finally:
        await server.close()


async def ask(path: Path, *lines: bytes) -> list[dict[str, Any]]:
    """Send each line, then read an answer for each."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.writelines(lines)
        return [json.loads(await reader.readline()) for _ in lines]
    finally:
        writer.close()
        await writer.wait_closed()


@contextlib.contextmanager
def served(path: Path, **others: Verb) -> Iterator[tuple[ControlServer, asyncio.AbstractEventLoop]]:
    """The same in a thread of its own, for clients that are processes."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> ControlServer:
        server = ControlServer(path, verbs(**others), group=None, audited=Audits())
        await server.start()
        return server

    server = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        yield server, loop
    finally:
        asyncio.run_coroutine_threadsafe(server.close(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
