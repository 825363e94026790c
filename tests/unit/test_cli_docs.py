"""docs/operating.md names every verb, option, exit code and error code that there is."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from agent import control
from agent.cli import client
from agent.cli.__main__ import EXIT_CODES, parser
from agent.enforcement.logind import SETTINGS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/operating.md").read_text()


def actions(of: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """argparse has no public way to list what it parses."""
    yield from of._actions


def subcommands() -> dict[str, argparse.ArgumentParser]:
    (verbs,) = [action.choices for action in actions(parser()) if isinstance(action.choices, dict)]
    return verbs


def test_every_verb_and_option_is_documented() -> None:
    verbs = subcommands()
    assert verbs.keys() == {
        "status",
        "why",
        "availability",
        "events",
        "queue",
        "watch",
        "version",
        "trace",
        "dock",
        "permit",
        "override",
        "vehicle",
        "can",
    }
    for name, verb in verbs.items():
        assert f"\n| `{name}`" in TEXT
        assert all(option in TEXT for option in options(verb))
    assert "--socket" in TEXT


def options(of: argparse.ArgumentParser) -> Iterator[str]:
    """The long options of a verb and of what is below it; and what is below it, as `show` of `trace`."""
    for action in actions(of):
        yield from (each for each in action.option_strings if each.startswith("--") and each != "--help")
        if isinstance(action.choices, dict):
            for name, inner in action.choices.items():
                yield f"`{name}`"
                yield from options(inner)


def test_every_exit_code_is_documented() -> None:
    codes = {client.OK, client.NOT_WELL, client.USAGE, client.NOT_RUNNING, client.REFUSED, client.PROTOCOL}
    documented = {int(code) for code in re.findall(r"^\| (\d) \|", TEXT, re.MULTILINE)}
    assert documented == codes == {int(code) for code in re.findall(r"\b(\d)\b ", EXIT_CODES)}


def test_every_error_code_is_documented() -> None:
    used = set(re.findall(r'Refusal\("(\w+)"', Path(control.__file__).read_text()))
    assert used
    assert all(f"\n| `{code}` |" in TEXT for code in used)


def test_every_setting_and_bound_is_as_documented() -> None:
    assert all(f"`{setting}`" in TEXT for setting in SETTINGS)
    assert f"{control.CLIENTS_MAX} clients are connected" in TEXT
    assert f"over {control.LINE_MAX // 1024} KiB" in TEXT
    assert f"leaves {control.OUTPUT_MAX >> 20} MiB unread" in TEXT
    assert f"no result within {control.HANDLER_S:g} s" in TEXT
    assert str(client.DEFAULT_SOCKET) in TEXT


def test_every_installed_file_is_documented() -> None:
    for file in (ROOT / "systemd").iterdir():
        if file.name != "__pycache__":
            assert f"`{file.name}`" in TEXT
