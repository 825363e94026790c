"""The fleet's configuration on a disk that fails, or loses its power, at each operation of its whole life."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.desired import DesiredFile, Kept, Trial

FIRST, SECOND = Trial(7, "a = 1\n", 60), Trial(9, "a = 2\n", 60)


class Cut(BaseException):
    """The power goes: nothing of this run happens any more."""


def life(file: DesiredFile, done: Callable[[Kept], None]) -> None:
    """Every step that there is, in an order in which they come."""
    steps: tuple[Callable[[], object], ...] = (
        file.load, lambda: file.accept(FIRST), file.begin, file.confirm, lambda: file.accept(SECOND),
        file.begin, file.begin, file.begin, file.begin, lambda: file.raise_accepted(20),
        lambda: file.accept(Trial(21, "a = 3\n", 5)), lambda: file.roll_back("ill"),
    )  # fmt: skip
    for step in steps:
        step()
        done(file.kept)


class Disk:
    """Counts what is asked of the disk and strikes at one of them; what was not synced is lost."""

    def __init__(self, strike_at: int, what: type[BaseException], *, renamed: bool) -> None:
        self.asked = 0
        self._strike_at = strike_at
        self._what = what
        self._renamed = renamed  # whether a rename that was not synced arrived
        self._synced: set[str] = set()
        self._undo: tuple[Path, bytes | None, bytes] | None = None

    def ask(self) -> None:
        self.asked += 1
        if self.asked == self._strike_at:
            if self._what is Cut:
                self._lose()
                raise Cut
            raise OSError(28, os.strerror(28))

    def _lose(self) -> None:
        if self._undo is not None and not self._renamed:
            target, before, _ = self._undo
            if before is None:
                target.unlink()
            else:
                target.write_bytes(before)

    @contextmanager
    def under(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        open_, fsync, replace, unlink = os.open, os.fsync, Path.replace, Path.unlink

        def opened(*given: Any, **named: Any) -> int:
            self.ask()
            return open_(*given, **named)

        def synced(descriptor: int) -> None:
            self.ask()
            fsync(descriptor)
            name = str(Path(f"/proc/self/fd/{descriptor}").readlink())
            self._synced.add(name)
            if self._undo is not None and name == str(self._undo[0].parent):
                self._undo = None

        def replaced(path: Path, target: Path) -> Path:
            self.ask()
            whole = path.read_bytes() if str(path) in self._synced else b""
            self._undo = (target, target.read_bytes() if target.exists() else None, whole)
            path.write_bytes(whole)  # a rename may arrive before the data that was not synced
            self._synced.discard(str(path))
            return replace(path, target)

        def unlinked(path: Path, *given: Any, **named: Any) -> None:
            self.ask()
            unlink(path, *given, **named)

        with monkeypatch.context() as patched:
            patched.setattr(os, "open", opened)
            patched.setattr(os, "fsync", synced)
            patched.setattr(Path, "replace", replaced)
            patched.setattr(Path, "unlink", unlinked)
            yield


def operations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, list[Kept]]:
    """How many there are in a life, and the states that it goes through."""
    disk, states = Disk(0, Cut, renamed=True), [Kept()]
    with disk.under(monkeypatch):
        life(DesiredFile(tmp_path / "whole.json"), states.append)
    return disk.asked, states


@pytest.mark.parametrize("renamed", [True, False])
def test_a_power_cut_at_any_point_leaves_the_state_before_or_after_the_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renamed: bool
) -> None:
    count, _ = operations(tmp_path, monkeypatch)
    assert count > 40
    for strike_at in range(1, count + 1):
        path = tmp_path / f"{strike_at}.json"
        passed = [Kept()]
        disk, file = Disk(strike_at, Cut, renamed=renamed), DesiredFile(path)
        with disk.under(monkeypatch), pytest.raises(Cut):
            life(file, passed.append)
        (tmp_path / "whole.json").unlink()
        _, states = operations(tmp_path, monkeypatch)
        after = DesiredFile(path)
        after.load()
        assert after.problem is None
        assert after.kept in (passed[-1], states[len(passed)]), strike_at
        assert after.kept.accepted >= passed[-1].accepted


def test_a_disk_that_refuses_leaves_what_was_known_good_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, _ = operations(tmp_path, monkeypatch)
    for strike_at in range(1, count + 1):
        path = tmp_path / f"{strike_at}.json"
        passed = [Kept()]
        disk, file = Disk(strike_at, OSError, renamed=True), DesiredFile(path)
        with disk.under(monkeypatch):
            try:
                life(file, passed.append)
            except OSError:
                assert file.kept == passed[-1], "a step that failed has changed nothing"
        after = DesiredFile(path)
        after.load()
        assert after.problem is None
        assert after.kept in (file.kept, *passed[-2:])  # a rollback holds in memory meanwhile


@pytest.mark.parametrize("damage", [b"", b"x", b"00000000 {}", b"\xff" * 100, b"da39a3ee null"])
def test_a_file_that_cannot_be_read_is_put_aside_and_said(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "desired.json"
    path.write_bytes(damage)
    file = DesiredFile(path)
    file.load()
    assert file.kept == Kept()
    assert file.problem is not None
    assert path.with_name("desired.json.damaged").read_bytes() == damage


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "desired.json"
    DesiredFile(path).accept(FIRST)
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        file = DesiredFile(path)
        file.load()
        assert file.kept == Kept(), at
