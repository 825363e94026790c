"""The scenes: what each does to the battery and to whoever judges the ignition, and what must hold."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from agent.core.types import SECOND, BootNs, DockStatus
from simulator.__main__ import main
from simulator.compose_scenes import Compared, Judged, judged
from simulator.compose_verdicts import figures, page, summed
from simulator.electrics import LOAD_DUMP_MV
from simulator.virtual.bare import BareVehicle, NoTablet
from simulator.virtual.lives import DAY, HOUR
from simulator.virtual.scenes import SCENES, Scene

ON = {"on", "running", "cranking", "unknown"}


def without_a_tablet(scene: Scene) -> int:
    bare = BareVehicle(1, scene.vehicle, NoTablet())
    bare.live(scene.acts, BootNs(scene.days * DAY))
    return bare.vehicle.failed_starts


def stop_start(found: Judged) -> None:
    """A stop of the engine at a light is never off."""
    assert found.verdicts_in_use <= ON


def electric(found: Judged) -> None:
    """It is running without any engine speed."""
    assert "running" in found.verdicts_in_use


def load_dump(found: Judged) -> None:
    """It reaches the agent, and decides nothing."""
    assert LOAD_DUMP_MV in [each.vehicle_mv for each in found.observed if isinstance(each, DockStatus)]
    assert found.verdicts_in_use <= ON


def stuck_line(found: Judged) -> None:
    """It is a fault, and no verdict rests on the line alone."""
    assert "wire says on, CAN said off and fell silent" in found.conflicts
    assert "off" not in found.verdicts_in_use


def charger(found: Judged) -> None:
    """A charger is no running engine."""
    assert found.verdict_on_charger <= {"off", "accessory", "on", "unknown"}


def supply_mv(found: Judged) -> list[int]:
    seen = [each.vehicle_mv for each in found.observed if isinstance(each, DockStatus)]
    return [mv for mv in seen if mv is not None]


def winter(found: Judged) -> None:
    """A cold crank is far below every threshold, is seen as a crank, and ends or sheds nothing."""
    assert min(supply_mv(found)) < 6_500
    assert "cranking" in found.verdicts_in_use
    assert not found.power_rules & {"power.low_voltage", "power.shed", "power.low_charge"}
    assert found.world.vehicle.failed_starts == 0


def run_lock(found: Judged) -> None:
    """Key out and engine running is running, all night: no run-on begins under it."""
    assert found.verdicts_run_lock == {"running"}


def fortnight(found: Judged) -> None:
    """The tablet gives up long before the charge guard has to, and the vehicle starts."""
    assert not found.guard_opened
    assert "power.run_on_over" in found.power_rules
    assert found.world.vehicle.failed_starts == 0


def dying_alternator(found: Judged) -> None:
    """A running engine that charges nothing, at a resting battery's voltage, is never taken for off."""
    assert found.verdicts_in_use <= ON
    assert sum(mv < 12_600 for mv in supply_mv(found)) > 1000
    assert not found.guard_opened


def short_trips(found: Judged) -> None:
    """A smart alternator near a resting voltage is running all the same, and every day it starts again."""
    assert found.verdicts_in_use <= ON
    assert sum(12_000 < mv < 12_700 for mv in supply_mv(found)) > 1000
    assert found.world.vehicle.failed_starts == 0


MORE: dict[str, Callable[[Judged], None]] = {
    "winter": winter, "stop-start": stop_start, "electric": electric, "run-lock": run_lock,
    "fortnight": fortnight, "charger": charger, "load-dump": load_dump, "dying-alternator": dying_alternator,
    "short-trips": short_trips, "stuck-line": stuck_line,
}  # fmt: skip


def test_the_scenes_are_the_ten_of_the_field() -> None:
    assert SCENES.keys() == MORE.keys()


@pytest.mark.parametrize("name", SCENES)
def test_no_vehicle_is_stranded_no_verdict_is_false_and_no_invariant_violated(name: str) -> None:
    scene = SCENES[name]
    found = judged(scene)
    assert found.world.vehicle.failed_starts == 0 or without_a_tablet(scene) > 0
    assert not found.compared.wrong, found.compared.wrong
    assert not found.violations
    MORE[name](found)


def test_the_command_tells_a_scene_and_knows_its_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scene", "charger", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["scene"] == "charger"
    assert said["false_verdicts"] == {}
    assert main(["scene", "chargr"]) == 2
    assert "no scene chargr; there are winter" in capsys.readouterr().err


def test_figures_tell_false_verdicts_by_kind_times_by_rule_and_errors_by_grade() -> None:
    found = Compared()
    found.heard_ns.update({"on": 99 * HOUR, "unknown": HOUR})
    found.wrong.update({"false ON, single": 2, "false OFF, inferred": 1})
    found.took_ns["ignition.agree"] += [SECOND, 2 * SECOND, 9 * SECOND]
    found.verdicts["single"] = 7
    found.graded_ns["single"], found.wrong_ns["single"] = 50 * HOUR, HOUR
    said = figures({"winter": Compared()}, summed([found, Compared()]), found)
    assert (said["false_on"], said["false_off"], said["unknown_percent"]) == (2, 1, 1.0)
    assert said["time_to_verdict_s"] == {"ignition.agree": {"verdicts": 3, "p50": 2.0, "max": 9.0}}
    assert said["grades"]["single"] == {"verdicts": 7, "hours": 50.0, "wrong_percent": 2.0}
    assert said["grades"]["confirmed"]["wrong_percent"] == 0
    shown = page(said, 3, 1)
    assert "| `winter` | 0.0 | 0 | 0 | 0.0 |" in shown
    assert "| single | 7 | 50.0 | 2.0 |" in shown
