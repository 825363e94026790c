"""`ivma-agent check-config --files`: each file that is wrong is named, with its key and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agent.__main__ import main
from tests.tls_rig import FLEET, enrolled


def written(keys: Path, name: str = "t1") -> Path:
    """A configuration of tablet t1 that takes its files from where enrolment put those of ``name``."""
    folder = keys / "tablets" / name
    file = keys / "agent.toml"
    file.write_text(
        f'[device]\nfleet = "{FLEET}"\nname = "t1"\n'
        f'[sync]\nhost = "127.0.0.1"\n'
        f'signing_key_file = "{folder}/device.pem"\ndepot_key_file = "{folder}/depot.pub"\n'
        f'[sync.tls]\nca_file = "{folder}/ca.crt"\ncert_file = "{folder}/tablet.crt"\n'
        f'key_file = "{folder}/tablet-tls.pem"\n'
    )
    return file


def another_authority(tablet: Path) -> None:
    other = enrolled(tablet / "other", "t1")
    (tablet / "ca.crt").write_bytes((other / "ca.crt").read_bytes())


def test_files_as_enrolled_are_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(enrolled(tmp_path, "t1"))
    assert main(["check-config", str(file), "--files"]) == 0, capsys.readouterr().err


def test_without_being_asked_no_file_is_read(tmp_path: Path) -> None:
    file = written(enrolled(tmp_path, "t1"))
    for path in (tmp_path / "tablets" / "t1").iterdir():
        path.unlink()
    assert main(["check-config", str(file)]) == 0


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda t: (t / "device.pem").unlink(), "`sync.signing_key_file`: key"),
        (lambda t: (t / "depot.pub").write_text("none"), "`sync.depot_key_file`: key"),
        (lambda t: (t / "tablet-tls.pem").chmod(0o644), "other users can read it; expected mode 0600"),
        (lambda t: (t / "tablet.crt").write_text("none"), "expected a PEM certificate"),
        (lambda t: (t / "ca.crt").write_text("none"), "expected a PEM certificate"),
        (another_authority, "was not issued by the authority in"),
    ],
)
def test_a_file_that_does_not_do_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[Path], object], words: str
) -> None:
    file = written(enrolled(tmp_path, "t1"))
    spoil(tmp_path / "tablets" / "t1")
    assert main(["check-config", str(file), "--files"]) == 78
    assert words in capsys.readouterr().err


def test_the_certificate_of_another_tablet_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(enrolled(tmp_path, "t1", "t2"), "t2")
    assert main(["check-config", str(file), "--files"]) == 78
    assert "is of 't2' in fleet 'met'; expected 't1' in 'met'" in capsys.readouterr().err
