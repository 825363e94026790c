"""`ivma-sim dock` as a process: a dock on a pty that a real link proves, told what to do on its input."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

import pytest

from agent.core.types import BootNs, DockProof, DockStatus
from simulator.dock_command import add_parser, obey, run_dock
from simulator.docks.reference import Identity, ReferenceDock
from tests.dock_port import PATIENCE_S, Bench
from tests.dock_rig import KEY, SERIAL, VEHICLE_ID

PROGRAM = """
import argparse, sys
from simulator.dock_command import add_parser
parser = argparse.ArgumentParser()
add_parser(parser.add_subparsers())
args = parser.parse_args()
sys.exit(args.func(args))
"""


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    return parser.parse_args(["dock", *words])


def test_it_plays_a_paired_dock_and_obeys_its_input(tmp_path: Path) -> None:
    async def scenario() -> None:
        key_file = tmp_path / "dock.key"
        key_file.write_text(KEY.hex() + "\n")
        async with Bench(tmp_path) as bench:
            words = ["dock", "--pty", str(bench.port), "--serial", SERIAL, "--vehicle-id", VEHICLE_ID]
            dock = await asyncio.create_subprocess_exec(
                sys.executable, "-c", PROGRAM, *words, "--key-file", str(key_file),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            assert dock.stdin is not None
            assert dock.stdout is not None
            try:
                async with asyncio.timeout(PATIENCE_S):
                    assert b"paired" in await dock.stdout.readline()
                    bench.link.start()
                    await bench.seen.next(DockProof)
                    dock.stdin.write(b"seated off\n")
                    await bench.seen.next(
                        DockStatus, lambda status: status.authenticated and status.seated is False
                    )
                    dock.stdin.write(b"quit\n")
                    assert await dock.wait() == 0
            finally:
                if dock.returncode is None:
                    dock.kill()
                    await dock.wait()

    asyncio.run(scenario())


def test_a_bad_key_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key_file = tmp_path / "dock.key"
    key_file.write_text("not hex")
    assert run_dock(parsed("--pty", str(tmp_path / "tty"), "--key-file", str(key_file))) == 2
    assert f"{key_file}: expected a pairing key of 64 hex digits" in capsys.readouterr().err


def test_a_port_that_cannot_be_opened_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_dock(parsed("--port", str(tmp_path / "absent"))) == 2
    assert "absent" in capsys.readouterr().err


def test_its_input_sets_what_the_dock_measures() -> None:
    dock = ReferenceDock(Identity.of(SERIAL), bytes, BootNs(0))
    for line in ("kl15 on", "seated unknown", "vehicle_mv 9000", "tablet_ma -20", "service on"):
        assert obey(line, dock, BootNs(0)) == "ok"
    assert (dock.inputs.kl15, dock.inputs.seated, dock.inputs.vehicle_mv) == (True, None, 9000)
    assert dock.inputs.tablet_ma == -20
    assert dock.service_contact
    assert "no session" in obey("status", dock, BootNs(0))
    assert obey("reset", dock, BootNs(1)) == "ok"
    assert "not understood: 'kl15 maybe'" in obey("kl15 maybe", dock, BootNs(1))
