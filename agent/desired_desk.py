"""The configuration that the fleet wants: validated whole, tried, and confirmed by health or rolled back.

Healthy is a run that has lasted the trial, whose store works, and that the depot has said something to under
its key since the trial began. What is in force while it is tried, and after a power cut at any point, is for
agent/desired.py; a policy takes effect at once, anything else by a new start of the agent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from agent.config import Config, ConfigError
from agent.core.catalogue import CONFIG_DESIRED
from agent.core.orders import Wanted
from agent.core.records import Record
from agent.core.types import BootNs
from agent.desired import Trial
from agent.keeper import Keeper

log = structlog.get_logger()

AGAIN_S = 10.0  # ours: a disk that did not take the confirmation is asked again
Report = Callable[[BootNs, int, int, str, str], None]  # at, accepted, generation, state, detail


@dataclass(frozen=True, slots=True)
class Hands:
    """What the desk acts by. ``apply`` puts a policy in force, ``restart`` starts the agent anew."""

    apply: Callable[[Config], None]
    restart: Callable[[], None]
    store_ok: Callable[[], bool]
    note: Callable[[Record], None]
    report: Report
    now: Callable[[], BootNs]


class DesiredDesk:
    """``running`` is the configuration that this run was started with."""

    def __init__(self, keeper: Keeper, running: Config, hands: Hands) -> None:
        self._keeper = keeper
        self._file = keeper.desired
        self._running = running
        self._hands = hands
        self._digest = running.digest
        self._contact = False
        self._timer: asyncio.TimerHandle | None = None
        self._refused = 0  # generation that was refused last: its retained message comes at each connection

    def start(self) -> None:
        """Tell where things stand; go on with a trial."""
        if self._file.kept.told[0]:
            self._tell()
        if self._file.kept.trial is not None:
            self._await_end(self._file.kept.trial.trial_s)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def contact(self) -> None:
        """The depot said something under its key."""
        self._contact = True

    def generation(self, known: int) -> None:
        """What the depot knows that this tablet once accepted."""
        if known > self._file.kept.accepted:
            try:
                self._file.raise_accepted(known)
            except OSError as error:
                log.warning("desired.not_kept", error=error.strerror)

    def status(self) -> dict[str, object]:
        """For people: generations, and what became of the last."""
        kept = self._file.kept
        number, state, detail = kept.told
        trial = kept.trial.number if kept.trial else None
        return {
            "accepted": kept.accepted, "in_force": kept.number, "trial": trial,
            "last": {"generation": number, "state": state, "detail": detail},
        }  # fmt: skip

    def take(self, wanted: Wanted) -> None:
        """Try what the fleet wants, or refuse it."""
        kept = self._file.kept
        if wanted.number in (kept.told[0], self._refused):
            return  # retained: it comes at each connection
        if wanted.number <= kept.accepted:
            self._refuse(wanted, f"generation {wanted.number} is not greater than {kept.accepted}")
            return
        trial = Trial(wanted.number, wanted.toml, wanted.trial_s)
        try:
            config = self._keeper.propose(trial)
            # A run that goes on under it counts as one that began with it.
            self._file.accept(replace(trial, starts=0 if config.needs_restart(self._running) else 1))
        except ConfigError as error:
            self._refuse(wanted, str(error))
            return
        except OSError as error:
            self._refuse(wanted, f"the disk does not take it: {error.strerror}")
            return
        log.info("desired.trial", generation=trial.number, trial_s=trial.trial_s)
        self._contact = False
        self._put_in_force(config)
        self._tell()
        self._await_end(trial.trial_s)

    # --- the end of a trial -----------------------------------------------------------------------

    def _await_end(self, seconds: float) -> None:
        self.close()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._ended)

    def _ended(self) -> None:
        why = self._ill()
        if why:
            self._file.roll_back(why)
            log.error("desired.rolled_back", why=why)
            try:
                self._put_in_force(self._keeper.reload())
            except ConfigError as error:  # the tablet's own file was broken meanwhile: a start takes its copy
                log.error("config.refused", problem=str(error))
                self._hands.restart()
            self._tell()
            return
        try:
            self._file.confirm()
        except OSError as error:
            log.warning("desired.not_kept", error=error.strerror)
            self._await_end(AGAIN_S)
            return
        self._tell()

    def _ill(self) -> str:
        """Why this configuration is not to stay; empty when it is healthy."""
        if not self._hands.store_ok():
            return "records cannot be kept"
        return "" if self._contact else "the depot said nothing in the trial"

    def _put_in_force(self, config: Config) -> None:
        self._digest = config.digest
        if config.needs_restart(self._running):
            self._hands.restart()
        else:
            self._hands.apply(config)

    # --- what is told -----------------------------------------------------------------------------

    def _tell(self) -> None:
        number, state, detail = self._file.kept.told
        self._say(number, state, detail)

    def _refuse(self, wanted: Wanted, why: str) -> None:
        self._refused = wanted.number
        log.error("desired.refused", generation=wanted.number, why=why)
        self._say(wanted.number, "refused", why)

    def _say(self, number: int, state: str, detail: str) -> None:
        at = self._hands.now()
        self._hands.report(at, self._file.kept.accepted, number, state, detail)
        self._hands.note(
            CONFIG_DESIRED.make(at, generation=number, state=state, config=self._digest, detail=detail[:1000])
        )
