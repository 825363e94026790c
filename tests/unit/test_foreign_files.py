"""What other users of the tablet may lay in the agent's way: folders, keys, links."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.folders import FolderError, own_folder
from agent.marker import FileMarker
from agent.pairings import PairingError, read_key
from sync.keys import KeyFileError, load_private, write_pair

NOBODY = 65_534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")


@needs_root
def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    os.chown(folder, NOBODY, -1)
    with pytest.raises(FolderError, match=f"belongs to user {NOBODY}"):
        own_folder(folder, 0o700)


def test_a_link_to_a_folder_is_looked_through(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    theirs.chmod(0o777)
    link = tmp_path / "state"
    link.symlink_to(theirs)
    with pytest.raises(FolderError, match="others can write to it"):
        own_folder(link, 0o700)
    theirs.chmod(0o700)
    own_folder(link, 0o700)


def test_the_state_folder_is_made_for_the_agent_alone(tmp_path: Path) -> None:
    own_folder(tmp_path / "new", 0o700)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


def test_a_link_in_place_of_the_lock_s_note_is_not_written_through(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "note").symlink_to(victim)
    FileMarker(tmp_path / "note").set(1, "rule")
    assert victim.read_text() == "mine"


@needs_root
def test_keys_that_somebody_else_could_exchange_are_refused(tmp_path: Path) -> None:
    pairing = tmp_path / "dock.key"
    pairing.write_text("00" * 32)
    signing = tmp_path / "device.key"
    write_pair(signing, tmp_path / "device.pub", Ed25519PrivateKey.generate())
    for file in (pairing, signing):
        file.chmod(0o600)
        os.chown(file, NOBODY, -1)
    with pytest.raises(PairingError, match=f"belongs to user {NOBODY}"):
        read_key(pairing)
    with pytest.raises(KeyFileError, match=f"belongs to user {NOBODY}"):
        load_private(signing)
