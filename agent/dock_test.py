"""`ivmactl dock test`: every output switched and read back, every sense looked at, for the installer.

It goes through the dock's own session and never against enforcement: an output that the core has on, or
holds, is left alone, each is put back at once, and the test ends the moment the core wants others itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from agent.bay import Berth, DockBay, Look
from agent.control import Refusal
from agent.core.types import CommandOutcome, DockCommandDone, DockFault, DockStatus, DriveOutputs

ANSWER_S = 3.0  # ours: a command with all its tries, and the STATUS that shows what it did
LOOK_S = 0.8  # ours: long enough to be seen or heard
# Ours: outside of these a wire is off, or the wrong one; both system voltages, cold crank to load dump.
SUPPLY_MV = range(6_000, 36_000)
BOARD_DC = range(-400, 850)
MIN_PERCENT = 20  # ours: of the tablet's battery, to be without the dock's supply for a moment

Say = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class Finding:
    what: str
    ok: bool | None  # None: left out, or a matter for the installer's eyes and ears
    text: str


@dataclass(slots=True)
class _Stopped(Exception):
    """The core asked for outputs: enforcement goes first."""


@dataclass(slots=True)
class DockTest:
    """One test of one dock. ``percent`` is the tablet's battery, None if it is not known."""

    bay: DockBay
    berth: Berth
    percent: int | None
    say: Say
    findings: list[Finding] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _status: DockStatus | None = None
    _outcome: CommandOutcome | None = None  # of the last command
    _stopped: bool = False

    async def run(self) -> list[Finding]:
        """Raises Refusal: the dock is not there, or not proven."""
        name = self.berth.dock.name
        self.bay.test = Look(name, self._seen, self._asked)
        try:
            if not await self._until(lambda status: True):
                raise Refusal(
                    "unproven", f"dock {name} is not in a session, so nothing can be tested",
                    "see `ivmactl dock show`; pair it, or check its cable",
                )  # fmt: skip
            self._senses()
            for output in (self._led, self._buzzer, self._latch, self._supply, self._hold):
                await output()
        except _Stopped:
            self._find("outputs", None, "stopped: the agent needed the outputs itself; test again in peace")
        finally:
            self.bay.test = None
            self.berth.link.drive(self.bay.wanted)
        return self.findings

    # --- senses ---

    def _senses(self) -> None:
        status = self._status
        assert status is not None  # noqa: S101 - narrowing: one was waited for
        for what, value in (("seated", status.seated), ("mated", status.mated)):
            text = {True: "yes", False: "no: the tablet is not in its place", None: "not known to this dock"}
            self._find(what, value, text[value])
        self._find("locked", None, _word(status.locked))
        self._find("ignition wire", None, _word(status.kl15))
        for what, mv in (("vehicle supply", status.vehicle_mv), ("dock supply", status.dock_mv)):
            in_range = None if mv is None else mv in SUPPLY_MV
            self._find(what, in_range, "not measured" if mv is None else f"{mv / 1000:.2f} V")
        if status.tablet_ma is not None:
            self._find("tablet current", None, f"{status.tablet_ma} mA")
        if status.temperature_dc is not None:
            warm = status.temperature_dc in BOARD_DC
            self._find("board temperature", warm, f"{status.temperature_dc / 10:.1f} degrees Celsius")
        faults = status.faults & ~DockFault.LINK_ERRORS
        self._find("faults", not faults, str(faults.name or "none").lower().replace("|", ", "))

    # --- outputs ---

    async def _led(self) -> None:
        await self._shown("light", "led", "look at it")

    async def _buzzer(self) -> None:
        await self._shown("buzzer", "buzzer", "listen")

    async def _shown(self, what: str, name: str, do: str) -> None:
        """An output that only a person can see or hear."""
        if getattr(self.bay.wanted, name):
            return self._find(what, None, "left alone: the alarm has it on")
        self.say(what, f"{what} on: {do}")
        done = await self._drive(**{name: True})
        await self._pause()
        back = await self._drive(**{name: False})
        self._find(what, done and back, "switched on and off" if done and back else "the dock did not obey")
        return None

    async def _latch(self) -> None:
        status = self._status
        if self.bay.wanted.latch:
            return self._find("latch", None, "left alone: enforcement holds it closed")
        if status is None or not status.seated:
            return self._find("latch", None, "left out: it is tested with the tablet in its place")
        self.say("latch", "latch closed, then open")
        closed = await self._drive(latch=True) and await self._until(lambda seen: seen.locked is not False)
        opened = await self._drive(latch=False) and await self._until(lambda seen: seen.locked is not True)
        sensed = self._status is not None and self._status.locked is not None
        text = "closed and opened" if sensed else "obeyed; this dock does not sense its latch"
        self._find("latch", closed and opened, text if closed and opened else "it did not reach its place")
        return None

    async def _supply(self) -> None:
        if not self.bay.wanted.supply_enable:
            return self._find("tablet supply", None, "left alone: the agent has it off")
        if self.percent is None or self.percent < MIN_PERCENT:
            return self._find("tablet supply", None, "left out: no battery would carry the tablet meanwhile")
        self.say("tablet supply", "off for a moment, then on")
        off = await self._drive(supply_enable=False) and await self._until(lambda seen: not seen.dock_mv)
        on = await self._drive(supply_enable=True) and await self._until(lambda seen: seen.dock_mv != 0)
        self._find("tablet supply", off and on, "off and on" if off and on else "its voltage did not follow")
        return None

    async def _hold(self) -> None:
        if self._status is None or not self._status.kl15 or not self.bay.wanted.power_hold:
            return self._find("power hold", None, "left out: tested with the ignition on only")
        done = await self._drive(power_hold=False) and await self._drive(power_hold=True)
        self._find("power hold", done, "switched" if done else "the dock did not obey")
        return None

    # --- the dock ---

    async def _drive(self, **outputs: bool) -> bool:
        """Ask for outputs; whether the dock did it."""
        if self._stopped:
            raise _Stopped
        self._outcome = None
        self.berth.link.drive(DriveOutputs(**outputs))
        return await self._wait(lambda: self._outcome is not None) and self._did()

    def _did(self) -> bool:
        return self._outcome is CommandOutcome.DONE

    async def _until(self, holds: Callable[[DockStatus], bool]) -> bool:
        """Wait for a STATUS, from now on, of which that holds."""
        self._status = None

        def seen() -> bool:
            status = self._status
            return status is not None and holds(status)

        return await self._wait(seen)

    async def _pause(self) -> None:
        await self._wait(lambda: False, LOOK_S)

    async def _wait(self, over: Callable[[], bool], within_s: float = ANSWER_S) -> bool:
        try:
            async with asyncio.timeout(within_s):
                while not over():
                    if self._stopped:
                        raise _Stopped
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def _seen(self, seen: DockStatus | DockCommandDone) -> None:
        if isinstance(seen, DockCommandDone):
            self._outcome = seen.outcome if seen.command == "outputs" else self._outcome
        elif seen.authenticated:
            self._status = seen
        self._changed.set()

    def _asked(self) -> None:
        self._stopped = True
        self._changed.set()

    def _find(self, what: str, ok: bool | None, text: str) -> None:
        self.findings.append(Finding(what, ok, text))
        self.say(what, text)


def _word(value: bool | None) -> str:
    return {True: "yes", False: "no", None: "not known to this dock"}[value]


def as_json(findings: list[Finding]) -> list[dict[str, object]]:
    return [asdict(finding) for finding in findings]
