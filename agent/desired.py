"""What the fleet wants of the configuration, on disk: confirmed, on trial, and ever accepted.

One file, replaced as a whole, so that a power cut at any point leaves the state before or after a step, never
one between. The last known good is kept until a trial is confirmed. Nothing here reads a clock.
"""

from __future__ import annotations

import json
import zlib
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import structlog

from agent import durable

log = structlog.get_logger()

STARTS_MAX = 3  # ours: runs that a trial may begin without one that confirms it
ACCEPTED_MAX = 2**53 - 1


@dataclass(frozen=True, slots=True)
class Trial:
    """A configuration that is tried for ``trial_s``, each run anew; ``starts`` runs began with it."""

    number: int
    toml: str
    trial_s: int
    starts: int = 0


@dataclass(frozen=True, slots=True)
class Kept:
    """All of it. Generation ``number`` with ``toml`` is the last known good; ``accepted`` never goes back.

    ``told`` is what was decided last and the fleet has to hear: generation, state, detail.
    """

    accepted: int = 0
    number: int = 0
    toml: str = ""
    trial: Trial | None = None
    told: tuple[int, str, str] = (0, "", "")


class DesiredFile:
    """The file at ``path``. One that cannot be read is put aside and counts as none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.kept = Kept()
        self.problem: str | None = None  # why what was there is not known any more

    def load(self) -> None:
        try:
            raw = self._path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            self._lost(error.strerror or "unreadable")
            return
        try:
            checked, text = raw.split(b" ", 1)
            if int(checked, 16) != zlib.crc32(text):
                raise ValueError("its checksum is wrong")
            said = json.loads(text)
            trial = said.pop("trial")
            told = said.pop("told")
            number, state, detail = told
            self.kept = Kept(**said, trial=None if trial is None else Trial(**trial),
                             told=(int(number), str(state), str(detail)))  # fmt: skip
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            with suppress(OSError):
                self._path.replace(self._path.with_name(f"{self._path.name}.damaged"))
            self._lost(str(error))

    @property
    def toml(self) -> str:
        """What is laid over the tablet's own file now."""
        trial = self.kept.trial
        return self.kept.toml if trial is None else trial.toml

    def accept(self, trial: Trial) -> None:
        """Begin a trial of a configuration that was found valid. Raises OSError: nothing has changed."""
        self._keep(
            replace(self.kept, trial=trial, accepted=max(self.kept.accepted, trial.number),
                    told=(trial.number, "trial", ""))
        )  # fmt: skip

    def begin(self) -> bool:
        """Count a run under the trial, before it is used; False, and rolled back, after too many.

        Raises:
            OSError: it cannot be counted.
        """
        trial = self.kept.trial
        if trial is None:
            return True
        if trial.starts >= STARTS_MAX:
            self.roll_back(f"{trial.starts} runs began with it, and none confirmed it")
            return False
        self._keep(replace(self.kept, trial=replace(trial, starts=trial.starts + 1)))
        return True

    def confirm(self) -> None:
        """The trial becomes the last known good. Raises OSError."""
        trial = self.kept.trial
        if trial is not None:
            told = (trial.number, "confirmed", "")
            self._keep(replace(self.kept, number=trial.number, toml=trial.toml, trial=None, told=told))

    def roll_back(self, why: str) -> None:
        """The last known good is in force again, in this run even if the disk does not take it."""
        trial = self.kept.trial
        if trial is None:
            return
        kept = replace(self.kept, trial=None, told=(trial.number, "rolled_back", why))
        try:
            self._keep(kept)
        except OSError as error:
            # The next run then counts one more start of the trial, and so this ends all the same.
            log.warning("desired.not_kept", path=str(self._path), error=error.strerror)
            self.kept = kept

    def raise_accepted(self, generation: int) -> None:
        """The depot knows of a higher generation: this disk is from before it. Raises OSError."""
        if self.kept.accepted < generation <= ACCEPTED_MAX:
            self._keep(replace(self.kept, accepted=generation))

    def _keep(self, kept: Kept) -> None:
        text = json.dumps(asdict(kept))
        self._path.parent.mkdir(parents=True, exist_ok=True)
        whole = f"{zlib.crc32(text.encode()):08x} {text}"
        try:
            durable.replace(self._path, whole)
        except OSError as error:
            # In its place, and only its folder not synced: the next start would find it.
            if not self._path.exists() or self._path.read_text() != whole:
                raise
            log.warning("desired.not_synced", path=str(self._path), error=error.strerror)
        self.kept = kept

    def _lost(self, why: str) -> None:
        self.problem = f"{self._path}: what the fleet wanted is not known any more: {why}"
        log.error("desired.unreadable", path=str(self._path), problem=why)
