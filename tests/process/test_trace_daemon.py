"""The black box of a running agent: looked at, audited, killed, read when dead, and replayed."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from agent.core.types import SECOND, KeyPosition
from agent.trace import BATCH_NS
from agent.trace_format import Damage, Step, read_path
from simulator.__main__ import main as ivma_sim
from simulator.compose_bench import Options, Rig
from tests.aio import looped
from tests.system import need

pytestmark = pytest.mark.slow


async def ivmactl(rig: Rig, *arguments: object) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "agent.cli", "--socket", str(rig.layout.control), *map(str, arguments),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode is not None
    return process.returncode, out.decode(), errors.decode()


async def written(rig: Rig, folder: Path, rule: str) -> None:
    """Wait until a decision by ``rule`` is in the files: well before a batch's time would bring it there."""
    async with asyncio.timeout(BATCH_NS / SECOND / 2):
        while rule not in "".join(repr(entry) for entry in read_path(folder)):
            await rig.control.ask("status")  # the agent's loop turned once more


def kinds(path: Path) -> list[str]:
    return [entry.kind for entry in read_path(path) if isinstance(entry, Step)]


@looped
async def test_a_trace_is_audited_survives_a_kill_and_replays(tmp_path: Path) -> None:
    need("mosquitto")
    folder, exported = tmp_path / "state" / "trace", tmp_path / "out.trace"
    async with Rig(tmp_path, Options(broker="mosquitto", dbus=False)) as rig:
        rig.world.vehicle.turn_key(KeyPosition.ON)
        await rig.until_seen(tether="tethered", ignition="on")

        code, out, _ = await ivmactl(rig, "trace", "show", "--json", "--last", 400, "--reason", "fault 4711")
        assert code == 0
        shown = [json.loads(line) for line in out.splitlines()]
        # What was held in memory only is shown too: the agent wrote it when it was asked.
        assert shown[-1]["entry"] in {"step", "wire"}
        assert {"head", "step", "wire"} <= {each["entry"] for each in shown}
        assert (await ivmactl(rig, "trace", "export", exported, "--reason", "fault 4711"))[0] == 0
        assert exported.stat().st_mode & 0o777 == 0o600

        rig.undock()
        await rig.until_seen(posture="locked", session="locked")
        await written(
            rig, folder, "tether.unseated"
        )  # a lock is handed over at once, to a thread that takes its time
        await rig.agent.kill()
        code, out, errors = await ivmactl(rig, "trace", "show", "--folder", folder, "--last", 5000)
        assert (code, errors) == (0, "")
        assert "tether.unseated" in out
        code, _, errors = await ivmactl(rig, "trace", "show", "--folder", tmp_path / "nowhere")
        assert (code, "--folder" in errors) == (1, True)

        rig.world.seat(seated=True)
        await rig.agent.start()
        await rig.until_seen(tether="tethered", posture="usable")
        accounts = await rig.settle(60)
        assert accounts.hold, accounts
    with closing(sqlite3.connect(rig.layout.depot)) as depot:
        rows = depot.execute("SELECT body FROM record WHERE kind = 'access.local'").fetchall()
    looks = [look for look in map(json.loads, (body for (body,) in rows)) if look["verb"] == "trace"]
    assert [look["reason"] for look in looks] == ["fault 4711"] * 2
    assert kinds(folder).count("Started") == 2
    assert not [entry for entry in read_path(folder) if isinstance(entry, Damage)]
    for trace in (folder, exported):
        assert ivma_sim(["replay", str(trace), "--config", str(rig.layout.config)]) == 0


@looped
async def test_an_agent_whose_trace_has_no_place_to_go_runs_and_locks(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "trace"
    async with Rig(tmp_path, Options(dbus=False)) as rig:
        rig.world.vehicle.turn_key(KeyPosition.ON)
        await rig.until_seen(tether="tethered", ignition="on")
        await rig.agent.kill()
        shutil.rmtree(folder)
        folder.write_text("in the way")
        await rig.agent.start()
        await rig.until_seen(tether="tethered", posture="usable")
        assert (await ivmactl(rig, "trace", "show"))[0] == 1
        rig.undock()
        await rig.until_seen(posture="locked", session="locked")
        _, out, _ = await ivmactl(rig, "status", "--json")
        assert json.loads(out)["trace"]["lost"] > 0
