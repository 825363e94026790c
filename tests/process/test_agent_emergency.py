"""Records that an earlier run could not hand to its store reach it at the next start."""

from __future__ import annotations

import json
from pathlib import Path

from tests.agent_rig import Agent, bare
from tests.aio import looped
from tests.unit.test_emergency import BOOT, decisions, kept


@looped
async def test_the_next_start_records_it_once(tmp_path: Path) -> None:
    agent = Agent(tmp_path)
    agent.configure(bare(tmp_path))
    (tmp_path / "state").mkdir(mode=0o700)
    kept(path := tmp_path / "state" / "emergency.log", 41)
    async with agent.running():
        _, answer = await agent.ask("events")
        (found,) = [event for event in answer["events"] if event["kind"] == "record.recovered"]
        assert json.loads(found["fields"]["values"])["decision"] == 41
        assert found["fields"]["boot_id"] == BOOT
        while decisions(path):  # forgotten once that is durable
            await agent.ask("status")
    async with agent.running():
        assert "record.recovered" not in await agent.kinds()
