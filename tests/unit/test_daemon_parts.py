"""Small parts of a run: what outlives a restart, the note of a lock, and what the daemon says of itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent import memory
from agent.control import Refusal
from agent.core import catalogue
from agent.core.policy import Policy
from agent.core.state import initial
from agent.core.types import SECOND, BootNs, DockProof, Remembered, Started
from agent.keeper import Keeper
from agent.marker import FileMarker
from agent.report import RING, Reporter
from agent.runtime import Runtime
from tests.core_driver import status

REMEMBERED = Remembered("boot", "tethered", 12, 34, 5, 6, 7, shutdown_requested=True)

# --- memory ------------------------------------------------------------------------------------------


def test_what_is_remembered_is_read_back() -> None:
    assert memory.decode(memory.encode(REMEMBERED)) == REMEMBERED
    assert memory.decode(None) is None


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff\xfe", b"[]", b'{"decision": "many"}', b"null", b"0"])
def test_memory_that_cannot_be_read_is_none(raw: bytes) -> None:
    assert memory.decode(raw) is None


def test_memory_of_an_older_agent_lacks_what_it_did_not_know() -> None:
    assert memory.decode(b'{"tether": "foreign", "decision": 4}') == Remembered(tether="foreign", decision=4)


# --- marker ------------------------------------------------------------------------------------------


def test_a_note_tells_the_next_run_of_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert FileMarker(path).read() is None
    FileMarker(path).set(7, "tether.unseated")
    assert FileMarker(path).read() == (7, "tether.unseated")
    FileMarker(path).set(9, "tether.foreign")
    assert FileMarker(path).read() == (9, "tether.foreign")


def test_a_note_goes_when_its_record_is_durable_and_a_later_one_stays(tmp_path: Path) -> None:
    marker = FileMarker(tmp_path / "lock")
    marker.set(7, "tether.unseated")
    marker.set(9, "tether.foreign")
    marker.clear(7)
    assert marker.read() == (9, "tether.foreign")
    marker.clear(9)
    assert marker.read() is None
    marker.clear(9)


def test_a_note_of_an_earlier_run_goes_unless_this_run_locked_again(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    FileMarker(path).set(7, "tether.unseated")
    again = FileMarker(path)
    again.clear(7)
    assert again.read() is None
    FileMarker(path).set(7, "tether.unseated")
    again.set(8, "tether.unseated")
    again.clear(7)
    assert again.read() == (8, "tether.unseated")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"decision": 3}', '{"decision": "x", "rule": "y"}'])
def test_a_note_that_cannot_be_read_counts_as_one(tmp_path: Path, text: str) -> None:
    (tmp_path / "lock").write_text(text)
    assert FileMarker(tmp_path / "lock").read() == (None, "unreadable marker")


def test_a_note_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    marker = FileMarker(tmp_path / "missing" / "lock")
    marker.set(7, "tether.unseated")
    marker.clear(7)
    assert marker.read() is None


# --- configuration that cannot be kept ---------------------------------------------------------------


def test_a_good_configuration_takes_effect_although_it_cannot_be_kept(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text('device = { fleet = "met", name = "tablet-1" }\n')
    (tmp_path / "copy").mkdir()  # where the copy should be: stands for a full or read-only disk
    keeper = Keeper(file, tmp_path / "copy")
    config, problem = keeper.start()
    assert (config.settings.device.name, problem) == ("tablet-1", None)
    keeper.complain()
    assert keeper.reload() == config


# --- report ------------------------------------------------------------------------------------------


class Ledger:
    def commit(self, *_: object) -> asyncio.Future[object]:
        done: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done


class Unmarked:
    def set(self, decision: int, rule: str) -> None:
        pass

    def clear(self, decision: int) -> None:
        pass


class Bench:
    """A reporter with a runtime that has just started, in a loop."""

    def __init__(self) -> None:
        self.published: list[Mapping[str, Any]] = []
        self.reporter = Reporter(
            identity={"version": "1.2.3", "config": "abc"},
            now=lambda: BootNs(20 * SECOND),
            publish=self.published.append,
            queue=self.queue,
            sections={"docks": lambda: {"dock": {"cobs": 3}}},
        )
        self.runtime = Runtime(
            initial(Policy()),
            Policy(),
            ledger=Ledger(),
            run=lambda effect: None,
            marker=Unmarked(),
            now=lambda: BootNs(10 * SECOND),
            watchers=[self.reporter.watch],
        )

    async def queue(self) -> object:
        return {"alarm": {"head": 3}}

    def start(self) -> None:
        self.reporter.attach(self.runtime)
        self.runtime.observe(Started(BootNs(10 * SECOND), "boot", None))

    def ask(self, verb: str, **args: object) -> Any:
        return self.reporter.verbs()[verb].run(args)


def test_before_the_start_it_says_that_it_is_starting() -> None:
    with pytest.raises(Refusal, match="still starting") as refused:
        Bench().ask("status")
    assert refused.value.code == "starting"


def test_status_has_who_it_is_the_core_and_every_part() -> None:
    async def scene() -> None:
        bench = Bench()
        bench.start()
        answer = bench.ask("status")
        assert answer["version"] == "1.2.3"
        assert answer["tether"]["state"] == "unknown"
        assert answer["docks"] == {"dock": {"cobs": 3}}
        assert answer["runtime"] == {"steps": 1, "dropped": 0}
        json.dumps(answer)
        bench.reporter.configured("def")
        assert bench.ask("status")["config"] == bench.ask("version")["config"] == "def"

    asyncio.run(scene())


def test_why_answers_each_topic_and_refuses_others() -> None:
    async def scene() -> None:
        bench = Bench()
        bench.start()
        for topic in ("tether", "ignition", "power"):
            answer = bench.ask("why", topic=topic)
            assert answer["topic"] == topic
            assert answer["rule"].startswith(f"{topic}.")
        assert bench.ask("why")["topic"] == "tether"
        with pytest.raises(Refusal, match="weather") as refused:
            bench.ask("why", topic="weather")
        assert "ignition" in refused.value.hint

    asyncio.run(scene())


def test_events_are_the_newest_of_the_core_and_of_the_daemon() -> None:
    async def scene() -> None:
        bench = Bench()
        bench.reporter.note(catalogue.CONFIG_APPLIED.make(1, config="abc"))
        bench.start()
        answer = bench.ask("events", last=50)
        kinds = [event["kind"] for event in answer["events"]]
        assert kinds[0] == "config.applied"
        assert "enforcement.changed" in kinds
        assert answer["now_ns"] == 20 * SECOND
        assert [event["kind"] for event in bench.ask("events", last=1)["events"]] == kinds[-1:]
        assert [event["kind"] for event in bench.published if event["event"] == "record"] == kinds

    asyncio.run(scene())


@pytest.mark.parametrize("last", [0, -1, RING + 1, "5", 1.5, True, None])
def test_a_bad_number_of_events_is_refused(last: object) -> None:
    with pytest.raises(Refusal, match="last"):
        Bench().ask("events", last=last)


def test_the_ring_is_bounded() -> None:
    bench = Bench()
    for number in range(RING + 5):
        bench.reporter.note(catalogue.CONFIG_APPLIED.make(number, config="abc"))
    events = bench.ask("events", last=RING)["events"]
    assert [event["boot_ns"] for event in events] == list(range(5, RING + 5))


def test_a_decision_publishes_the_status_after_it() -> None:
    async def scene() -> None:
        bench = Bench()
        bench.start()
        at = BootNs(11 * SECOND)
        bench.published.clear()
        bench.runtime.observe(DockProof(at, "dock", at))
        assert bench.published == []
        for ms in range(0, 1000, 100):
            bench.runtime.observe(replace(status(at), at=BootNs(at + ms * 1_000_000), evidence_at=at))
        assert bench.published[-1]["event"] == "status"
        assert bench.published[-1]["status"]["tether"]["state"] == "tethered"

    asyncio.run(scene())


def test_the_queue_is_asked_of_the_store() -> None:
    assert asyncio.run(Bench().ask("queue")) == {"alarm": {"head": 3}}
