"""Complaints 5 to 10 and 13 to 15 of users of comparable projects, each shown not to happen here.

docs/complaints.md has the whole list, and for each the tests that go deeper.
"""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from agent.core.records import Stream
from agent.core.types import SECOND
from agent.keeper import Keeper
from sync.store import MIN_QUOTA, Store
from tests.property.test_sync_session import World
from tests.store_rig import Rig, alarm, noise, read_all, sample, state


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path / "queue.sqlite")


def put_until(rig: Rig, store: Store, size: int) -> None:
    while store.stats()[Stream.STATE].head.seq * 4_000 < size:
        rig.clock.advance(1)
        store.append([state(rig.clock.boot_ns, noise(rig.random, 8_000))])


# --- 5: a cut or a kill loses data; a corrupt buffer stops the agent (fluent-bit #6995; vector #17644) ---


def test_5_what_was_acknowledged_survives_a_kill_in_the_next_instant(rig: Rig) -> None:
    if (child := os.fork()) == 0:
        store = rig.open()
        store.append([alarm(1), sample(2)])
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    store = rig.open()
    assert [len(read_all(store, stream).rows) for stream in (Stream.ALARM, Stream.TELEMETRY)] == [1, 1]
    store.close()


@pytest.mark.parametrize("content", [b"", b"\0" * 50_000, b"no database at all", os.urandom(20_000)])
def test_5_a_corrupt_buffer_neither_stops_the_agent_nor_is_thrown_away(rig: Rig, content: bytes) -> None:
    rig.path.write_bytes(content)
    store = rig.open()
    assert store.append([state(1)]) == {Stream.STATE: 1}
    store.close()
    again = rig.open()  # nor again at each start
    assert again.damaged is None
    again.close()
    kept = rig.path.with_name("queue.sqlite.damaged-1")
    assert content == b"" or kept.read_bytes() == content


# --- 6: the store is corrupted; a configuration push destroys the queue (thingsboard-gateway #2124) ------


def test_6_another_configuration_leaves_what_is_in_the_queue(rig: Rig) -> None:
    store = rig.open()
    for n in range(50):
        store.append([state(n)])
    store.close()
    rig.quotas = dict.fromkeys(Stream, MIN_QUOTA)
    rig.keep_acked_s = 1
    rig.sealed = True
    store = rig.open()
    store.append([state(50)])
    assert [row.at for row in read_all(store, Stream.STATE).rows.values()] == list(range(51))
    store.close()


# --- 7: a full queue never recovers; duplicates (thingsboard-gateway #1483, #126) ------------------------


def test_7_a_queue_that_was_full_goes_on_when_the_depot_is_back(rig: Rig) -> None:
    rig.quotas[Stream.STATE] = MIN_QUOTA
    store = rig.open()
    put_until(rig, store, 2 * MIN_QUOTA)
    assert read_all(store, Stream.STATE).gaps, "it was full"
    store.acknowledge(Stream.STATE, store.epoch, store.heads()[Stream.STATE])
    before = store.heads()[Stream.STATE].seq
    for n in range(50):
        store.append([state(n)])
    found = read_all(store, Stream.STATE, after=before)
    assert (len(found.rows), found.gaps) == (50, [])
    store.close()


def test_7_what_travels_twice_is_counted_once() -> None:
    world = World(7, 0.4)
    world.produce(Stream.STATE, 100)
    world.run(3600 * SECOND)
    world.faulty = 0.0
    world.run(world.now + 3600 * SECOND)
    assert len(world.published) > 100 / 3, "some of it travelled again"
    assert world.delivered


# --- 8: unbounded memory, the newest dropped; poison burns gigabytes (paho #50; thin-edge #3124) ---------


def test_8_with_nobody_to_read_it_the_file_is_bounded_and_the_newest_is_there(rig: Rig) -> None:
    rig.quotas[Stream.STATE] = MIN_QUOTA
    store = rig.open()
    put_until(rig, store, 3 * MIN_QUOTA)
    newest = store.heads()[Stream.STATE].seq
    assert store.stats()[Stream.STATE].size <= MIN_QUOTA
    found = read_all(store, Stream.STATE)
    assert newest in found.rows
    [(first, last, reason)] = found.gaps
    assert (first, reason) == (1, "quota")
    assert last < newest
    store.close()


def test_8_a_poison_message_costs_few_messages_a_day_and_holds_up_nothing_else() -> None:
    world = World(8, 0.0)
    world.poison = (Stream.STATE, 7)
    for stream in Stream:
        world.produce(stream, 20)
    world.run(24 * 3600 * SECOND)
    assert {stream: world.depot[stream] for stream in Stream} == {**world.heads, Stream.STATE: 6}
    assert len(world.published) < 100
    assert len(world.reports) == 1


# --- 9: reconnect storms; no backoff after a good CONNACK (mosquitto #1035; iotedge #5201) ---------------


def test_9_a_broker_that_accepts_and_hangs_up_is_left_alone_more_and_more() -> None:
    world = World(9, 0.0)
    world.takes = 0  # it hangs up at whatever is sent
    world.produce(Stream.STATE, 1)
    world.run(24 * 3600 * SECOND)
    assert len(world.connects) < 60
    gaps = [b - a for a, b in zip(world.connects[-4:], world.connects[-3:], strict=False)]
    assert min(gaps) > 60 * SECOND


# --- 10: clocks; retention deletes wrong timestamps (balena-supervisor #488; Meadow_Issues #578) ---------


@pytest.mark.parametrize("jump_s", [-50 * 365 * 86_400, -3600, 3600, 50 * 365 * 86_400])
def test_10_a_wall_clock_that_jumps_deletes_nothing_and_changes_no_order(rig: Rig, jump_s: int) -> None:
    rig.keep_acked_s = 100
    store = rig.open()
    for n in range(5):
        store.append([state(n)])
    store.acknowledge(Stream.STATE, store.epoch, store.heads()[Stream.STATE])
    rig.clock.wall_ns += jump_s * SECOND
    for n in range(5, 10):
        store.append([state(n)])
    assert [row.at for row in read_all(store, Stream.STATE).rows.values()] == list(range(10))
    store.close()


# --- 13: a corrupt configuration after a power cycle (greengrass-nucleus #933, #1410, #1168) --------------


@pytest.mark.parametrize("content", [b"", b"\0" * 400, b"[dock", b"[tether]\nride_through_ms = 1\n"])
def test_13_a_configuration_that_a_power_cut_ruined_leaves_the_last_good_one_in_force(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "agent.toml"
    path.write_text('[device]\nfleet = "met"\nname = "tablet-7"\n')
    good, problem = Keeper(path, tmp_path / "state.toml").start()
    assert problem is None
    path.write_bytes(content)
    kept, problem = Keeper(path, tmp_path / "state.toml").start()
    assert problem is not None
    assert str(path) in problem
    assert kept.settings.device.name == good.settings.device.name == "tablet-7"


# --- 14: write amplification and a log that grows (thingsboard-gateway #2122; telegraf #18085) ------------


def test_14_a_record_costs_few_bytes_written_over_its_life(rig: Rig) -> None:
    """By the process's own account (proc(5), wchar): log, database, acknowledgement and deletion."""

    def written() -> int:
        return int(re.findall(r"wchar: (\d+)", Path("/proc/self/io").read_text())[0])

    rig.keep_acked_s = 1
    store = rig.open()
    before, groups = written(), 100
    for _ in range(groups):
        rig.clock.advance(5)
        store.append(
            [sample(rig.clock.boot_ns + n, rig.random.randrange(11_000, 15_000)) for n in range(100)]
        )
        store.acknowledge(Stream.TELEMETRY, store.epoch, store.heads()[Stream.TELEMETRY])
    store.close()
    assert (written() - before) / (100 * groups) <= 100


# --- 15: a time to live that never purges (thingsboard-gateway, seconds against milliseconds) ------------


def test_15_what_was_delivered_goes_after_its_seconds_and_not_before(rig: Rig) -> None:
    rig.keep_acked_s = 100
    store = rig.open()
    store.append([state(1)])
    store.append([state(2)])
    store.acknowledge(Stream.STATE, store.epoch, store.heads()[Stream.STATE])
    for seconds, gone in ((99, 0), (2, 2)):
        rig.clock.advance(seconds)
        store.append([state(3)])
        store.acknowledge(Stream.STATE, store.epoch, store.heads()[Stream.STATE])
        store.append([state(4)])
        assert store.stats()[Stream.STATE].base.seq == gone
    store.close()
