"""The timeline of a play, for people: what was done, how each part of the world answered, what was judged.

On a terminal it has colours and a progress bar at its foot; elsewhere it is plain text, line by line.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from agent.core.types import SECOND, BootNs
from simulator.play import Verdict
from simulator.scenario import Scenario, Step

PLAIN_WIDTH = 118  # columns where there is no terminal to ask


class Lane(enum.Enum):
    """Columns of the timeline: heading, width, colour."""

    VEHICLE = ("vehicle", 30, "cyan")
    DOCK = ("dock", 28, "yellow")
    TABLET = ("tablet", 48, "green")


class Timeline:
    """Prints a play as it goes on. Times are seconds since it was opened."""

    def __init__(self, scenario: Scenario, now: Callable[[], BootNs], console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        if not self.console.is_terminal:
            self.console.width = PLAIN_WIDTH
        self._scenario = scenario
        self._now = now
        self._started = now()
        self._shown: dict[tuple[Lane, str], str] = {}
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
            transient=True,
        )
        self._bar = self._progress.add_task(scenario.name, total=len(scenario.steps))

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def heading(self, facts: Mapping[str, str]) -> None:
        """Say what is about to be played, and on what."""
        self.console.print(Text(f"{self._scenario.name}: {self._scenario.about}", style="bold"))
        for name, value in facts.items():
            self.console.print(Text.assemble((f"  {name:<10}", "dim"), value))
        line = Text(f"\n{'seconds':>8}  ", style="dim")
        for lane in Lane:
            name, width, colour = lane.value
            line.append(f"{name:<{width}}", style=colour)
        self.console.print(line)

    def show(self, lane: Lane, what: str, value: str, *, alarming: bool = False) -> None:
        """``what`` in ``lane`` is now ``value``; printed if it was not before."""
        if self._shown.get((lane, what)) == value:
            return
        self._shown[lane, what] = value
        before = sum(other.value[1] for other in list(Lane)[: list(Lane).index(lane)])
        colour = "bold red" if alarming else lane.value[2]
        self.console.print(Text.assemble((self._stamp(), "dim"), " " * before, (value, colour)))

    def step(self, step: Step) -> None:
        """A step begins."""
        self._begin(step, "")

    def skipped(self, step: Step) -> None:
        """A step is left out, because the rig lacks what it needs."""
        self._begin(step, f" (left out: needs {', '.join(sorted(step.needs))})")

    def _begin(self, step: Step, remark: str) -> None:
        name = "" if step.action.name == "wait" else step.action.name
        title = ": ".join(part for part in (name, step.say) if part)
        self.console.print(Text.assemble((self._stamp(), "dim"), ("▶ " + title, "bold"), (remark, "dim")))
        self._progress.update(self._bar, completed=step.number, description=step.action.name)

    def verdict(self, verdict: Verdict) -> None:
        """An expectation was decided."""
        ms = f"{verdict.took_ns / 1e6:,.0f} ms"
        if verdict.held:
            mark, text, style = "✓", f"{verdict.expectation} ({ms})", "green"
        else:
            mark, text, style = "✗", f"{verdict.expectation}: {verdict.saw} ({ms})", "bold red"
        self.console.print(Text.assemble((self._stamp(), "dim"), (f"  {mark} {text}", style)))

    def table(self, title: str, rows: Mapping[str, str]) -> None:
        """The figures at the end."""
        table = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2))
        for name, value in rows.items():
            table.add_row(Text(name, style="dim"), value)
        self.console.print()
        self.console.print(table)

    def _stamp(self) -> str:
        return f"{(self._now() - self._started) / SECOND:8.2f}  "
