"""A site's commands as real processes: their environment, their limit, their end, and what is recorded."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.core.types import LockOutcome, Observation
from agent.enforcement.base import Surroundings
from agent.enforcement.chain import Chain
from agent.enforcement.command import OUTPUT_MAX
from agent.enforcement.hooks import HooksAction
from tests.aio import looped
from tests.logind_rig import boot_now, lock_order, release_order

WAIT_S = 90.0


def _no_bus() -> Any:
    raise AssertionError("hooks need no bus")


class Bench:
    """A chain with only the site's commands, each a Python program that the test writes."""

    def __init__(self, folder: Path) -> None:
        folder.chmod(0o755)
        self.folder = folder
        self.seen: list[LockOutcome] = []
        self._more = asyncio.Event()

    def observe(self, observation: Observation) -> None:
        assert isinstance(observation, LockOutcome)
        self.seen.append(observation)
        self._more.set()

    def program(self, name: str, *lines: str) -> list[str]:
        """Its words; in it ``here`` is the test's folder and ``note`` writes a file there."""
        path = self.folder / name
        head = f"#!{sys.executable} -IS\nimport json, os, sys, signal, time\nhere = {str(self.folder)!r}\n"
        note = (
            "def note(name, text):\n"
            " open(f'{here}/.{name}', 'w').write(text)\n os.rename(f'{here}/.{name}', f'{here}/{name}')\n"
        )
        path.write_text(head + note + "\n".join(lines) + "\n")
        path.chmod(0o755)
        return [str(path)]

    def chain(self, **settings: object) -> Chain:
        around = Surroundings(self.observe, boot_now, _no_bus, self.folder)
        return Chain([HooksAction(settings, around)], self.observe, boot_now)

    async def outcomes(self, n: int) -> list[LockOutcome]:
        async with asyncio.timeout(WAIT_S):
            while len(self.seen) < n:
                self._more.clear()
                await self._more.wait()
        return self.seen

    async def notes(self, pattern: str, n: int = 1) -> list[str]:
        """What commands noted, once ``n`` have."""
        async with asyncio.timeout(WAIT_S):
            while len(found := sorted(self.folder.glob(pattern))) < n:  # noqa: ASYNC110 - of another process
                await asyncio.sleep(0.01)
        return [path.read_text() for path in found]


async def gone(*pids: str) -> None:
    """Wait until none of the processes runs any more."""
    with contextlib.ExitStack() as stack:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                ends = os.pidfd_open(int(pid))
                stack.callback(os.close, ends)
                ended = asyncio.Event()
                asyncio.get_running_loop().add_reader(ends, ended.set)
                stack.callback(asyncio.get_running_loop().remove_reader, ends)
                async with asyncio.timeout(WAIT_S):
                    await ended.wait()


@looped
async def test_commands_run_on_lock_and_on_release_and_both_are_recorded(tmp_path: Path) -> None:
    rig = Bench(tmp_path)
    hook = rig.program(
        "relay",
        "own = os.getpgid(0) == os.getpid()",
        "seen = [sys.argv[1:], dict(os.environ), os.getcwd(), own, sys.stdin.read()]",
        "note(os.environ['IVMA_EVENT'], json.dumps(seen))",
    )
    chain = rig.chain(on_lock=[[*hook, "open; rm -rf $HOME"]], on_release=[[*hook, "close"]])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IVMA_SECRET", "not for a hook")
        chain.lock(lock_order(7))
        (locked,) = await rig.outcomes(1)
        chain.release(release_order(8))
        released = (await rig.outcomes(2))[1]
    assert (locked.decision, locked.action, locked.ok) == (7, "hooks", True)
    assert locked.took_ns > 0
    assert (released.decision, released.ok, released.detail[:10]) == (8, True, "on release")
    arguments, environment, folder, own_group, given = json.loads((tmp_path / "lock").read_text())
    assert arguments == ["open; rm -rf $HOME"]  # no shell looked at it
    assert {key: value for key, value in environment.items() if key.startswith("IVMA")} == {
        "IVMA_EVENT": "lock", "IVMA_DECISION": "7",
        "IVMA_RULE": "tether.unseated", "IVMA_VERDICT": "restricted",
    }  # fmt: skip
    assert {key for key in environment if not key.startswith("IVMA")} <= {"PATH", "LANG", "LC_CTYPE"}
    assert (folder, own_group, given) == ("/", True, "")
    assert json.loads((tmp_path / "release").read_text())[0] == ["close"]
    await chain.close()


@looped
async def test_a_command_over_its_limit_is_killed_with_its_whole_group(tmp_path: Path) -> None:
    rig = Bench(tmp_path)
    slow = rig.program(
        "slow",
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
        "child = os.fork()",
        "if child: note('pids', f'{os.getpid()} {child}')",
        "time.sleep(60)",
    )
    chain = rig.chain(on_lock=[slow], limit_ms=1500)
    chain.lock(lock_order(1))
    (outcome,) = await rig.outcomes(1)
    assert not outcome.ok
    assert "slow killed at its limit of 1.5 s" in outcome.detail
    assert outcome.took_ns >= 1_400_000_000
    (pids,) = await rig.notes("pids")
    await gone(*pids.split())
    await chain.close()


@looped
async def test_what_a_command_leaves_running_goes_with_it(tmp_path: Path) -> None:
    rig = Bench(tmp_path)
    leaves = rig.program(
        "leaves", "child = os.fork()", "note('pid', str(child)) if child else time.sleep(60)"
    )
    chain = rig.chain(on_lock=[leaves], limit_ms=30_000)
    chain.lock(lock_order(1))
    (outcome,) = await rig.outcomes(1)  # though the child holds the pipe
    assert outcome.ok
    (pid,) = await rig.notes("pid")
    await gone(pid)
    await chain.close()


@looped
async def test_a_release_ends_the_commands_of_the_lock_before_its_own_begin(tmp_path: Path) -> None:
    rig = Bench(tmp_path)
    slow = rig.program("slow", "note('pid', str(os.getpid()))", "time.sleep(60)")
    check = rig.program(
        "check", "note('gone', str(not os.path.exists('/proc/' + open(here + '/pid').read())))"
    )
    chain = rig.chain(on_lock=[slow], on_release=[check], limit_ms=30_000)
    chain.lock(lock_order(1))
    await rig.notes("pid")
    chain.release(release_order(2))
    superseded, released = await rig.outcomes(2)
    assert "superseded" in superseded.detail
    assert released.ok
    assert await rig.notes("gone") == ["True"]
    await chain.close()


@looped
async def test_the_same_decision_runs_them_once_unless_they_failed(tmp_path: Path) -> None:
    rig = Bench(tmp_path)
    count = rig.program(
        "count", "open(f'{here}/n', 'a').write('x')", "raise SystemExit(len(open(f'{here}/n').read()) < 2)"
    )
    chain = rig.chain(on_lock=[count])
    for number in range(1, 5):
        chain.lock(lock_order(3))
        await rig.outcomes(number)
    assert [outcome.ok for outcome in rig.seen] == [False, True, True, True]
    assert await rig.notes("n") == ["xx"]
    assert "ended with 1" in rig.seen[0].detail
    await chain.close()


@looped
async def test_output_is_bounded_and_made_one_line(tmp_path: Path) -> None:
    rig = Bench(tmp_path)
    talks = rig.program(
        "talks", "print('first line\\n\\x1b[31mred')", "print('x' * 1_000_000)", "raise SystemExit(3)"
    )
    chain = rig.chain(on_lock=[talks])
    chain.lock(lock_order(1))
    (outcome,) = await rig.outcomes(1)
    assert "ended with 3 first line  [31mred xxx" in outcome.detail
    assert outcome.detail.isprintable()
    assert len(outcome.detail) < OUTPUT_MAX
    await chain.close()


@looped
async def test_what_is_missing_or_others_can_change_is_not_started(tmp_path: Path) -> None:
    rig = Bench(tmp_path)
    open_to_all = rig.program("open", "note('ran', '')")
    (tmp_path / "open").chmod(0o777)
    chain = rig.chain(on_lock=[open_to_all, [str(tmp_path / "none")]])
    chain.lock(lock_order(1))
    (outcome,) = await rig.outcomes(1)
    assert not outcome.ok
    assert "open not started" in outcome.detail
    assert "others can change it" in outcome.detail
    assert "No such file" in outcome.detail
    assert not (tmp_path / "ran").exists()
    await chain.close()


@looped
async def test_commands_that_hang_delay_no_lock_and_no_stop(tmp_path: Path) -> None:
    rig = Bench(tmp_path)
    hangs = rig.program("hangs", "note(f'pid{os.getpid()}', str(os.getpid()))", "time.sleep(60)")
    chain = rig.chain(on_lock=[hangs] * 8, limit_ms=60_000)
    chain.lock(lock_order(1))
    pids = await rig.notes("pid*", 8)
    async with asyncio.timeout(WAIT_S):
        await chain.close()
    await gone(*pids)
