"""docs/states.md, generated from the tables: what the page shows is what the code looks up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from agent.core import ignition_rules, power_rules, tether_rules
from agent.core.ignition_rules import EngineWord, KeyWord, When, WireWord

_HEAD = """# States

Generated from the tables in `agent/core/tether_rules.py`, `agent/core/ignition_rules.py` and
`agent/core/power_rules.py` by `make docs`; change it there.
"""

_TETHER = """## Tether

Usable are `tethered`, `uncertain` until its ride-through ends, and any state under a grant. The tablet is
locked in all others. A state stays as it is when the table has no row for what is found.
"""

_IGNITION = """## Ignition

The first row that fits what the fresh sources say decides; a stale source says nothing. An empty cell fits
anything. A verdict must stand for its delay before it counts.
"""

_POWER = """## Power

In a mode the first trigger that applies, from the top, decides.
"""


def render() -> str:
    """The page as Markdown with Mermaid diagrams."""
    tether_arrows = [
        (state.value, row.to.value, row.finding.value) for row in tether_rules.TABLE for state in row.frm
    ]
    power_arrows = [
        (mode.value, row.to.value, row.trigger.value) for row in power_rules.TABLE for mode in row.frm
    ]
    parts = [
        _HEAD,
        _TETHER,
        "\n".join(_diagram("unknown", tether_arrows)),
        "\n".join(
            _table(
                ("from", "found", "to", "rule", "because"),
                (
                    (_names(row.frm), row.finding.value, row.to.value, f"`{row.rule}`", row.because)
                    for row in tether_rules.TABLE
                ),
            )
        ),
        _IGNITION,
        "\n".join(
            _table(("wire", "CAN ignition", "engine", "and", "verdict", "delay", "rule"), _ignition_rows())
        ),
        _POWER,
        "\n".join(_diagram("awake", power_arrows)),
        "\n".join(
            _table(
                ("from", "trigger", "to", "rule", "because"),
                (
                    (_names(row.frm), row.trigger.value, row.to.value, f"`{row.rule}`", row.because)
                    for row in power_rules.TABLE
                ),
            )
        ),
    ]
    return "\n".join(f"{part.rstrip()}\n" for part in parts)


def _diagram(first: str, arrows: Iterable[tuple[str, str, str]]) -> Iterator[str]:
    yield "```mermaid"
    yield "stateDiagram-v2"
    yield f"    [*] --> {first}"
    for frm, to, label in arrows:
        yield f"    {frm} --> {to}: {label}"
    yield "```"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _ignition_rows() -> Iterator[tuple[str, ...]]:
    for rule in ignition_rules.RULES:
        verdict = "holds" if rule.verdict is None else rule.verdict.value
        yield (
            _words(WireWord, rule.wire),
            _words(KeyWord, rule.key),
            _words(EngineWord, rule.engine),
            "" if rule.when is When.ALWAYS else rule.when.value,
            f"{verdict}, fault: {rule.conflict}" if rule.conflict else verdict,
            rule.delay.value,
            f"`{rule.rule}`",
        )


def _words(kind: Iterable[WireWord | KeyWord | EngineWord], chosen: frozenset[object]) -> str:
    return ", ".join(word.value for word in kind if word in chosen)


def _names(states: Iterable[object]) -> str:
    return ", ".join(str(getattr(state, "value", state)) for state in states)
