"""The officer's notice with the real agent: what a loss, an undocking and a dead agent look like."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from agent.clock import boot_now
from agent.core.types import SECOND, KeyPosition
from agent.notice.page import Page
from agent.notice.words import load
from agent.notice_desk import HOLD_S
from simulator.compose_bench import Options, Rig
from tests.agent_rig import Agent, bare, docked
from tests.aio import looped
from tests.notice_rig import following
from tests.permit_rig import Tablet
from tests.system import need

POLICY = {"tether": {"refill_after_s": 1}, "power": {"run_on_s": 600, "max_s": 900}}


@looped
async def test_a_loss_counts_down_and_an_undocking_says_why(tmp_path: Path) -> None:
    need("dbus-daemon")
    async with Rig(tmp_path, Options(policy=POLICY)) as rig, following(rig.layout.control) as (feed, until):
        rig.world.vehicle.turn_key(KeyPosition.ON)
        await docked(rig)
        await until("docked")
        rig.spawn(rig.world.glitch(8000))
        await until("uncertain")
        assert feed.said.until is not None
        assert 0 < feed.said.until - boot_now() <= 10_000_000_000
        await until("restricted")
        assert feed.said.rule == "tether.ride_through_over"
        await until("docked")
        rig.undock()
        await until("restricted")
        assert feed.said.rule == "tether.unseated"


async def ask(path: Path, **args: Any) -> dict[str, Any]:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(json.dumps({"id": 1, "verb": "notice", "args": args}).encode() + b"\n")
    answer: dict[str, Any] = json.loads(await reader.readline())
    writer.close()
    return answer


@looped
async def test_the_agent_answers_at_once_what_is_new_and_holds_what_is_not(tmp_path: Path) -> None:
    agent = Agent(tmp_path)
    agent.configure(bare(tmp_path))
    loop = asyncio.get_running_loop()
    async with agent.running() as process, following(agent.control) as (_, until):
        told = (await ask(agent.control))["result"]
        assert told["device"] == "tablet-1"
        assert told["tether"] == {"state": "unknown", "usable": False, "ride_through_ms_left": None}
        assert told["rule"]
        begun = loop.time()
        again = (await ask(agent.control, seen=told["revision"]))["result"]
        assert again["revision"] == told["revision"]
        assert loop.time() - begun >= HOLD_S * 0.9
        assert (await ask(agent.control, seen="x"))["error"]["code"] == "bad_request"
        await until("unknown")
        process.kill()
        await until("silent")


@looped
async def test_override_and_code_are_taken_over_the_officers_socket_and_shown(tmp_path: Path) -> None:
    """The page's own requests, a real agent, and the control room's own command."""
    tablet = Tablet(tmp_path)
    officer = tmp_path / "run" / "officer.sock"
    async with tablet.running(), following(officer) as (feed, until):
        await until("restricted")
        assert (feed.said.overrides_left, feed.said.codes) == (2, True)
        page = Page(feed, load(), boot_now)
        assert await act(page, act="override", confirmed=True) == {
            "ok": True,
            "says": page.words.override.taken,
        }
        await until("override")
        assert feed.said.until is not None
        assert 0 < feed.said.until - boot_now() <= 900 * SECOND
        assert feed.said.overrides_left == 1
        assert (await act(page, act="challenge", minutes=60))["ok"]
        challenge = (await ask(officer))["result"]["grants"]["challenge"]["challenge"]
        wrong = await act(page, act="answer", answer="000000000000")
        assert not wrong["ok"]
        assert "that is not the answer" in wrong["says"]
        asked = ("--device", "tablet-1", "--challenge", challenge, "--minutes", "60")
        said = tablet.control_room("code", *asked)
        code = next(line for line in said.split() if len(line.replace("-", "")) == 12)
        assert (await act(page, act="answer", answer=code))["ok"]
        told = (await ask(officer))["result"]["grants"]
        assert told["permit"]["s_left"] > 3000


async def act(page: Page, **asked: Any) -> dict[str, Any]:
    """What the page's script would be answered."""
    return await page.do(json.dumps(asked).encode())
