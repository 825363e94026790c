"""``ivma-depot`` as an operator meets it: exit status and words."""

from __future__ import annotations

import asyncio
import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.brokers import running
from tests.sync_rig import depot, keys, stopped, tablet, until


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sync.depot", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_keygen_makes_what_is_missing_and_keeps_what_is_there(tmp_path: Path) -> None:
    first = run("keygen", "--out", str(tmp_path / "k"), "--device", "t1")
    assert first.returncode == 0, first.stderr
    made = sorted(str(path.relative_to(tmp_path / "k")) for path in (tmp_path / "k").rglob("*.*"))
    assert made == [
        "codes/t1.code", "command.key", "command.pub", "configuration.key", "configuration.pub",
            "contractor.key", "contractor.pub", "depot.key", "depot.pub", "devices/t1.key",
        "devices/t1.pub", "fleet.key", "fleet.pub", "permit.key", "permit.pub", "sealing.key", "sealing.pub",
    ]  # fmt: skip
    for path in [*(tmp_path / "k").rglob("*.key"), *(tmp_path / "k").rglob("*.code")]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = (tmp_path / "k" / "depot.key").read_bytes()
    second = run("keygen", "--out", str(tmp_path / "k"), "--device", "t1", "--device", "t2")
    assert second.stdout.split() == [
        str(tmp_path / "k" / name) for name in ("devices/t2.key", "codes/t2.code")
    ]
    assert (tmp_path / "k" / "depot.key").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["serve"], "`broker`"),
        (["serve", "--broker", "localhost", "--db", "d", "--keys", "k"], "host:port"),
        (["serve", "--broker", "localhost:99999", "--db", "d", "--keys", "k"], "host:port"),
        (["serve", "--broker", "localhost:1", "--db", "d", "--keys", "/nowhere"], "/nowhere/depot.key"),
        (["serve", "--config", "/nowhere.toml"], "/nowhere.toml"),
        (["ledger", "--db", "/nowhere.db"], "/nowhere.db"),
        (["keygen", "--out", "{tmp}", "--device", "a/b"], "'a/b'"),
        (
            ["sign", "permit", "--keys", "/nowhere", "--fleet", "f", "--device", "t", "--minutes", "5"],
            "permit.key",
        ),
        (
            ["code", "--keys", "/nowhere", "--device", "t", "--challenge", "SHORT", "--minutes", "5"],
            "8 characters",
        ),
        (
            ["code", "--keys", "/nowhere", "--device", "t", "--challenge", "ABCD-EFGH", "--minutes", "5"],
            "t.code",
        ),
        (["nonsense"], "usage"),
    ],
)
def test_what_cannot_be_done_is_said_with_status_2(tmp_path: Path, arguments: list[str], words: str) -> None:
    done = run(*(argument.replace("{tmp}", str(tmp_path)) for argument in arguments))
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_key_of_the_configuration_is_refused_by_name(tmp_path: Path) -> None:
    config = tmp_path / "depot.toml"
    config.write_text('broker = "localhost:1883"\ndb = "d"\nkeys = "k"\ncleint_id = "x"\n')
    done = run("serve", "--config", str(config))
    assert done.returncode == 2
    assert "cleint_id" in done.stderr


def test_the_service_runs_from_a_configuration_and_ends_in_an_orderly_way(tmp_path: Path) -> None:
    key_folder = keys(tmp_path / "keys")
    with running("mosquitto", tmp_path) as broker:
        config = tmp_path / "depot.toml"
        config.write_text(
            f'broker = "{broker.address}"\ndb = "{tmp_path}/depot.db"\n'
            f'keys = "{key_folder}"\nmqtt = "3.1.1"\n'
        )
        with depot(tmp_path, key_folder, broker.port, "--config", str(config)) as far_end:

            async def scene() -> None:
                await until(lambda: far_end.ready)
                async with tablet(tmp_path, key_folder, broker.port) as it:
                    await it.queue.commit([stopped(7)])
                    assert await it.drain() == 0

            asyncio.run(scene())
            assert far_end.stop() == 0
        assert '"mqtt": "3.1.1"' in far_end.log.read_text()
        text = run("ledger", "--db", str(far_end.db), "--keys", str(key_folder))
        assert text.returncode == 0
        assert "audit     1 to 1: verified, signed to 1; 1 records open" in text.stdout
        one = json.loads(run("ledger", "--db", str(far_end.db), "--device", "nobody", "--json").stdout)
        assert one == {"verified": True, "devices": {}, "quarantined": {}}
