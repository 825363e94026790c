"""ivma-pam in a real PAM stack: a password alone opens neither a log-in nor a screen lock."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.guard import posture
from agent.guard.posture import Posture
from simulator.compose_bench import boot_now
from tests.system import lacking, need

OFFICER, FITTER, PASSWORD = "officer", "fitter", "correct horse"
ROOT = Path(__file__).parents[2]
BOOT_ID = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
WRAPPER = "libpam_wrapper.so"
OWN = os.geteuid()


def library(name: str) -> Path:
    """A library of Debian's, wherever this architecture has it."""
    found = next(Path("/usr/lib").glob(f"*/{name}"), None)
    if found is None:
        lacking(f"{name} is not installed; `make system-deps` installs it")
        raise FileNotFoundError(name)  # not reached: lacking skips or fails
    return found


class Stack:
    """Two PAM services in a private folder: a log-in with account, and a screen locker's without."""

    def __init__(self, folder: Path) -> None:
        need("pamtester")
        wrapper, matrix = library(WRAPPER), library("pam_wrapper/pam_matrix.so")
        self.state, self.exempt, services = folder / "run", folder / "maintenance", folder / "pam.d"
        self.state.mkdir(mode=0o755)
        services.mkdir()
        database = folder / "passwords"
        database.write_text("".join(f"{user}:{PASSWORD}:{service}\n" for user in (OFFICER, FITTER)
                                    for service in ("login", "unlock")))  # fmt: skip
        command = folder / "ivma-pam"
        command.write_text(
            f"#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {sys.executable} -m agent.pam"
            f" --folder {self.state} --exempt {self.exempt} --owner {OWN}\n"
        )
        command.chmod(0o755)
        ask = f"pam_exec.so quiet stdout {command}"
        auth = f"auth requisite {ask}\nauth required {matrix} passdb={database}\n"
        account = f"account required {ask}\naccount required {matrix} passdb={database}\n"
        (services / "login").write_text(auth + account)
        (services / "unlock").write_text(auth)
        self._environment = {
            **os.environ,
            "LD_PRELOAD": str(wrapper),
            "PAM_WRAPPER": "1",
            "PAM_WRAPPER_SERVICE_DIR": str(services),
        }

    def ask(
        self, service: str = "unlock", user: str = OFFICER, *what: str, password: str = PASSWORD
    ) -> tuple[bool, str]:
        """(whether PAM lets the user in, everything that was to be read)."""
        done = subprocess.run(
            ["pamtester", service, user, *(what or ("authenticate",))], input=f"{password}\n",
            capture_output=True, text=True, env=self._environment, timeout=60, check=False,
        )  # fmt: skip
        return done.returncode == 0, done.stdout + done.stderr

    def publish(
        self, *, usable: bool, seconds: float = 60, boot_id: str = BOOT_ID, because: str = ""
    ) -> None:
        until = boot_now() + int(seconds * 1e9)
        posture.write(self.state, Posture(usable, boot_id, 1, until, because=because))


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    tmp_path.chmod(0o755)
    return Stack(tmp_path)


def test_a_usable_tablet_opens_by_the_right_password_and_by_no_other(stack: Stack) -> None:
    stack.publish(usable=True)
    assert stack.ask("login", OFFICER, "authenticate", "acct_mgmt")[0]
    assert stack.ask("unlock")[0]
    assert not stack.ask("unlock", password="wrong")[0]


@pytest.mark.parametrize("service", ["login", "unlock"])
def test_a_restricted_tablet_opens_by_no_password_and_says_why(stack: Stack, service: str) -> None:
    stack.publish(usable=False, because="the dock says that the tablet is not in its place")
    let_in, said = stack.ask(service)
    assert not let_in
    assert "Put it back into its dock" in said
    assert "not in its place" in said


def test_the_account_stack_refuses_too(stack: Stack) -> None:
    """A log-in by key or card never asks for a password."""
    stack.publish(usable=False)
    assert not stack.ask("login", OFFICER, "acct_mgmt")[0]
    stack.publish(usable=True)
    assert stack.ask("login", OFFICER, "acct_mgmt")[0]


def plant(path: Path, *, mode: int = 0o644, owner: int = OWN) -> None:
    path.write_text(Posture(True, BOOT_ID, 1, boot_now() + int(60e9)).text())
    path.chmod(mode)
    if owner != OWN:
        os.chown(path, owner, owner)


def missing(folder: Path) -> None:
    (folder / "posture").unlink()


def link(folder: Path) -> None:
    (folder / "posture").rename(folder / "elsewhere")
    (folder / "posture").symlink_to(folder / "elsewhere")


def writable(folder: Path) -> None:
    (folder / "posture").chmod(0o666)


def open_folder(folder: Path) -> None:
    folder.chmod(0o777)


def linked_folder(folder: Path) -> None:
    folder.rename(folder.with_name("real"))
    folder.symlink_to(folder.with_name("real"))


def anothers(folder: Path) -> None:
    if OWN != 0:
        lacking("only root can give a file away")
    plant(folder / "posture", owner=65534)


def pipe(folder: Path) -> None:
    missing(folder)
    os.mkfifo(folder / "posture", 0o644)


def garbage(folder: Path) -> None:
    (folder / "posture").write_bytes(b"ivma-posture 1\nposture usable\n\xff\n")


def endless(folder: Path) -> None:
    with (folder / "posture").open("a") as file:
        file.write("because " + "x" * 5000)


@pytest.mark.parametrize(
    "abuse",
    [missing, link, writable, open_folder, linked_folder, anothers, pipe, garbage, endless],
    ids=lambda abuse: abuse.__name__,
)
def test_a_state_that_does_not_count_refuses(stack: Stack, abuse: Callable[[Path], None]) -> None:
    stack.publish(usable=True)
    assert stack.ask()[0]
    abuse(stack.state)
    let_in, said = stack.ask()
    assert not let_in
    assert "stays locked" in said


@pytest.mark.parametrize(("seconds", "boot_id"), [(-0.001, BOOT_ID), (60, "another boot")])
def test_a_stale_state_refuses(stack: Stack, seconds: float, boot_id: str) -> None:
    stack.publish(usable=True, seconds=seconds, boot_id=boot_id)
    assert not stack.ask()[0]


def test_the_maintenance_account_gets_in_by_its_password_whatever_the_state(stack: Stack) -> None:
    stack.exempt.write_text(f"# the workshop's\n{FITTER}\n")
    assert stack.ask("login", FITTER, "authenticate", "acct_mgmt")[0]
    stack.publish(usable=False)
    assert stack.ask("unlock", FITTER)[0]
    assert not stack.ask("unlock", FITTER, password="wrong")[0]
    assert not stack.ask("unlock", OFFICER)[0]


@pytest.mark.parametrize("how", ["writable", "link"])
def test_a_list_of_maintenance_accounts_that_others_can_have_written_exempts_nobody(
    stack: Stack, how: str
) -> None:
    stack.publish(usable=False)
    real = stack.exempt.with_name("real")
    real.write_text(f"{OFFICER}\n")
    if how == "link":
        stack.exempt.symlink_to(real)
    else:
        real.rename(stack.exempt)
        stack.exempt.chmod(0o666)
    assert not stack.ask()[0]


def test_a_wrong_command_line_refuses() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "agent.pam", "--user", "officer"], cwd=ROOT, capture_output=True, check=False
    )
    assert done.returncode == 1
    assert b"usage" in done.stderr


def test_it_answers_at_once() -> None:
    """Nobody waits for it at a log-in: processor time, and no part of the agent's that is heavy."""
    program = "import sys, time, agent.pam; print(time.process_time(), *sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    seconds, *modules = done.stdout.split()
    assert not {"asyncio", "structlog", "jeepney", "argparse", "msgspec", "json"} & set(modules)
    bare = subprocess.run(
        [sys.executable, "-c", "import time; print(time.process_time())"], capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert float(seconds) < 8 * float(bare.stdout)
