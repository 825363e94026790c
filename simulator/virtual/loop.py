"""An asyncio event loop on the world's agenda: when nothing is ready, time jumps to the next timer.

It has what production code on a loop uses (callbacks, timers, tasks, futures) and nothing with descriptors
or threads. One loop is one process: it freezes while its tablet sleeps, and a killed one runs nothing more.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, Unpack

from agent.core.types import SECOND, BootNs
from simulator.virtual.agenda import Agenda, Entry

# Callbacks in one turn after which the loop counts as hung: no time passes between them.
TURN_LIMIT = 1_000_000

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")


class Killed(BaseException):
    """Unwinds the stack of a process that was killed in the middle of it. Not for production to catch."""


class _Timer(asyncio.TimerHandle):
    """A timer that leaves the agenda when it is cancelled."""

    __slots__ = ("entry",)
    entry: Entry

    def cancel(self) -> None:
        self.entry.cancel()
        asyncio.Handle.cancel(self)  # a TimerHandle would tell its loop, which the entry has done


if TYPE_CHECKING:
    _Loop = asyncio.BaseEventLoop  # concrete for the type checker: what we do not have raises
else:
    _Loop = asyncio.AbstractEventLoop


class VirtualLoop(_Loop):
    """``time`` is CLOCK_MONOTONIC of the tablet: it stands still while the loop is frozen."""

    def __init__(self, agenda: Agenda) -> None:
        self._agenda = agenda
        self._ready: deque[asyncio.Handle] = deque()
        self._origin = agenda.now  # the world's time at which this loop's time was zero
        self._frozen_at: BootNs | None = None
        self._frozen: list[Entry] = []
        self._problem: BaseException | None = None
        self._inside = False
        self._tasks = 0  # made so far
        self.dead = False
        agenda.add_loop(self)

    # --- the process --------------------------------------------------------------------------------

    def enter(self, call: Callable[[Unpack[_Ts]], None], *args: *_Ts) -> None:
        """Call something of this process from outside, then run what it made ready.

        Nothing happens in a dead process; in a frozen one it waits for the thaw.
        """
        if self.dead:
            return
        if self._frozen_at is not None or self._inside:
            self.call_soon(call, *args)
            return
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        self._inside = True
        try:
            call(*args)
            if self._ready:
                self._run_ready()
        except Killed:
            pass
        finally:
            self._inside = False
            asyncio._set_running_loop(before)

    def alarm(self, delay_ns: int, call: Callable[[], None]) -> Entry:
        """``enter`` this process so much later, as a timer of its own: without an asyncio handle's cost."""
        if self._frozen_at is None:
            return self._agenda.after(delay_ns, partial(self.enter, call), self)
        entry = Entry(BootNs(self._frozen_at + delay_ns), partial(self.enter, call), self)
        self._frozen.append(entry)
        return entry

    def turn(self) -> None:
        if self._ready and self._frozen_at is None and not self._inside:
            self.enter(_nothing)

    @property
    def frozen(self) -> bool:
        return self._frozen_at is not None

    def freeze(self) -> None:
        """The tablet sleeps: nothing of this process runs and its timers stand still."""
        if self._frozen_at is None and not self.dead:
            self._frozen_at = self._agenda.now
            self._frozen = self._agenda.take_away(self)

    def thaw(self) -> None:
        """It wakes: timers go on with what was left of them."""
        if self._frozen_at is None or self.dead:
            return
        slept = self._agenda.now - self._frozen_at
        self._origin = BootNs(self._origin + slept)
        self._frozen_at = None
        frozen, self._frozen = self._frozen, []
        self._agenda.give_back(frozen, slept)
        self._agenda.busy = True

    def kill(self) -> None:
        """End at this instant: not a line of the process runs any more, as after SIGKILL."""
        if self.dead:
            return
        self.dead = True
        self._ready.clear()
        self._agenda.take_away(self)
        self._agenda.remove_loop(self)
        for task in sorted(
            asyncio.all_tasks(self), key=asyncio.Task.get_name
        ):  # a set has another order each time
            coroutine = task.get_coro()
            if isinstance(coroutine, Coroutine) and not _is_running(coroutine):
                coroutine.close()

    def _run_ready(self) -> None:
        ready = self._ready
        for _ in range(TURN_LIMIT):
            if not ready:
                return
            handle = ready.popleft()
            if not handle.cancelled():
                handle._run()
                if self._problem is not None:
                    problem, self._problem = self._problem, None
                    raise problem
        raise RuntimeError(f"the loop is hung: {TURN_LIMIT} callbacks and no time has passed")

    # --- what asyncio asks of a loop ------------------------------------------------------------------

    def time(self) -> float:
        now = self._agenda.now if self._frozen_at is None else self._frozen_at
        return (now - self._origin) / SECOND

    def call_soon(
        self, callback: Callable[[Unpack[_Ts]], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        if not self.dead:
            self._make_ready(handle)
        return handle

    def _make_ready(self, handle: asyncio.Handle) -> None:
        self._ready.append(handle)
        self._agenda.busy = self._agenda.busy or not self._inside

    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[_Ts]], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[_Ts]], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        now = self._agenda.now if self._frozen_at is None else self._frozen_at
        return self._timer(now + max(0, math.ceil(delay * SECOND)), callback, args, context)

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[_Ts]], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self._timer(self._origin + math.ceil(when * SECOND), callback, args, context)

    def _timer(
        self, at: int, callback: Callable[..., object], args: tuple[Any, ...], context: Context | None
    ) -> asyncio.TimerHandle:
        handle = _Timer((at - self._origin) / SECOND, callback, args, self, context)

        def due() -> None:
            self._make_ready(handle)

        if self.dead:
            handle.entry = Entry(BootNs(at), due, self)
        elif self._frozen_at is not None:
            handle.entry = Entry(BootNs(at), due, self)
            self._frozen.append(handle.entry)
        else:
            handle.entry = self._agenda.at(BootNs(at), due, self)
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Coroutine[Any, Any, _T] | Generator[Any, None, _T],
        *,
        name: object = None,
        context: Context | None = None,
        **_kwargs: object,
    ) -> asyncio.Task[_T]:
        self._tasks += 1
        return asyncio.Task(coro, loop=self, name=f"{self._tasks:09} {name or ''}", context=context)

    def run_until_complete(self, future: Generator[Any, None, _T] | Awaitable[_T]) -> _T:
        """Let the world go on until ``future`` is done.

        Raises:
            RuntimeError: nothing is on the agenda any more and it is not.
        """
        if isinstance(future, Generator):
            raise TypeError("expected something to await, came a plain generator")
        waiting: list[asyncio.Future[_T]] = []
        self.enter(lambda: waiting.append(asyncio.ensure_future(future)))
        (task,) = waiting
        while not task.done():
            if self._agenda.next_at() is None:
                raise RuntimeError("the loop waits for something that nothing is going to bring about")
            self._agenda.step()
        return task.result()

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """What nobody handled ends the simulation: a process of ours must not have such a thing."""
        if not self.dead and self._problem is None:
            self._problem = context.get("exception") or RuntimeError(str(context.get("message")))

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self._inside

    def is_closed(self) -> bool:
        return self.dead

    def close(self) -> None:
        self.kill()


def _nothing() -> None:
    pass


def _is_running(coroutine: Coroutine[Any, Any, Any]) -> bool:
    return inspect.getcoroutinestate(coroutine) == inspect.CORO_RUNNING
