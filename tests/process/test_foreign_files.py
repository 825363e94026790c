"""What other users of the tablet may lay in the agent's way, met by whole processes: sockets and folders."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent_rig import Agent, bare
from tests.aio import looped

NOBODY = 65_534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
# Answers every question with a tablet that is well, and says on standard output what it was asked.
FAKE = """
import json, os, socket, sys
os.setgid(65534); os.setuid(65534)
with socket.socket(socket.AF_UNIX) as server:
    server.bind(sys.argv[1]); os.chmod(sys.argv[1], 0o666); server.listen(1)
    print("listening", flush=True)
    client, _ = server.accept()
    asked = client.recv(4096)
    print(asked.decode(), flush=True)
    client.sendall(json.dumps({"id": 1, "ok": True, "result": {"version": "0"}}).encode() + b"\\n")
"""


@contextlib.contextmanager
def fake_agent() -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    """In a folder of its own: the other user cannot pass through pytest's."""
    with tempfile.TemporaryDirectory(prefix="ivma-fake-") as place:
        Path(place).chmod(0o777)
        path = Path(place) / "control.sock"
        fake = subprocess.Popen(
            [sys.executable, "-c", FAKE, path], stdout=subprocess.PIPE, text=True, cwd="/"
        )
        try:
            assert fake.stdout is not None
            assert fake.stdout.readline() == "listening\n"
            yield path, fake
        finally:
            fake.kill()
            fake.communicate()


def ivmactl(path: Path, *words: str, user: str = "ivma") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agent.cli", "--socket", path, "--user", user, *words],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@needs_root
def test_a_fake_agent_is_asked_nothing() -> None:
    """It would show a tablet that is well, and be handed what `dock pair` writes."""
    with fake_agent() as (path, fake):
        done = ivmactl(path, "version")
        assert done.returncode == 4
        assert f"{path}: user {NOBODY} serves this socket, not ivma, root or yourself" in done.stderr
        assert done.stdout == ""
        assert fake.stdout is not None
        assert fake.stdout.readline() == "\n"  # the connection ended without a word


@needs_root
def test_an_agent_of_a_user_that_is_named_is_believed() -> None:
    with fake_agent() as (path, _):
        assert ivmactl(path, "version", user="nobody").returncode == 0


@pytest.mark.parametrize("which", ["state_dir", "runtime_dir"])
@looped
async def test_a_folder_that_others_can_write_to_is_refused_by_name(tmp_path: Path, which: str) -> None:
    agent = Agent(tmp_path)
    tables = bare(tmp_path)
    folder = tables["paths"][which]
    folder.mkdir()
    folder.chmod(0o777)
    agent.configure(tables)
    status, text = await agent.ends()
    assert status == 70
    assert f"{folder}: others can write to it; look what is in it, then `chmod go-w {folder}`" in text
