"""A site's own commands on lock and on release: relays, sirens, what else a vehicle has.

They never delay a lock: they begin on the loop's next turn and are waited for by nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Mapping, Sequence
from functools import partial

import structlog

from agent.core.types import BootNs, Lock, LockOutcome, Release
from agent.enforcement import command
from agent.enforcement.base import EnforcementAction, Outcome, SettingsError, Surroundings

SETTINGS = frozenset({"on_lock", "on_release", "limit_ms"})
COMMANDS_MAX = 8  # of one event, ours
WORDS_MAX = 32  # of one command, ours
WORD_MAX = 4096  # characters, ours
DETAIL_MAX = 200  # characters of a command's output in its outcome, ours; the log has more
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

Command = tuple[str, ...]
log = structlog.get_logger()


class HooksAction(EnforcementAction):
    """Runs the commands of an event all at once, each with its time limit, and says how they ended.

    Settings: ``on_lock`` and ``on_release`` [none] lists of commands, each a list of words that begins with
    an absolute path; ``limit_ms`` [5000]. A command gets a clean environment with IVMA_EVENT (lock, release),
    IVMA_DECISION, IVMA_VERDICT and IVMA_RULE, no input, and a process group of its own, killed at its limit
    and when a newer event comes. The same decision runs them once, unless they failed.
    """

    name = "hooks"

    def __init__(self, settings: Mapping[str, object], around: Surroundings) -> None:
        if unknown := settings.keys() - SETTINGS:
            raise SettingsError(f"enforcement.hooks: unknown {sorted(unknown)}; known are {sorted(SETTINGS)}")
        self._commands = {key: _commands(key, settings.get(key, [])) for key in ("on_lock", "on_release")}
        self._limit_s = _limit_ms(settings.get("limit_ms", 5000)) / 1000
        self._around = around
        self._event: tuple[str, int] | None = None
        self._task: asyncio.Task[Outcome] | None = None  # of the newest event; it is cancelled once at most
        self._turn = asyncio.Lock()  # one event's commands at a time: the former's are gone before the next
        self._last: Outcome | None = None
        self._failed = 0

    def lock(self, order: Lock) -> Awaitable[Outcome]:
        return asyncio.shield(self._begin("lock", order))

    def release(self, order: Release) -> None:
        before, task = self._task, self._begin("release", order)
        if self._commands["on_release"] and task is not before:
            task.add_done_callback(partial(self._tell, order.decision))

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def status(self) -> dict[str, object]:
        last = self._last
        return {
            "ok": None if last is None else last.ok,
            "detail": "" if last is None else last.detail,
            "failed": self._failed,
        }

    def _begin(self, event: str, order: Lock | Release) -> asyncio.Task[Outcome]:
        before, key = self._task, (event, order.decision)
        if before is not None and self._event == key and not _failed(before):
            return before
        if before is not None:
            before.cancel()
        self._event = key
        self._task = asyncio.create_task(self._run(event, order), name=f"hooks on {event}")
        return self._task

    def _tell(self, decision: int, task: asyncio.Task[Outcome]) -> None:
        if not task.cancelled():
            outcome, now = task.result(), self._around.now()
            self._around.observe(
                LockOutcome(now, decision, self.name, outcome.ok, outcome.took_ns, outcome.detail)
            )

    async def _run(self, event: str, order: Lock | Release) -> Outcome:
        begun, cause = self._around.now(), order.cause
        environment = {
            "PATH": PATH, "LANG": "C.UTF-8", "IVMA_EVENT": event, "IVMA_DECISION": str(order.decision),
            "IVMA_VERDICT": cause.verdict, "IVMA_RULE": cause.rule,
        }  # fmt: skip
        commands = self._commands[f"on_{event}"]
        async with self._turn, asyncio.TaskGroup() as group:  # which, cancelled too, waits for all of them
            ran = [group.create_task(self._one(each, environment)) for each in commands]
        troubles = [trouble for each in ran if (trouble := each.result())]
        self._failed += len(troubles)
        said = "; ".join(troubles) or f"{len(commands)} commands ended well"
        self._last = self._outcome(begun, f"on {event}: {said}", ok=not troubles)
        return self._last

    async def _one(self, argv: Command, environment: Mapping[str, str]) -> str:
        """Run one command; what went wrong, or nothing."""
        try:
            command.trusted(argv[0])
            ran = await command.run(argv, environment, self._limit_s)
        except (command.Refused, OSError) as error:
            trouble, output = f"not started: {error}", ""
        else:
            over = f"killed at its limit of {self._limit_s:g} s"
            trouble = over if ran.status is None else f"ended with {ran.status}" if ran.status else ""
            output = ran.output
        say = log.warning if trouble else log.info
        say("hook.ran", command=argv[0], event_=environment["IVMA_EVENT"], trouble=trouble, output=output)
        return f"{argv[0]} {trouble} {output[:DETAIL_MAX]}".strip() if trouble else ""

    def _outcome(self, begun: BootNs, detail: str, *, ok: bool) -> Outcome:
        return Outcome(ok, self._around.now() - begun, detail)


def _failed(task: asyncio.Task[Outcome]) -> bool:
    return task.done() and (task.cancelled() or not task.result().ok)


def _commands(key: str, value: object) -> Sequence[Command]:
    if not isinstance(value, list) or len(value) > COMMANDS_MAX:
        raise SettingsError(
            f"enforcement.hooks.{key}: expected at most {COMMANDS_MAX} commands, not {value!r}"
        )
    return tuple(_command(f"{key}[{number}]", each) for number, each in enumerate(value))


def _command(key: str, value: object) -> Command:
    words = value if isinstance(value, list) else []
    whole = all(isinstance(word, str) and len(word) <= WORD_MAX and "\0" not in word for word in words)
    if not whole or not 0 < len(words) <= WORDS_MAX or not words[0].startswith("/"):
        raise SettingsError(
            f"enforcement.hooks.{key}: expected a list of words that begins with an absolute path, such as "
            f'["/usr/local/lib/ivma/relay", "open"], not {value!r}'
        )
    return tuple(words)


def _limit_ms(value: object) -> int:
    if type(value) is not int or not 100 <= value <= 60_000:
        raise SettingsError(f"enforcement.hooks.limit_ms: expected 100 to 60000 ms, not {value!r}")
    return value
