"""The simulated tablet: its battery, what it draws from the dock, and the tree that shows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.core.types import MINUTE, SECOND, BootNs
from simulator.tablet import DRAW_MW, Power, PowerSupplyTree, Tablet, TabletSpec

START = BootNs(7 * SECOND)


def tablet(power: Power = Power.ON, *, supply_mv: int = 0, charge_permille: int = 800) -> Tablet:
    made = Tablet(START, TabletSpec(charge_permille=charge_permille))
    made.power, made.supply_mv = power, supply_mv
    return made


def test_out_of_the_dock_it_lives_on_its_battery() -> None:
    made = tablet()
    made.advance(BootNs(START + 60 * MINUTE))
    assert made.percent == 80 - round(100 * DRAW_MW[Power.ON] / TabletSpec().capacity_mwh)
    assert (made.battery_mw, made.supply_ma) == (-9_000, 0)


def test_in_the_dock_it_charges_until_full_and_then_draws_less() -> None:
    made = tablet(supply_mv=12_000, charge_permille=980)
    charging = made.supply_ma
    made.advance(BootNs(START + 60 * MINUTE))
    assert (made.percent, made.battery_mw) == (100, 0)
    assert 0 < made.supply_ma < charging


def test_the_dock_gives_what_is_drawn_and_charged_and_lost() -> None:
    made = tablet(supply_mv=12_000)
    watts = made.supply_ma * made.supply_mv / 1000
    assert watts * 0.88 == pytest.approx(DRAW_MW[Power.ON] + made.battery_mw, rel=0.01)


def test_an_empty_battery_turns_it_off() -> None:
    made = tablet(charge_permille=1)
    made.advance(BootNs(START + 60 * MINUTE))
    assert (made.power, made.percent) == (Power.OFF, 0)


def test_a_sleeping_tablet_lasts_for_days() -> None:
    made = tablet(Power.SUSPENDED)
    made.advance(BootNs(START + 24 * 60 * MINUTE))
    assert made.percent > 60


def read(root: Path, name: str) -> str:
    return (root / name).read_text().strip()


def test_the_tree_shows_mains_and_battery_in_the_kernels_units(tmp_path: Path) -> None:
    tree, made = PowerSupplyTree(tmp_path), tablet()
    assert tree.write(made)
    assert (read(tmp_path, "AC/type"), read(tmp_path, "AC/online")) == ("Mains", "0")
    assert (read(tmp_path, "BAT0/type"), read(tmp_path, "BAT0/status")) == ("Battery", "Discharging")
    assert read(tmp_path, "BAT0/capacity") == "80"
    assert 6_600_000 < int(read(tmp_path, "BAT0/voltage_now")) < 8_400_000
    assert int(read(tmp_path, "BAT0/current_now")) == pytest.approx(
        -9_000_000_000 / made.battery_mv, abs=2000
    )
    made.supply_mv = 12_000
    assert tree.write(made)
    assert (read(tmp_path, "AC/online"), read(tmp_path, "BAT0/status")) == ("1", "Charging")
    assert int(read(tmp_path, "BAT0/current_now")) > 0


def test_an_unchanged_tablet_changes_no_file(tmp_path: Path) -> None:
    tree, made = PowerSupplyTree(tmp_path), tablet()
    tree.write(made)
    assert not tree.write(made)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["AC", "BAT0"]
