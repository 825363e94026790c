"""Policy: every value documented and within its own bounds; cross-field rules name what they refuse."""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import replace

import pytest

from agent.core.policy import Bounds, Chemistry, DockBit, Policy, PowerPolicy, TetherPolicy, problems

SECTIONS = typing.get_type_hints(Policy)
FIELDS = [(name, field) for name, section in SECTIONS.items() for field in dataclasses.fields(section)]


@pytest.mark.parametrize(("section", "field"), FIELDS, ids=lambda part: getattr(part, "name", part))
def test_every_value_has_meaning_unit_source_and_bounds(
    section: str, field: dataclasses.Field[object]
) -> None:
    hint = typing.get_type_hints(SECTIONS[section], include_extras=True)[field.name]
    [bounds] = hint.__metadata__
    assert isinstance(bounds, Bounds)
    assert bounds.doc.endswith(".")
    assert bounds.source
    if isinstance(field.default, int) and not isinstance(field.default, bool):
        assert bounds.ge is not None
        assert bounds.le is not None
        assert bounds.ge <= field.default <= bounds.le
        units = ("_ms", "_s", "_min", "_mv", "_rpm", "_percent", "_wh", "_mw", "_v", "_degc")
        if bounds.unit == "1":
            return
        assert field.name.endswith(units), "the unit is in the name"
        assert field.name.rsplit("_", 1)[1] in {bounds.unit, bounds.unit.lower(), "percent"}


def test_the_defaults_break_no_rule() -> None:
    assert problems(Policy()) == []


@pytest.mark.parametrize(
    ("policy", "named"),
    [
        (Policy(tether=TetherPolicy(ride_through_ms=1000)), "tether.ride_through_ms"),
        (Policy(tether=TetherPolicy(crank_ride_through_ms=3999)), "tether.crank_ride_through_ms"),
        (Policy(power=PowerPolicy(warn_mv=11_500)), "power.warn_mv"),
        (Policy(power=PowerPolicy(restore_mv=11_999)), "power.restore_mv"),
        (Policy(power=PowerPolicy(warn_mv=13_200)), "power.restore_mv"),
        (Policy(power=PowerPolicy(system_v=13)), "power.system_v"),
        (Policy(power=PowerPolicy(act_mv=9000)), "power.act_mv"),
        (Policy(power=PowerPolicy(hard_cut_s=24)), "power.hard_cut_s"),
        (Policy(power=PowerPolicy(system_v=24)), "ignition.charging_mv"),
        (Policy(power=PowerPolicy(chemistry=Chemistry.LIFEPO4)), "ignition.charging_mv"),
        (Policy(power=PowerPolicy(run_on_s=7200)), "power.max_s"),
        (Policy(power=PowerPolicy(hard_floor_percent=15)), "power.floor_percent"),
        (Policy(tether=TetherPolicy(required=())), "tether.required"),
        (Policy(tether=TetherPolicy(required=(DockBit.SEATED, DockBit.SEATED))), "tether.required"),
    ],
)
def test_a_rule_that_is_broken_is_named(policy: Policy, named: str) -> None:
    assert any(f"`policy.{named}`" in problem for problem in problems(policy))


def test_acting_and_restoring_are_half_a_volt_apart() -> None:
    policy = Policy(power=PowerPolicy(act_mv=11_500, warn_mv=11_600, restore_mv=11_999))
    [problem] = problems(policy)
    assert problem == (
        "`policy.power.restore_mv` is 11999: it must be at least 12000, "
        "because `policy.power.act_mv` is 11500"
    )
    assert problems(replace(policy, power=replace(policy.power, restore_mv=12_000))) == []
