"""The files under systemd/ against systemd's own tools."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system import lacking, need, search_path

FILES = Path(__file__).parents[2] / "systemd"
UNIT = FILES / "ivma-agent.service"
GUARD = FILES / "ivma-guard.service"


def run(*command: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which(command[0], path=search_path()) or command[0]
    return subprocess.run([program, *command[1:]], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("unit", [UNIT, GUARD], ids=lambda unit: unit.stem)
def test_the_unit_is_sound(tmp_path: Path, unit: Path) -> None:
    need("systemd-analyze")
    for each in (UNIT, GUARD):  # the one names the other
        installed = f"/usr/bin/{each.stem}"
        program = Path(sys.executable).with_name(each.stem)
        assert installed in each.read_text()
        text = each.read_text().replace(installed, str(program if program.exists() else sys.executable))
        (tmp_path / each.name).write_text(text)
    copy = tmp_path / unit.name
    done = run("systemd-analyze", "verify", "--recursive-errors=yes", "--man=no", str(copy))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_units_of_the_officers_session_are_sound(tmp_path: Path) -> None:
    need("systemd-analyze")
    unit, installed = FILES / "ivma-notice.service", "/usr/bin/ivma-notice"
    assert installed in unit.read_text()
    notice = Path(sys.executable).with_name("ivma-notice")
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace(installed, str(notice if notice.exists() else sys.executable)))
    verify = ("systemd-analyze", "--user", "verify", "--recursive-errors=no", "--man=no", str(copy))
    done = run("env", f"XDG_RUNTIME_DIR={tmp_path}", *verify)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("unit", [UNIT, GUARD], ids=lambda unit: unit.stem)
def test_the_unit_is_well_confined(unit: Path) -> None:
    """systemd's own score of what a taken-over process could reach: 0 best, 10 worst."""
    need("systemd-analyze")
    done = run("systemd-analyze", "security", "--offline=yes", "--threshold=25", str(unit))
    if "Unknown" in done.stderr or "unrecognized" in done.stderr:
        lacking("this systemd-analyze cannot score a file")
    assert done.returncode == 0, done.stdout[-500:]


def test_the_unit_lets_the_agent_reach_what_it_needs() -> None:
    unit = UNIT.read_text()
    families = next(line for line in unit.splitlines() if line.startswith("RestrictAddressFamilies="))
    for family in ("AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK", "AF_CAN"):
        assert family in families.split("=")[1].split()
    for device in ("ttyACM", "ttyUSB", "ttyS", "hidraw"):
        assert f"DeviceAllow=char-{device} rw\n" in unit
    assert "DeviceAllow=char-input r\n" in unit
    assert "ProcSubset=pid" not in re.sub("^#.*$", "", unit, flags=re.MULTILINE)


def test_user_groups_and_folders_are_made(tmp_path: Path) -> None:
    need("systemd-sysusers", "systemd-tmpfiles")
    (tmp_path / "etc").mkdir()
    made = run("systemd-sysusers", f"--root={tmp_path}", str(FILES / "ivma-agent.sysusers"))
    if "Operation not permitted" in made.stderr:
        lacking("needs root to make users in a folder")
    assert made.returncode == 0, made.stderr
    assert "ivma:" in (tmp_path / "etc/passwd").read_text()
    assert re.search(r"^dialout:.*:ivma$", (tmp_path / "etc/group").read_text(), re.MULTILINE)
    folders = run("systemd-tmpfiles", f"--root={tmp_path}", "--create", str(FILES / "ivma-agent.tmpfiles"))
    assert folders.returncode == 0, folders.stderr
    assert (tmp_path / "etc/ivma/keys").stat().st_mode & 0o777 == 0o700


UDEV_KEYS = r"(ACTION|SUBSYSTEM|KERNEL|OWNER|ATTRS\{\w+\}|ENV\{\w+\}|GROUP|MODE|TAG|GOTO|LABEL)"
UDEV_TERM = re.compile(rf'{UDEV_KEYS}(==|!=|\+=|=)"[^"]*"')


def test_the_udev_rule_is_sound() -> None:
    """By udevadm where it can verify (systemd 254), and everywhere by the keys and jumps of udev(7)."""
    need("udevadm")
    rules = FILES / "60-ivma-dock.rules"
    done = run("udevadm", "verify", str(rules))
    if run("udevadm", "--version").stdout.strip() >= "254":
        assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in rules.read_text().splitlines() if line and not line.startswith("#")]
    for line in lines:
        for term in line.split(", "):
            assert UDEV_TERM.fullmatch(term), f"{line!r}: {term!r}"
    text = "\n".join(lines)
    assert set(re.findall(r'GOTO="(\w+)"', text)) == set(re.findall(r'LABEL="(\w+)"', text))


@pytest.mark.parametrize(
    "module", ["agent.boot_timer", "agent.control", "agent.login1", "pyudev", "sync.store"]
)
def test_what_the_agent_imports_lives_with_memory_that_is_never_writable_and_executable(module: str) -> None:
    """MemoryDenyWriteExecute=yes of the unit, by the same rule of the kernel (PR_SET_MDWE, Linux 6.3)."""
    program = (
        "import ctypes, sys\n"
        "if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0): sys.exit(77)\n"
        f"import ctypes.util, {module}\n"
        "from agent.boot_timer import BootTimer\n"
        "import asyncio\n"
        "async def main(): BootTimer(asyncio.get_running_loop(), lambda: None).close()\n"
        "asyncio.run(main())\n"
    )
    done = run(sys.executable, "-c", program)
    if done.returncode == 77:
        lacking("this kernel has no PR_SET_MDWE")
    assert done.returncode == 0, done.stderr
