"""Which configuration is in force: the tablet's own file, or its last good copy, under what the fleet wants.

A bad file, or one from afar that does not work, leaves what was good in force.
"""

from __future__ import annotations

from pathlib import Path

import structlog

from agent import durable
from agent.config import Config, ConfigError, parse, read
from agent.desired import DesiredFile, Trial

log = structlog.get_logger()


class Keeper:
    """Keeps the last good configuration in force, over bad new files and over restarts.

    ``last_good`` is a copy in a place that does not depend on the configuration; what the fleet wants is kept
    beside it, in ``desired.json``.
    """

    def __init__(self, path: Path, last_good: Path) -> None:
        self.desired = DesiredFile(last_good.with_name("desired.json"))
        self._path = path
        self._last_good = last_good
        self._not_kept: OSError | None = None

    def start(self) -> tuple[Config, str | None]:
        """Load the file, or else the last good copy; the second value says what was wrong with the file.

        A trial that did not confirm itself in several runs, or that does not fit the file any more, is rolled
        back here.

        Raises:
            ConfigError: neither can be used; the words are about the file.
        """
        self.desired.load()
        try:
            self.desired.begin()
        except OSError as error:
            self.desired.roll_back(f"its start cannot be counted: {error.strerror}")
        try:
            config, problem = self.reload(), self.desired.problem
        except ConfigError as error:
            try:
                raw = read(self._last_good)
                config, problem = self._whole(raw, str(self._last_good)), str(error)
            except ConfigError:
                raise error from None
        return config, problem

    def reload(self) -> Config:
        """Load the file anew and keep it as the last good one. Raises ConfigError; the old one stays."""
        raw = read(self._path)
        config = self._whole(raw, str(self._path))
        try:
            self._keep(raw)
            self._not_kept = None
        except OSError as error:  # a full disk must not keep a good configuration from taking effect
            self._not_kept = error
        return config

    def propose(self, trial: Trial) -> Config:
        """What the configuration would be with ``trial``; nothing is changed. Raises ConfigError."""
        try:
            raw = read(self._path)
            parse(raw, str(self._path))
        except ConfigError:
            raw = read(self._last_good)
        return parse(raw, str(self._path), trial.toml)

    def complain(self) -> None:
        """Log, once logs are set up, that the configuration in force could not be kept."""
        if self._not_kept is not None:
            log.warning(
                "config.not_kept",
                copy=str(self._last_good),
                error=str(self._not_kept),
                effect="without a good file the next start has none",
            )

    def _whole(self, raw: bytes, name: str) -> Config:
        """The file with what is wanted of it; without that, where the two do not fit any more."""
        alone = parse(raw, name)  # what is wrong with the file itself is said first
        for _ in range(2):  # the trial, then the last known good
            toml = self.desired.toml
            if not toml:
                return alone
            try:
                return parse(raw, name, toml)
            except ConfigError as error:
                if self.desired.kept.trial is None:
                    log.error("desired.does_not_fit", problem=str(error), effect="the file alone is in force")
                    self.desired.problem = f"what the fleet wanted does not fit the file any more: {error}"
                    return alone
                self.desired.roll_back(str(error))
        return alone

    def _keep(self, raw: bytes) -> None:
        """Replace the copy so that a power cut leaves the old or the new one, never half of one."""
        try:
            if self._last_good.read_bytes() == raw:
                return
        except OSError:
            pass
        self._last_good.parent.mkdir(parents=True, exist_ok=True)
        durable.replace(self._last_good, raw)
