"""The processes of a rig: what they say is kept, and they end when they are told to."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM

import pytest

from simulator.processes import Child

LIMIT_S = 90.0
READY_THEN_WAIT = "import signal; print('ready', flush=True); signal.pause()"
REPORTS_TERM = (
    "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: (print('ending'), sys.exit(3)));"
    + READY_THEN_WAIT.removeprefix("import signal; ")
)


def run(folder: Path, code: str, work: Callable[[Child, list[str], asyncio.Event], Awaitable[None]]) -> str:
    """Run ``work`` with a process of that code; returns the process's log."""

    async def main() -> None:
        lines: list[str] = []
        said = asyncio.Event()

        def hear(line: str) -> None:
            lines.append(line)
            said.set()

        child = Child("child", [sys.executable, "-c", code], folder / "log", on_line=hear)
        try:
            async with asyncio.timeout(LIMIT_S):
                await work(child, lines, said)
        finally:
            await child.kill()

    asyncio.run(main())
    return (folder / "log").read_text()


def test_what_it_says_is_heard_and_kept(tmp_path: Path) -> None:
    async def work(child: Child, lines: list[str], _said: asyncio.Event) -> None:
        await child.start()
        assert await child.ended() == 5
        assert not child.running
        assert sorted(lines) == ["out", "problem"]

    code = "import sys; print('out'); print('problem', file=sys.stderr); sys.exit(5)"
    assert sorted(run(tmp_path, code, work).split()) == ["out", "problem"]


def test_it_is_asked_to_stop_and_may_do_so_in_order(tmp_path: Path) -> None:
    async def work(child: Child, _lines: list[str], said: asyncio.Event) -> None:
        await child.start()
        await said.wait()
        assert child.running
        assert await child.stop() == 3

    assert run(tmp_path, REPORTS_TERM, work) == "ready\nending\n"


def test_it_is_killed_and_started_again(tmp_path: Path) -> None:
    async def work(child: Child, _lines: list[str], said: asyncio.Event) -> None:
        for _ in range(2):
            said.clear()
            await child.start()
            await said.wait()
            assert await child.kill() == -SIGKILL

    assert run(tmp_path, REPORTS_TERM, work) == "ready\nready\n"


def test_a_stopped_one_goes_on_where_it_was(tmp_path: Path) -> None:
    async def work(child: Child, _lines: list[str], said: asyncio.Event) -> None:
        await child.start()
        await said.wait()
        child.signal(SIGSTOP)
        child.signal(SIGTERM)
        child.signal(SIGCONT)
        assert await child.ended() == 3

    run(tmp_path, REPORTS_TERM, work)


def test_one_that_never_ran_needs_no_stop(tmp_path: Path) -> None:
    async def work(child: Child, _lines: list[str], _said: asyncio.Event) -> None:
        assert await child.stop() is None
        child.signal(SIGTERM)
        (tmp_path / "log").touch()

    run(tmp_path, "", work)


def test_a_second_start_is_refused_while_the_first_runs(tmp_path: Path) -> None:
    async def work(child: Child, _lines: list[str], said: asyncio.Event) -> None:
        await child.start()
        await said.wait()
        with pytest.raises(RuntimeError, match=f"child runs already, as process {child.pid}"):
            await child.start()

    run(tmp_path, READY_THEN_WAIT, work)
