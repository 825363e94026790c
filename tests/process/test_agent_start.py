"""The daemon's start, stop and reload as a service manager sees them, and what it refuses to start with."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.agent_rig import Agent, bare, stop
from tests.aio import looped

KEY = "00" * 32
DOCK = {"port": "/dev/null-dock", "serial": "DK-000042", "vehicle_id": "WV1ZZZ7HZNH000042"}


def dock(folder: Path, key: str = KEY, mode: int = 0o600, **over: Any) -> dict[str, Any]:
    """A [[dock]] table, its key file written."""
    file = folder / "dock.key"
    file.write_text(key)
    file.chmod(mode)
    return {**DOCK, "key_file": file, **over}


@looped
async def test_without_a_usable_configuration_it_ends_with_78_and_says_why(tmp_path: Path) -> None:
    agent = Agent(tmp_path)
    status, text = await agent.ends()
    assert (status, "agent.toml: cannot be read" in text) == (78, True)
    agent.configure(bare(tmp_path, devise={"fleet": "test"}))
    status, text = await agent.ends()
    assert status == 78
    assert "`devise` is not a known key; did you mean `device`?" in text


Broken = Callable[[Path], dict[str, Any]]

BROKEN: dict[str, tuple[Broken, str]] = {
    "key readable by others": (
        lambda folder: {"dock": [dock(folder, mode=0o644)]},
        "other users can read this key; chmod 600",
    ),
    "key of a wrong form": (
        lambda folder: {"dock": [dock(folder, key="secret")]},
        "expected a pairing key of 64 hex digits",
    ),
    "no key": (
        lambda folder: {"dock": [{**DOCK, "key_file": folder / "absent"}]},
        "absent: cannot be read: No such file",
    ),
    "serial that no dock can have": (
        lambda folder: {"dock": [dock(folder, serial="DK-00004é")]},
        "dock dock: ",
    ),
    "unknown dock model": (
        lambda folder: {"dock": [dock(folder, model="referense")]},
        "`referense` is not registered in ivma.docks",
    ),
    "no signing key": (
        lambda folder: {
            "sync": {"host": "localhost", "signing_key_file": folder / "a", "depot_key_file": folder / "b"}
        },
        "cannot be read: No such file",
    ),
    "boot id of a wrong form": (
        lambda folder: {"paths": {**bare(folder)["paths"], "boot_id": folder / "agent.toml"}},
        "expected 32 hex digits",
    ),
    "state folder that cannot be made": (
        lambda folder: {"paths": {**bare(folder)["paths"], "state_dir": folder / "agent.toml" / "state"}},
        "Not a directory",
    ),
    "unknown setting of an action": (
        lambda _folder: {
            "enforcement": {"actions": ["logind"], "power": "console", "settings": {"logind": {"trust": 1}}}
        },
        "unknown ['trust']",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
@looped
async def test_what_it_cannot_start_with_ends_with_70_in_words(tmp_path: Path, case: str) -> None:
    tables, words = BROKEN[case]
    agent = Agent(tmp_path)
    agent.configure(bare(tmp_path) | tables(tmp_path))
    status, text = await agent.ends()
    assert status == 70
    assert words in text
    assert "ivma-agent cannot start: " in text
    assert "Traceback" not in text
    assert "secret" not in text


@looped
async def test_a_second_agent_on_the_same_store_is_refused_and_told_who_has_it(tmp_path: Path) -> None:
    agent = Agent(tmp_path)
    agent.configure(bare(tmp_path))
    async with agent.running() as first:
        status, text = await Agent(tmp_path).ends()
        assert status == 75
        assert f"process {first.pid}" in text
        assert "Traceback" not in text
        code, _ = await agent.ask("version")
        assert code == 0
        assert await stop(first) == 0


@looped
async def test_sigterm_ends_with_0_in_time_and_everything_committed(tmp_path: Path) -> None:
    agent = Agent(tmp_path)
    agent.configure(bare(tmp_path))
    async with agent.running() as process:
        assert await stop(process, 5.0) == 0
        await agent.says("STOPPING=1")
    async with agent.running():
        _, queue = await agent.ask("queue")
        # Started, stopped, started; and no lock of a tablet that was locked before.
        assert queue["audit"]["head"] == 3
        assert queue["alarm"]["head"] >= 1


@looped
async def test_a_bad_file_at_the_start_leaves_the_last_good_one_in_force_and_is_recorded(
    tmp_path: Path,
) -> None:
    agent = Agent(tmp_path)
    agent.configure(bare(tmp_path))
    async with agent.running():
        _, before = await agent.ask("version")
    agent.config.write_text("[device\n")
    async with agent.running():
        _, after = await agent.ask("version")
        assert after["config"] == before["config"]
        assert "config.refused" in await agent.kinds()


@looped
async def test_a_reload_applies_a_policy_and_refuses_a_bad_file(tmp_path: Path) -> None:
    agent = Agent(tmp_path)
    agent.configure(bare(tmp_path, policy={"power": {"run_on_s": 600}}))
    async with agent.running() as process:
        _, before = await agent.ask("version")
        agent.configure(bare(tmp_path, policy={"power": {"run_on_s": 300}}))
        process.send_signal(signal.SIGHUP)
        await agent.says("RELOADING=1")
        await agent.says("READY=1")
        _, after = await agent.ask("status")
        assert after["config"] != before["config"]

        agent.configure(bare(tmp_path, policy={"power": {"run_on_s": 1}}))
        process.send_signal(signal.SIGHUP)
        await agent.says("RELOADING=1")
        await agent.says("READY=1")
        _, still = await agent.ask("status")
        assert still["config"] == after["config"]
        kinds = await agent.kinds()
        assert kinds.index("config.applied") < kinds.index("config.refused")
        _, answer = await agent.ask("events")
        (refused,) = [e for e in answer["events"] if e["kind"] == "config.refused"]
        assert "policy.power.run_on_s" in refused["fields"]["problem"]
        assert await stop(process) == 0


@looped
async def test_the_watchdog_is_fed_while_the_store_answers(tmp_path: Path) -> None:
    agent = Agent(tmp_path, {"WATCHDOG_USEC": "300000"})
    agent.configure(bare(tmp_path))
    async with agent.running():
        for _ in range(3):
            await agent.says("WATCHDOG=1")


@looped
async def test_a_disk_that_takes_nothing_stops_no_start_and_no_lock(tmp_path: Path) -> None:
    agent = Agent(tmp_path, file_bytes=0)
    agent.configure(bare(tmp_path))
    async with agent.running() as process:
        assert process.stdout is not None
        said = json.loads(await process.stdout.readline())
        assert (said["enforcement"], said["rule"]) == ("lock", "tether.no_evidence")
        code, status = await agent.ask("status")
        assert (code, status["tether"]["posture"]) == (1, "locked")
        assert status["store"]["ok"] is False
        assert status["store"]["detail"]
        assert await stop(process, 10.0) == 0
