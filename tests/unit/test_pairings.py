"""The pairings on disk: whole or not there, private, and no key without a pairing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.config import Dock
from agent.pairings import PairingError, Pairings, read_key
from tests.key_search import finds

KEY = bytes(range(32))
DOCK = Dock(
    name="front", match={"ID_SERIAL_SHORT": 'A "1" \\ \x7f', "ID_MODEL_ID": "0d0c"}, serial="DK-1",
    vehicle_id="VIN", key_file="-", link_version=1,
)  # fmt: skip


def test_a_pairing_is_pending_then_good_then_forgotten(tmp_path: Path) -> None:
    pairings = Pairings(tmp_path / "docks")
    assert pairings.good() == pairings.pending() == ([], [])
    begun = pairings.begin(DOCK, KEY)
    assert pairings.pending() == ([begun], [])
    assert pairings.good() == ([], [])
    assert read_key(Path(begun.key_file)) == KEY
    pairings.settle("front")
    assert pairings.good() == ([begun], [])
    assert begun.match == DOCK.match
    assert pairings.pending() == ([], [])
    pairings.forget("front")
    assert list((tmp_path / "docks").iterdir()) == []


def test_only_its_owner_can_read_any_of_it(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        Pairings(tmp_path / "docks").begin(DOCK, KEY)
    finally:
        os.umask(old)
    modes = {file.stat().st_mode & 0o777 for file in (tmp_path / "docks").iterdir()}
    assert modes == {0o600}
    assert (tmp_path / "docks").stat().st_mode & 0o777 == 0o700


def test_a_new_key_takes_the_place_of_the_old_one_only_when_it_is_good(tmp_path: Path) -> None:
    pairings = Pairings(tmp_path / "docks")
    first = pairings.begin(DOCK, KEY)
    pairings.settle("front")
    second = pairings.begin(DOCK, bytes(32))
    assert read_key(Path(first.key_file)) == KEY
    assert pairings.good()[0] == [first]
    pairings.give_up("front")
    assert pairings.good()[0] == [first]
    assert not Path(second.key_file).exists()
    third = pairings.begin(DOCK, bytes(32))
    pairings.settle("front")
    assert pairings.good()[0] == [third]
    assert not Path(first.key_file).exists()


@pytest.mark.parametrize(
    "text", ["", "no toml", 'name = "front"\n', 'name = "front"\nkey = "00"\n', "\xff" * 9, 'name = "back"\n']
)
def test_a_bad_file_is_named_and_leaves_the_others(tmp_path: Path, text: str) -> None:
    pairings = Pairings(tmp_path / "docks")
    good = pairings.begin(DOCK, KEY)
    pairings.settle("front")
    bad = tmp_path / "docks" / "side.toml"
    bad.write_bytes(text.encode("latin-1"))
    docks, (problem,) = pairings.good()
    assert docks == [good]
    assert str(bad) in problem
    # Which keys it names is not known: none is swept away.
    spare = tmp_path / "docks" / "side.0.key"
    spare.write_text(KEY.hex())
    pairings.give_up("other")
    assert spare.exists()


def test_with_a_storage_key_no_file_holds_a_key(tmp_path: Path) -> None:
    storage = tmp_path / "storage"
    storage.write_text(bytes(range(50, 82)).hex() + "\n")
    storage.chmod(0o600)
    folder = tmp_path / "docks"
    pairings = Pairings(folder, storage)
    begun = pairings.begin(DOCK, KEY)
    pairings.settle("front")
    assert pairings.key_of(begun) == KEY
    assert [finds(file.read_bytes(), [KEY]) for file in folder.iterdir()] == [[], []]
    with pytest.raises(PairingError, match=r"set pairing\.storage_key_file"):
        Pairings(folder).key_of(begun)
    # A file under another name, another storage key, and one that was altered do not open.
    file = Path(begun.key_file)
    renamed = file.with_name("side.0.key")
    renamed.write_text(file.read_text())
    renamed.chmod(0o600)
    with pytest.raises(PairingError, match="does not open"):
        read_key(renamed, storage)
    storage.write_text(bytes(range(51, 83)).hex())
    with pytest.raises(PairingError, match="does not open"):
        pairings.key_of(begun)
    for text in ("wrapped-1 zz", "wrapped-1 00", "wrapped-1 " + "00" * 60):
        file.write_text(text)
        with pytest.raises(PairingError, match="does not open"):
            pairings.key_of(begun)


def test_a_key_from_before_there_was_a_storage_key_is_read(tmp_path: Path) -> None:
    begun = Pairings(tmp_path / "docks").begin(DOCK, KEY)
    storage = tmp_path / "storage"
    storage.write_text("00" * 32)
    storage.chmod(0o600)
    assert Pairings(tmp_path / "docks", storage).key_of(begun) == KEY


def test_what_is_linked_elsewhere_is_not_written_through(tmp_path: Path) -> None:
    """A symlink in place of a file that is about to be written is replaced, not followed."""
    folder = tmp_path / "docks"
    pairings = Pairings(folder)
    pairings.begin(DOCK, KEY)
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for name in ("front.pending", "front.pending.part"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(victim)
    pairings.begin(DOCK, KEY)
    assert victim.read_text() == "mine"
    assert not (folder / "front.pending").is_symlink()


def test_a_folder_that_cannot_be_written_is_named_without_the_key(tmp_path: Path) -> None:
    (tmp_path / "docks").write_text("a file")
    with pytest.raises(PairingError) as refused:
        Pairings(tmp_path / "docks").begin(DOCK, KEY)
    assert "docks" in str(refused.value)
    assert KEY.hex() not in repr(refused.value)


def test_a_key_file_is_checked(tmp_path: Path) -> None:
    file = tmp_path / "k"
    with pytest.raises(PairingError, match="cannot be read"):
        read_key(file)
    file.write_text(KEY.hex()[:-2])
    file.chmod(0o600)
    with pytest.raises(PairingError, match="expected a pairing key of 64 hex digits") as refused:
        read_key(file)
    assert KEY.hex()[:20] not in repr(refused.value)
    file.chmod(0o644)
    with pytest.raises(PairingError, match="chmod 600"):
        read_key(file)
