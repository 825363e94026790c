"""The traces of this folder: NAME.trace is what was recorded, NAME.decisions the same decisions for people,
NAME.toml what it is about and the docks' pairings, which no trace holds.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.trace_format import Damage, Entry, Head, Policed, Step, read_path
from agent.trace_text import lines
from drivers.spec import DockSettings
from simulator.compose_replay import Dock

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Trace:
    """One trace of the folder."""

    name: str

    @property
    def path(self) -> Path:
        return FOLDER / f"{self.name}.trace"

    @property
    def reference(self) -> Path:
        return FOLDER / f"{self.name}.decisions"

    def entries(self) -> list[Entry | Damage]:
        return list(read_path(self.path))

    def models(self) -> set[str]:
        return {dock["model"] for dock in self._about()["dock"]}

    def docks(self) -> dict[str, Dock]:
        """What is needed to replay the wires, by the docks' names."""
        found = {}
        for dock in self._about()["dock"]:
            settings = DockSettings(
                dock["name"],
                dock.get("serial", ""),
                dock.get("vehicle_id", ""),
                bytes.fromhex(dock.get("key", "")),
                options=dock.get("options", {}),
            )
            found[dock["name"]] = Dock.of(dock["model"], settings)
        return found

    def _about(self) -> dict[str, list[dict[str, Any]]]:
        return tomllib.loads((FOLDER / f"{self.name}.toml").read_text())


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def decisions(entries: Iterable[Entry | Damage]) -> Iterator[str]:
    """Where runs and policies begin, and each step that had effects."""
    for entry in entries:
        if isinstance(entry, Head | Policed | Damage) or (isinstance(entry, Step) and entry.effects):
            yield from lines(entry)
