"""Logging: JSON lines in the journal or a pipe, readable lines on a terminal, always on stderr.

Standard output belongs to the console actions. Import this module before anything that imports structlog:
it keeps structlog from importing rich, which no log line of the agent uses (50 ms and 4 MiB measured).
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TextIO, cast

if "structlog" not in sys.modules and "rich" not in sys.modules:
    sys.modules["rich"] = cast(
        Any, None
    )  # makes `import rich` fail, which structlog takes as "not installed"
    import structlog

    del sys.modules["rich"]
else:
    import structlog

if TYPE_CHECKING:
    from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

# syslog severities (RFC 5424 table 2); journald reads "<N>" in front of a line as its priority.
_SEVERITY = {"critical": 2, "error": 3, "warning": 4, "info": 6, "debug": 7}
LEVELS = ("debug", "info", "warning", "error")


def under_journal(environ: Mapping[str, str], fd: int) -> bool:
    """Whether ``fd`` is the stream to the journal that systemd names in JOURNAL_STREAM.

    A program started by hand from a unit's shell inherits the variable but not the stream
    (systemd.exec(5)), so the device and inode are compared.
    """
    try:
        stat = os.fstat(fd)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM") == f"{stat.st_dev}:{stat.st_ino}"


def configure(level: str, *, stream: TextIO, environ: Mapping[str, str]) -> None:
    """Set structlog up for the process, for lines of ``level`` and above on ``stream``.

    Raises:
        ValueError: ``level`` is none of LEVELS.
    """
    if level not in LEVELS:
        raise ValueError(f"log level {level!r}: expected one of {', '.join(LEVELS)}")
    journal = under_journal(environ, stream.fileno())
    chain: list[Processor] = [structlog.contextvars.merge_contextvars, structlog.processors.add_log_level]
    if journal:
        chain += [_plain_exceptions, structlog.processors.JSONRenderer(), _severity]
    elif stream.isatty():
        colours = "NO_COLOR" not in environ
        chain += [
            structlog.processors.TimeStamper("%H:%M:%S", utc=False),
            structlog.dev.ConsoleRenderer(
                colors=colours, exception_formatter=structlog.dev.plain_traceback, pad_event_to=36
            ),
        ]
    else:
        chain += [
            structlog.processors.TimeStamper("iso", utc=True),
            _plain_exceptions,
            structlog.processors.JSONRenderer(),
        ]
    structlog.configure(
        processors=chain,
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,  # a command may change the level of a running agent
    )


def _plain_exceptions(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
    return structlog.processors.format_exc_info(logger, name, event)


def _severity(_logger: WrappedLogger, name: str, line: EventDict) -> EventDict:
    # The renderer before this one made a string of the event; structlog's type does not say so.
    return cast("EventDict", f"<{_SEVERITY.get(name, 6)}>{line}")


class Cycle:
    """Says one fault once: WARNING at its first failure, DEBUG while it lasts, INFO when it is over."""

    def __init__(self, log: FilteringBoundLogger, event: str) -> None:
        self._log = log
        self._event = event
        self.failures = 0

    def failed(self, **values: object) -> None:
        """Count a failure and log it, loudly only when it is the first of its cycle."""
        self.failures += 1
        say = self._log.warning if self.failures == 1 else self._log.debug
        say(self._event, failures=self.failures, **values)

    def ended(self, **values: object) -> None:
        """End the cycle; does nothing when there is none."""
        if self.failures:
            self._log.info(f"{self._event}: over", failures=self.failures, **values)
            self.failures = 0
