"""The scenes: what each does to the battery and to whoever judges the ignition, and what must hold."""

from __future__ import annotations

import pytest

from agent.core.types import BootNs, DockStatus
from simulator.electrics import LOAD_DUMP_MV
from simulator.virtual.bare import BareVehicle, NoTablet
from simulator.virtual.lives import DAY
from simulator.virtual.scenes import SCENES, Scene
from tests.verdicts import Judged, judged

# Parked for weeks they cannot be told by a starter; the others take seconds to live.
LONG = {"fortnight", "short-trips"}


def lived(name: str) -> tuple[Scene, Judged]:
    scene = SCENES[name]
    return scene, judged(scene)


def without_a_tablet(scene: Scene) -> int:
    bare = BareVehicle(1, scene.vehicle, NoTablet())
    bare.live(scene.acts, BootNs(scene.days * DAY))
    return bare.vehicle.failed_starts


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in LONG else []) for name in SCENES]
)
def test_no_vehicle_is_stranded_and_no_verdict_is_false(name: str) -> None:
    scene, found = lived(name)
    assert found.world.vehicle.failed_starts == 0 or without_a_tablet(scene) > 0
    assert not found.compared.wrong, found.compared.wrong
    assert not found.violations


def test_the_scenes_are_the_ten_of_the_field() -> None:
    assert set(SCENES) == {
        "winter", "stop-start", "electric", "run-lock", "fortnight", "charger", "load-dump",
        "dying-alternator", "short-trips", "stuck-line",
    }  # fmt: skip


def test_a_stop_of_the_engine_at_a_light_is_never_off() -> None:
    _, found = lived("stop-start")
    assert found.verdicts_in_use <= {"on", "running", "cranking", "unknown"}


def test_an_electric_car_is_running_without_engine_speed() -> None:
    _, found = lived("electric")
    assert "running" in found.verdicts_in_use


def test_a_load_dump_reaches_the_agent_and_decides_nothing() -> None:
    _, found = lived("load-dump")
    seen = [each.vehicle_mv for each in found.observed if isinstance(each, DockStatus)]
    assert LOAD_DUMP_MV in seen
    assert found.verdicts_in_use <= {"on", "running", "cranking", "unknown"}


def test_a_line_that_sticks_is_a_fault_and_no_verdict_rests_on_it_alone() -> None:
    _, found = lived("stuck-line")
    assert "wire says on, CAN said off and fell silent" in found.conflicts
    assert "off" not in found.verdicts_in_use


def test_a_charger_is_no_running_engine() -> None:
    _, found = lived("charger")
    assert found.verdict_on_charger <= {"off", "accessory", "on", "unknown"}
