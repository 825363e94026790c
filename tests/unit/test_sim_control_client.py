"""The rig's client of the control socket, against the agent's own server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from agent.control import ControlServer, Refusal, Verb
from simulator.control_client import ControlClient

LIMIT_S = 90.0


def refuse(_args: object) -> object:
    raise Refusal("bad_request", "not like that", "ask in another way")


class Heard:
    """Events, and a way to wait for one."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self._came = asyncio.Event()

    def take(self, event: dict[str, Any]) -> None:
        self.events.append(event)
        self._came.set()

    async def until(self, event: dict[str, Any]) -> None:
        while event not in self.events:
            self._came.clear()
            await self._came.wait()


def run(folder: Path, work: Callable[[Path, ControlClient, Heard], Awaitable[None]]) -> None:
    async def main() -> None:
        heard = Heard()
        path = folder / "control.sock"
        client = ControlClient(path, heard.take)
        client.start()
        try:
            async with asyncio.timeout(LIMIT_S):
                await work(path, client, heard)
        finally:
            await client.stop()

    asyncio.run(main())


def server(path: Path, subscribed: asyncio.Event) -> ControlServer:
    verbs = {"status": Verb(lambda args: {"echo": dict(args)}), "refuse": Verb(refuse)}
    return ControlServer(path, verbs, group=None, audited=lambda *_: subscribed.set())


def test_it_asks_and_hears_and_comes_back_when_the_agent_does(tmp_path: Path) -> None:
    async def work(path: Path, client: ControlClient, heard: Heard) -> None:
        with pytest.raises(ConnectionError, match="no agent listens"):
            await client.ask("status")
        for number in range(2):
            subscribed = asyncio.Event()
            agent = server(path, subscribed)
            await agent.start()
            await heard.until({"event": "here"})
            heard.events.clear()
            assert await client.ask("status", topic=number) == {"echo": {"topic": number}}
            await subscribed.wait()
            agent.publish({"event": "status", "number": number})
            await heard.until({"event": "status", "number": number})
            await agent.close()
            await heard.until({"event": "gone"})
            assert not client.connected

    run(tmp_path, work)


def test_a_refusal_is_an_error_with_the_agents_words(tmp_path: Path) -> None:
    async def work(path: Path, client: ControlClient, heard: Heard) -> None:
        agent = server(path, asyncio.Event())
        await agent.start()
        await heard.until({"event": "here"})
        with pytest.raises(ConnectionError, match="not like that"):
            await client.ask("refuse")
        await agent.close()

    run(tmp_path, work)
