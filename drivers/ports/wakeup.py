"""Why the machine woke up, as the kernel tells it: the interrupt, or the sources whose counters went up.

Sources: Documentation/ABI/testing/sysfs-power (pm_wakeup_irq) and sysfs-class-wakeup (wakeup_count). Both are
optional in a kernel; what is not there says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

SOURCES_MAX = 256  # ours: a tablet has some tens
NAMED_MAX = 4  # ours: sources that a reason names
MAX_BYTES = 256  # ours: of a name or a number


class Wakeup:
    """Call ``asleep`` before a sleep and ``reason`` after it. Neither raises or waits for anything."""

    def __init__(self, root: Path = Path("/sys")) -> None:
        self._root = root
        self._before: Mapping[str, int] = {}

    def asleep(self) -> None:
        self._before = self._counts()

    def reason(self) -> str:
        """In words; empty where the kernel does not say."""
        found = [word for word in (self._interrupt(), self._sources()) if word]
        return ", ".join(found)

    def _interrupt(self) -> str:
        number = _text(self._root / "power" / "pm_wakeup_irq")
        if not number.isdigit():
            return ""
        actions = _text(self._root / "kernel" / "irq" / number / "actions")
        return f"interrupt {number}" + (f" ({actions})" if actions else "")

    def _sources(self) -> str:
        risen = [name for name, count in self._counts().items() if count > self._before.get(name, 0)]
        return f"source {' and '.join(risen[:NAMED_MAX])}" if risen else ""

    def _counts(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        try:
            folders = sorted((self._root / "class" / "wakeup").iterdir())[:SOURCES_MAX]
        except OSError:
            return counts
        for folder in folders:
            count = _text(folder / "wakeup_count")
            if count.isdigit():
                name = _text(folder / "name") or folder.name
                counts[name] = counts.get(name, 0) + int(count)
        return counts


def _text(path: Path) -> str:
    """The first words of a file; nothing where it cannot be read: without a reason it answers ENODATA."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES).decode("ascii", "replace").strip()
    except OSError:
        return ""
