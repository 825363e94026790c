"""``quick`` changes how long a frozen dataclass takes to make, and nothing else."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, dataclass, field, fields, is_dataclass, replace
from typing import Any, Generic, TypeVar

import pytest

from agent.core import records, state, types
from agent.core.quick import quick
from agent.core.state import Reading
from agent.core.types import BootNs, CanSignal, DockFault, DockStatus, Observation, SignalKind
from drivers.docks.reference import codec
from simulator.virtual import events

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Base:
    at: int


@quick
@dataclass(frozen=True, slots=True)
class Quick(Base):
    name: str
    more: int | None = None


@quick
@dataclass(frozen=True, slots=True)
class Of(Generic[V]):
    value: V


def status(at: int = 5) -> DockStatus:
    at = BootNs(at)
    return DockStatus(at, "dock", at, True, True, None, False, True, 12_600, 12_000, 900, 250, DockFault.NONE)


def test_it_is_made_by_place_by_name_and_with_defaults() -> None:
    made = Quick(1, "n")
    assert (made.at, made.name, made.more) == (1, "n", None)
    assert Quick(at=1, name="n", more=2) == Quick(1, "n", 2) != made
    assert hash(Quick(1, "n")) == hash(made)
    assert repr(made) == "Quick(at=1, name='n', more=None)"
    assert isinstance(made, Base)
    assert type(made) is Quick
    assert Of(3).value == 3


@pytest.mark.parametrize("given", [(), (1,), (1, "n", 2, 3)])
def test_too_few_and_too_many_values_are_refused(given: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError):
        Quick(*given)


@pytest.mark.parametrize("made", [Quick(1, "n"), Of(1), status(), Reading(5, BootNs(7))])
def test_it_stays_frozen(made: Any) -> None:
    for name in (each.name for each in fields(made)):
        with pytest.raises(FrozenInstanceError):
            setattr(made, name, 9)
        with pytest.raises(FrozenInstanceError):
            delattr(made, name)
    with pytest.raises((AttributeError, TypeError)):
        made.__dict__  # noqa: B018 - slots and nothing else


def test_it_is_copied_replaced_and_pickled() -> None:
    made = status()
    signal = CanSignal(BootNs(3), "can", SignalKind.SPEED, 5)
    for same in (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made))):  # noqa: S301 - ours
        assert same == made
        assert type(same) is DockStatus
    assert pickle.loads(pickle.dumps(signal)) == signal  # noqa: S301 - ours
    later = replace(made, at=BootNs(6))
    assert (later.at, later.evidence_at) == (6, 5)


def test_patterns_match_its_fields() -> None:
    match status():
        case DockStatus(dock="dock", authenticated=True) as matched:
            assert isinstance(matched, Observation)
        case _:
            pytest.fail("no match")


def test_only_plain_fields_are_taken() -> None:
    @dataclass(frozen=True, slots=True)
    class WithFactory:
        values: list[int] = field(default_factory=list)

    with pytest.raises(TypeError, match=r"WithFactory\.values: expected a plain field"):
        quick(WithFactory)


def test_every_class_that_is_made_so_takes_what_dataclasses_would_take() -> None:
    found = [
        kind
        for module in (types, state, records, codec, events)
        for kind in vars(module).values()
        if isinstance(kind, type) and is_dataclass(kind) and kind.__init__ is object.__init__
    ]
    assert {kind.__name__ for kind in found} >= {"DockStatus", "CanSignal", "Reading", "Status", "Observed"}
    for kind in found:
        values = {each.name: number for number, each in enumerate(fields(kind))}
        made = kind(**values)
        assert {name: getattr(made, name) for name in values} == values
