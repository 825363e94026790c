"""The faults there are: found in the modules of this package, so that adding one changes no other file."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from typing import Any

import simulator.faults
from simulator.faults.base import Fault, FaultError


@cache
def registry() -> dict[str, type[Fault]]:
    """Every fault in the modules of this package by its name, in order of the names."""
    found: dict[str, type[Fault]] = {}
    for module in pkgutil.iter_modules(simulator.faults.__path__, "simulator.faults."):
        for thing in vars(importlib.import_module(module.name)).values():
            if isinstance(thing, type) and issubclass(thing, Fault) and hasattr(thing, "family"):
                other = found.setdefault(thing.name(), thing)
                if other is not thing:
                    raise FaultError(f"two faults are called {thing.name()}: {other} and {thing}")
    return dict(sorted(found.items()))


def families() -> dict[str, list[type[Fault]]]:
    """The registry by family."""
    found: dict[str, list[type[Fault]]] = {}
    for kind in registry().values():
        found.setdefault(kind.family, []).append(kind)
    return dict(sorted(found.items()))


def from_json(data: Mapping[Any, Any]) -> Fault:
    """The fault that ``to_json`` described. Raises FaultError, naming what is wrong."""
    kinds, name = registry(), str(data.get("fault"))
    if name not in kinds:
        raise FaultError(f"no fault {name!r}; there are {', '.join(kinds)}")
    kind = kinds[name]
    parameters = {parameter.name: parameter for parameter in dataclasses.fields(kind)}
    given = {key: value for key, value in data.items() if key != "fault"}
    if given.keys() != parameters.keys():
        raise FaultError(f"{name}: its parameters are {[*parameters]}, not {[*given]}")
    return kind(**{key: _from_plain(value, parameters[key]) for key, value in given.items()})


def _from_plain(value: Any, parameter: dataclasses.Field[Any]) -> Any:
    words = parameter.metadata.get("choice")
    if words is None:
        return value
    return next((word for word in words if word.value == value), value)
