"""A trace in lines for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from agent.trace_format import Damage, Entry, Gap, Head, Policed, Step, Wire, time_of

_SECOND = 1e9


def lines(entry: Entry | Damage, *, effects: bool = True) -> Iterator[str]:
    """An entry: one line, and with ``effects`` one more for each effect of a step."""
    match entry:
        case Head():
            begins = "the agent starts" if entry.state is None else "a segment begins"
            yield f"{_clock(entry)}  -- {begins}: {_fields(entry.identity)}"
        case Policed():
            yield f"{_clock(entry)}  -- another policy is in force"
        case Gap():
            yield f"{_clock(entry)}  -- {entry.lost} entries are missing"
        case Damage():
            yield f"{'':>14}  -- {entry.size} bytes at {entry.offset} cannot be read: {_clean(entry.problem)}"
        case Wire():
            yield f"{_clock(entry)}  {_clean(entry.dock)} {_clean(entry.act)} {_plain(entry.what)}".rstrip()
        case Step():
            yield f"{_clock(entry)}  {_clean(entry.kind)} {_fields(entry.observation, skip=('at',))}".rstrip()
            if effects:
                yield from (f"{'':>14}      {effect(name, fields)}" for name, fields in entry.effects)


def effect(name: str, fields: Any) -> str:
    """An effect in one line: what it decides and by which rule; evidence is left out."""
    if not isinstance(fields, Mapping):
        return f"{_clean(name)} {_plain(fields)}"
    return f"{_clean(name)} {_fields(fields)}".rstrip()


def of_effects(effects: Iterable[tuple[str, Any]]) -> list[str]:
    """Every field of every effect, one a line, for a diff."""
    return [
        line
        for number, (name, fields) in enumerate(effects, 1)
        for line in _flat(f"{number} {_clean(name)}", fields)
    ]


def _clock(entry: Entry) -> str:
    at = time_of(entry)
    return f"{'':>14}" if at is None else f"{at / _SECOND:14.6f}"


def _fields(value: Any, skip: tuple[str, ...] = ()) -> str:
    if not isinstance(value, Mapping):
        return _plain(value)
    shown = (f"{_clean(str(name))}={_plain(each)}" for name, each in value.items()
             if name not in skip and each is not None)  # fmt: skip
    return " ".join(shown)


def _plain(value: Any) -> str:
    match value:
        case None:
            return ""
        case bytes():
            return value.hex(" ")
        case {"verdict": verdict, "rule": rule}:
            return f"{_clean(str(verdict))} ({_clean(str(rule))})"
        case Mapping():
            return "{" + _fields(value, skip=("evidence", "conflicts", "because")) + "}"
        case list() | tuple():
            return "[" + " ".join(_plain(each) for each in value) + "]"
        case str():
            return _clean(value) if value.isidentifier() else repr(_clean(value))
        case _:
            return str(value)


def _flat(where: str, value: Any) -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        for name, each in value.items():
            yield from _flat(f"{where}.{_clean(str(name))}", each)
    elif isinstance(value, list | tuple) and value:
        for number, each in enumerate(value):
            yield from _flat(f"{where}[{number}]", each)
    else:
        yield f"{where} = {value!r}"


def _clean(text: str) -> str:
    """Nothing that a terminal would obey."""
    return "".join(c if c.isprintable() else "?" for c in text)
