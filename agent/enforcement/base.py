"""What an enforcement action is, and what it is given. A fleet adds its own by entry point."""

from __future__ import annotations

import abc
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent.core.types import BootNs, Lock, Observation, Release

if TYPE_CHECKING:
    from agent.dbus import Bus


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The daemon's side of an action.

    ``observe`` takes what the action sees later on: UsedWhileLocked, and LockOutcome when the outcome
    changed after the first. ``bus`` gives the daemon's one connection to the system bus; an action that
    never calls it costs no D-Bus. ``state_dir`` keeps what an action must know after a reboot. Everything
    happens on the daemon's loop.
    """

    observe: Callable[[Observation], None]
    now: Callable[[], BootNs]
    bus: Callable[[], Bus]
    state_dir: Path


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whether a lock took, verified by reading back; ``took_ns`` counts from when it was asked for."""

    ok: bool
    took_ns: int
    detail: str


class SettingsError(ValueError):
    """An action's own settings are wrong; the text names the key, what was expected and what came."""


class EnforcementAction(abc.ABC):
    """One way to keep the tablet from being used.

    The constructor takes the action's table of the configuration and its surroundings, raises
    SettingsError on what it does not know, and does no I/O. ``start`` follows, on the loop.
    """

    name: str

    @abc.abstractmethod
    def __init__(self, settings: Mapping[str, object], around: Surroundings) -> None: ...

    async def start(self) -> None:  # noqa: B027 - most actions have nothing to start
        """Get ready. A failure here must not keep ``lock`` from trying."""

    async def close(self) -> None:  # noqa: B027 - nor to close
        """Let go of everything; nothing is unlocked."""

    @abc.abstractmethod
    def lock(self, order: Lock) -> Awaitable[Outcome]:
        """Lock, and keep locked until ``release``.

        The request is under way when this returns: it does not wait for another turn of the loop. A
        second call, with the same decision or a newer one, begins again; the former's awaitable is
        cancelled by the caller.
        """

    @abc.abstractmethod
    def release(self, order: Release) -> None:
        """Stop keeping it locked. Nothing is unlocked: the officer authenticates."""

    def status(self) -> dict[str, object]:
        """What `ivmactl status` shows of it, as JSON."""
        return {}
