"""What systemd is told, and when the watchdog is fed."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from pathlib import Path

import pytest

from agent.supervise import Notifier, Watchdog, watchdog_interval_s
from tests.aio import looped


@pytest.mark.parametrize("abstract", [False, True])
def test_states_reach_the_service_manager(tmp_path: Path, abstract: bool) -> None:
    name = f"\0ivma-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name)
        manager.settimeout(5)
        notifier = Notifier(name.replace("\0", "@"))
        notifier.ready()
        notifier.status("docked,\n  usable")
        notifier.reloading(42)
        notifier.alive()
        notifier.stopping()
        told = [manager.recv(4096).decode() for _ in range(5)]
        notifier.close()
    assert told == [
        "READY=1",
        "STATUS=docked, usable",
        "RELOADING=1\nMONOTONIC_USEC=42",
        "WATCHDOG=1",
        "STOPPING=1",
    ]


def test_without_a_service_manager_nothing_happens(tmp_path: Path) -> None:
    for address in (None, str(tmp_path / "nobody")):
        notifier = Notifier(address)
        notifier.ready()
        notifier.close()


@pytest.mark.parametrize(
    ("environ", "interval_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 10.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 10.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_interval_is_a_third_of_what_systemd_allows(
    environ: dict[str, str], interval_s: float | None
) -> None:
    assert watchdog_interval_s(environ) == interval_s


@looped
async def test_a_silent_part_starves_the_watchdog_until_it_answers() -> None:
    fed: list[str] = []
    asked: list[str] = []
    watchdog = Watchdog(
        lambda: fed.append("fed"),
        {"store": lambda: asked.append("store"), "uplink": lambda: asked.append("uplink")},
        interval_s=3600,
    )
    watchdog.start()
    assert (fed, asked) == (["fed"], ["store", "uplink"])
    watchdog.alive("store")
    watchdog.round()
    assert fed == ["fed"]
    watchdog.alive("uplink")
    watchdog.round()
    assert fed == ["fed", "fed"]
    watchdog.stop()


@looped
async def test_with_nobody_to_ask_the_loop_itself_is_the_sign_of_life() -> None:
    fed = asyncio.Event()
    count = 0

    def feed() -> None:
        nonlocal count
        count += 1
        if count == 3:
            fed.set()

    watchdog = Watchdog(feed, {}, interval_s=0.001)
    watchdog.start()
    async with asyncio.timeout(5):
        await fed.wait()
    watchdog.stop()


@looped
async def test_a_loop_that_hangs_feeds_nothing() -> None:
    fed = threading.Event()
    watchdog = Watchdog(fed.set, {}, interval_s=0.001)
    watchdog.start()
    fed.clear()
    assert not fed.wait(0.1)  # the loop stands still here
    watchdog.stop()
