"""Switches the network off while the tablet is locked, through NetworkManager, and reads back that it is off.

The way to the fleet needs the network: nothing that happens while it is off is known anywhere else. So
it is no default, and it waits a while for the alarm to get out.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Awaitable, Iterable, Mapping
from pathlib import Path

import structlog

from agent.core.types import SECOND, BootNs, Lock, LockOutcome, Release
from agent.dbus_wire import BusError
from agent.enforcement.base import EnforcementAction, Outcome, SettingsError, Surroundings
from agent.network_manager import NetworkManager, Switch

SETTINGS = frozenset({"off", "delay_s", "verify_ms"})
NOTE = "network-off.json"
NOTE_MAX = 1024  # bytes
INSIST_S = 5.0  # ours: how often what did not take is asked again, and the least time between two rounds
SPACING_S = 1.0  # ours: somebody who switches on without pause must not keep us switching
START_S = 5.0  # ours: a lock of the start comes before this; without one, what was left off is switched on

log = structlog.get_logger()


class NetworkAction(EnforcementAction):
    """Switches off on lock, watches until released, then switches on again what it itself switched off.

    Settings: ``off`` [["wifi", "mobile"]] or ["all"]: what is switched off; ``delay_s`` [10] from the lock,
    for the alarm to reach the fleet; ``verify_ms`` [3000] how long a switch may take. What it switched off
    is noted in the state folder first, because NetworkManager remembers it over a reboot.
    """

    name = "network"

    def __init__(self, settings: Mapping[str, object], around: Surroundings) -> None:
        if unknown := settings.keys() - SETTINGS:
            raise SettingsError(
                f"enforcement.network: unknown {sorted(unknown)}; known are {sorted(SETTINGS)}"
            )
        self._switches = _switches(settings.get("off", ["wifi", "mobile"]))
        self._delay_ns = _number("delay_s", settings.get("delay_s", 10), 0, 600) * SECOND
        self._verify_s = _number("verify_ms", settings.get("verify_ms", 3000), 100, 30_000) / 1000
        self._around = around
        self._note = Path(around.state_dir) / NOTE
        self._manager = NetworkManager(around.bus())
        self._manager.on_change(self._stir)
        self._stirred = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._last: Outcome | None = None
        self._switched_on = 0  # times that somebody switched on what was to be off

    async def start(self) -> None:
        """A crash between a release and the switching on leaves the network off: mend that."""
        if _read(self._note):
            self._task = asyncio.create_task(self._restore(None, START_S), name="network left off")

    def lock(self, order: Lock) -> Awaitable[Outcome]:
        self._stop()
        first: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._keep_off(order, first), name="keep the network off")
        return first

    def release(self, order: Release) -> None:
        self._stop()
        self._task = asyncio.create_task(self._restore(order, 0.0), name="network on")

    async def close(self) -> None:
        task = self._task
        self._stop()
        if task is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def status(self) -> dict[str, object]:
        last = self._last
        return {
            "ok": None if last is None else last.ok,
            "detail": "" if last is None else last.detail,
            "switched_off": sorted(switch.name.lower() for switch in _read(self._note)),
            "switched_on_while_locked": self._switched_on,
        }

    def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def _stir(self) -> None:
        self._stirred.set()

    # --- off ----------------------------------------------------------------------------------

    async def _keep_off(self, order: Lock, first: asyncio.Future[Outcome]) -> None:
        try:
            await asyncio.sleep(max(0, order.cause.at + self._delay_ns - self._around.now()) / SECOND)
            outcome = self._last = await self._bring(on=False)
        except asyncio.CancelledError:
            first.cancel()
            raise
        if not first.done():
            first.set_result(outcome)
        while True:
            await self._wait(None if outcome.ok else INSIST_S)
            before, outcome = outcome, await self._bring(on=False, again=outcome.ok)
            self._last = outcome
            if outcome.ok != before.ok:
                self._tell(order.decision, outcome)
            await asyncio.sleep(SPACING_S)

    async def _bring(self, *, on: bool, again: bool = False) -> Outcome:
        """Bring the switches to stand as wanted, and read back that they do.

        ``again``: they stood so before, and somebody has been at them.
        """
        begun = self._around.now()
        try:
            stands = await self._manager.read()
            mine = _read(self._note)
            wanted = mine if on else self._switches
            wrong = [switch for switch in Switch if switch in wanted and stands[switch] is not on]
            if wrong and again:
                self._switched_on += 1
            if not on:  # noted before it is done: a crash must not leave it off for good
                _write(self._note, {*mine, *wrong})
            for switch in wrong:
                await self._manager.set(switch, on=on)
            left = await self._standing(wrong, on=on)
        except BusError as error:
            return self._outcome(begun, f"cannot ask NetworkManager: {error}", ok=False)
        except OSError as error:
            return self._outcome(begun, f"{self._note}: {error.strerror}; left as it was", ok=False)
        wish = "on" if on else "off"
        if left:
            return self._outcome(begun, f"did not go {wish}: {_names(left)}", ok=False)
        done = f"{_names(wrong)} read back as {wish}" if wrong else f"nothing was to be switched {wish}"
        return self._outcome(begun, done, ok=True)

    async def _standing(self, switches: Iterable[Switch], *, on: bool) -> list[Switch]:
        """Those that do not stand as wanted when the time to verify is over; none as soon as all do."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._verify_s
        while True:
            stands = await self._manager.read()
            left = [switch for switch in switches if stands[switch] is not on]
            if not left or loop.time() >= until:
                return left
            await self._wait(until - loop.time())

    # --- on -----------------------------------------------------------------------------------

    async def _restore(self, order: Release | None, after_s: float) -> None:
        await asyncio.sleep(after_s)
        while _read(self._note):
            outcome = self._last = await self._bring(on=True)
            if order is not None:
                self._tell(order.decision, outcome)
                order = None
            if outcome.ok:
                self._note.unlink(missing_ok=True)
                return
            await asyncio.sleep(INSIST_S)

    # --- small things ---------------------------------------------------------------------------

    async def _wait(self, within_s: float | None) -> None:
        """Wait until something stirs; it may have stirred already."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._stirred.wait()
        self._stirred.clear()  # whoever waits reads next

    def _tell(self, decision: int, outcome: Outcome) -> None:
        if not outcome.ok:
            log.warning("enforcement.not_verified", action=self.name, detail=outcome.detail)
        now = self._around.now()
        self._around.observe(
            LockOutcome(now, decision, self.name, outcome.ok, outcome.took_ns, outcome.detail)
        )

    def _outcome(self, begun: BootNs, detail: str, *, ok: bool) -> Outcome:
        return Outcome(ok, self._around.now() - begun, detail)


def _names(switches: Iterable[Switch]) -> str:
    return ", ".join(switch.name.lower() for switch in switches)


def _read(note: Path) -> set[Switch]:
    """What is noted as switched off by us; a note that cannot be read is none, and is said so."""
    try:
        return {Switch[name] for name in json.loads(note.read_bytes()[:NOTE_MAX])}
    except FileNotFoundError:
        return set()
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("network.note_unreadable", path=str(note), error=str(error))
        return set()


def _write(note: Path, switches: set[Switch]) -> None:
    """Durable before it returns. Raises OSError."""
    if switches == _read(note):
        return
    part = note.with_suffix(".part")
    with part.open("w") as file:
        json.dump(sorted(switch.name for switch in switches), file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(note)


def _switches(value: object) -> tuple[Switch, ...]:
    known = {switch.name.lower(): switch for switch in Switch}
    names = value if isinstance(value, list) else []
    if not names or not all(isinstance(name, str) and name in known for name in names):
        raise SettingsError(f"enforcement.network.off: expected some of {sorted(known)}, not {value!r}")
    return tuple(known[name] for name in names)


def _number(key: str, value: object, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise SettingsError(f"enforcement.network.{key}: expected {least} to {most}, not {value!r}")
    return value
