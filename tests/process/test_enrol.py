"""``ivma-depot enrol``, and Mosquitto under what it wrote: nobody is another tablet."""

from __future__ import annotations

import asyncio
import datetime
import stat
import tomllib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from agent.config import parse
from sync.depot.authority import issued_by, load_certificate
from sync.mqtt_types import MQTT_3_1_1, MQTT_5, Confirmed, Down, Endpoint, Received, Tls, Up, Will
from sync.topics import Topics
from tests.brokers import Peer
from tests.process.test_depot_command import run
from tests.sync_rig import Depot, depot, stopped, tablet, until
from tests.tls_rig import FLEET, endpoint, enrolled, guarded, tls

NOW = datetime.datetime.now(datetime.UTC)


def test_a_tablet_gets_all_that_it_needs_and_nothing_else_that_is_secret(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    done = run("enrol", "--keys", str(keys), "--fleet", "met", "--broker", "mqtt.example", "--device", "t1")
    assert done.returncode == 0, done.stderr
    folder = keys / "tablets" / "t1"
    private = {path.name for path in folder.iterdir() if stat.S_IMODE(path.stat().st_mode) == 0o600}
    assert private == {"device.pem", "code.key", "tablet-tls.pem"}
    assert {path.name for path in folder.iterdir()} - private == {
        "ca.crt", "tablet.crt", "depot.pub", "fleet.pub", "permit.pub", "contractor.pub", "sync.toml",
        "command.pub", "configuration.pub", "sealing.pub",
    }  # fmt: skip
    certificate = load_certificate(folder / "tablet.crt")
    assert certificate.subject.rfc4514_string() == "O=met,CN=t1"
    assert issued_by(certificate, load_certificate(keys / "ca.crt"))
    key = load_pem_private_key((folder / "tablet-tls.pem").read_bytes(), None)
    assert key.public_key() == certificate.public_key()
    assert (folder / "device.pem").read_bytes() == (keys / "devices" / "t1.key").read_bytes()
    settings = parse((folder / "sync.toml").read_bytes()).settings
    assert settings.device.name == "t1"
    assert settings.sync is not None
    assert settings.sync.tls is not None
    for section in tomllib.loads((folder / "sync.toml").read_text())["sync"].values():
        for value in section.values() if isinstance(section, dict) else [section]:
            if "keys_" in value:  # as systemd names what is in /etc/ivma/keys
                assert (folder / value.rpartition("keys_")[2]).exists()


def test_enrolled_again_what_is_good_stays_and_what_is_due_is_renewed(tmp_path: Path) -> None:
    keys = enrolled(tmp_path / "keys", "t1", days=90)
    crt, ca = keys / "tablets/t1/tablet.crt", (keys / "ca.crt").read_bytes()
    first, signing = crt.read_bytes(), (keys / "tablets/t1/device.pem").read_bytes()
    enrolled(keys, "t1", "t2", days=90, at=NOW + datetime.timedelta(days=59))
    assert crt.read_bytes() == first
    enrolled(keys, "t1", days=90, at=NOW + datetime.timedelta(days=61))  # less than a third is left
    assert crt.read_bytes() != first
    assert load_certificate(crt).not_valid_after_utc > NOW + datetime.timedelta(days=150)
    assert (keys / "tablets/t1/device.pem").read_bytes() == signing
    assert (keys / "ca.crt").read_bytes() == ca


def test_a_run_that_was_cut_short_between_two_files_is_put_right(tmp_path: Path) -> None:
    keys = enrolled(tmp_path / "keys", "t1", "t2")
    folder = keys / "tablets" / "t1"
    folder.joinpath("tablet-tls.pem").write_bytes((keys / "tablets/t2/tablet-tls.pem").read_bytes())
    enrolled(keys, "t1")
    key = load_pem_private_key((folder / "tablet-tls.pem").read_bytes(), None)
    assert key.public_key() == load_certificate(folder / "tablet.crt").public_key()


def test_a_broker_that_gets_another_name_gets_another_certificate(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    for hosts in (["a.example"], ["a.example", "192.0.2.7"]):
        given = [part for host in hosts for part in ("--broker", host)]
        assert run("enrol", "--keys", str(keys), "--fleet", "met", *given).returncode == 0
        before = (keys / "broker/broker.crt").read_bytes()
    assert "good until" in run("enrol", "--keys", str(keys), "--fleet", "met", *given).stdout
    assert (keys / "broker/broker.crt").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--fleet", "met", "--device", "ivma-depot"], "the depot's"),
        (["--fleet", "met", "--device", "a/b"], "'a/b'"),
        (["--fleet", "other", "--device", "t1"], "fleet 'met'"),
        (["--fleet", "met", "--days", "0"], "--days 0"),
    ],
)
def test_what_cannot_be_enrolled_is_said(tmp_path: Path, arguments: list[str], words: str) -> None:
    keys = enrolled(tmp_path / "keys", "t1")
    done = run("enrol", "--keys", str(keys), "--broker", "b.example", *arguments)
    assert done.returncode == 2
    assert words in done.stderr


@pytest.mark.parametrize("version", [MQTT_5, MQTT_3_1_1])
def test_a_tablet_that_tries_to_be_another_is_neither_heard_nor_told(tmp_path: Path, version: str) -> None:
    async def scene() -> None:
        keys = enrolled(tmp_path / "keys", "t1", "t2")
        other = Topics(FLEET, "t2").base
        with guarded(keys, tmp_path) as broker:

            def client(device: str, *topics: str, name: str = "") -> Peer:
                return Peer(endpoint(keys, broker.port, device, name, (version,)), *topics)

            depot = Peer(
                Endpoint("127.0.0.1", broker.port, "ivma-depot", _depot(keys), versions=(version,)),
                "ivma/1/+/+/up/+", "ivma/1/+/+/presence",
            )  # fmt: skip
            honest = client("t2", *(f"{other}/{what}" for what in ("ack", "command", "desired", "fleet-key")))
            await depot.up()
            await honest.up()

            # It publishes as the other: refused, where the version can say so, and never delivered.
            rogue = client("t1")
            await rogue.up()
            topics = [
                f"{other}/{what}"
                for what in ("up/alarm", "presence", "ack", "command", "desired", "fleet-key")
            ]
            topics += [f"ivma/1/{FLEET}/t1/ack", "ivma/1/elsewhere/t1/up/alarm", "$SYS/broker/x"]
            for token, topic in enumerate(topics):
                rogue.transport.publish(token, topic, b"forged", retain=topic.endswith("presence"))
                code = (await rogue.next(Confirmed)).code
                assert version == MQTT_3_1_1 or code == 0x87, topic
            rogue.transport.publish(99, f"ivma/1/{FLEET}/t1/up/alarm", b"its own")
            assert (await rogue.next(Confirmed)).code < 0x80
            assert await depot.message("/up/alarm") == b"its own"

            # Its will in the other's name is not published, and it does not push the other out by its id.
            await rogue.transport.close(5.0)
            thief = client("t1", name="t2")
            thief.transport.connect(Will(f"{other}/presence", b"forged"))
            await thief.next(Up if version == MQTT_3_1_1 else Down | Up)  # type: ignore[arg-type]
            thief.transport.abandon()
            await thief.transport.close(5.0)

            # It listens as the other: told nothing.
            spy = client("t1", f"{other}/#", f"{other}/command", "ivma/1/+/+/up/+", "#")
            spy.transport.connect()
            await spy.next(Up if version == MQTT_3_1_1 else Down | Up)  # type: ignore[arg-type]
            depot.transport.publish(1, f"{other}/command", b"for t2 alone")
            assert await honest.message("/command") == b"for t2 alone"
            honest.transport.publish(2, f"{other}/presence", b"online", retain=True)
            assert await depot.message("/presence") == b"online"
            assert _heard(spy) == []
            for each in (spy, honest, depot):
                assert await each.transport.close(5.0)

    asyncio.run(scene())


@pytest.mark.parametrize("version", [MQTT_5, MQTT_3_1_1])
def test_records_reach_the_depot_by_what_enrolment_made(tmp_path: Path, version: str) -> None:
    async def scene(port: int, far_end: Depot) -> None:
        await until(lambda: far_end.ready)
        topics = Topics(FLEET, "t1")
        async with tablet(
            tmp_path, keys, port, versions=(version,), topics=topics, tls=tls(keys, "t1")
        ) as it:
            await it.queue.commit([stopped(number) for number in range(50)])
            assert await it.drain() == 0
            assert it.uplink.status()["mqtt"] == version
            assert it.reports == []

    keys = enrolled(tmp_path / "keys", "t1")
    config = tmp_path / "depot.toml"
    with guarded(keys, tmp_path) as broker:
        config.write_text(
            f'broker = "{broker.address}"\ndb = "d"\nkeys = "{keys}"\nmqtt = "{version}"\n[tls]\n'
            f'ca_file = "{keys}/ca.crt"\ncert_file = "{keys}/depot-tls.crt"\n'
            f'key_file = "{keys}/depot-tls.key"\n'
        )
        with depot(tmp_path, keys, broker.port, "--config", str(config)) as far_end:
            asyncio.run(scene(broker.port, far_end))
    assert far_end.quarantined() == []


def _depot(keys: Path) -> Tls:
    return Tls(keys / "ca.crt", keys / "depot-tls.crt", keys / "depot-tls.key")


def _heard(peer: Peer) -> list[Received]:
    events = [peer.events.get_nowait() for _ in range(peer.events.qsize())]
    return [event for event in events if isinstance(event, Received)]
