"""The tablet's supplies out of a power_supply tree of real files."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.types import BootNs, TabletPower
from drivers.ports.power_supply import BATTERY, MAX_SUPPLIES, PowerSupply, summarise
from tests.can_rig import Clock, Seen

AT = BootNs(7)


def battery(**values: object) -> dict[str, str]:
    return {"type": "Battery", **{key: str(value) for key, value in values.items()}}


def mains(online: int) -> dict[str, str]:
    return {"type": "Mains", "online": str(online)}


def write(root: Path, name: str, supply: dict[str, str]) -> None:
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    for key, value in supply.items():
        (folder / key).write_text(value + "\n")


def test_units_are_the_cores() -> None:
    supply = battery(
        status="Discharging", capacity=57, current_now=-1_234_567, voltage_now=7_654_321, temp=312
    )
    assert summarise([mains(0), supply], AT) == TabletPower(
        AT, external=False, percent=57, battery_ma=-1235, battery_mv=7654, temperature_dc=312
    )


@pytest.mark.parametrize(
    ("status", "current_ua", "expected_ma"),
    [
        ("Discharging", 500_000, -500),
        ("Discharging", -500_000, -500),
        ("Charging", 500_000, 500),
        ("Charging", -500_000, 500),
        ("Full", -3_000, -3),
        ("Unknown", 500_000, 500),
    ],
)
def test_either_sign_of_a_drivers_current_is_understood(
    status: str, current_ua: int, expected_ma: int
) -> None:
    assert summarise([battery(status=status, current_now=current_ua)], AT).battery_ma == expected_ma


def test_a_battery_that_gives_power_gives_current_too() -> None:
    supply = battery(status="Discharging", power_now=10_000_000, voltage_now=8_000_000)
    assert summarise([supply], AT).battery_ma == -1250


@pytest.mark.parametrize(("capacity", "expected"), [(104, 100), (-1, 0), ("", None), ("n/a", None)])
def test_percent_is_0_to_100_or_not_known(capacity: object, expected: int | None) -> None:
    assert summarise([battery(capacity=capacity)], AT).percent == expected


def test_several_batteries_count_by_their_size() -> None:
    large = battery(
        capacity=80, energy_full=30_000_000, current_now=-1_000_000, voltage_now=8_000_000, temp=300
    )
    small = battery(
        capacity=20, energy_full=10_000_000, current_now=-200_000, voltage_now=7_500_000, temp=350
    )
    both = summarise([large, small], AT)
    assert (both.percent, both.battery_ma, both.battery_mv, both.temperature_dc) == (65, -1200, 7500, 350)


def test_batteries_of_unknown_size_count_alike() -> None:
    assert (
        summarise([battery(capacity=80, energy_full=1), battery(capacity=20, charge_full=1)], AT).percent
        == 50
    )


def test_a_battery_bay_that_is_empty_does_not_count() -> None:
    assert summarise([battery(capacity=80), battery(present=0, capacity=0)], AT).percent == 80


@pytest.mark.parametrize(
    ("supplies", "external"),
    [
        ([mains(0), {"type": "USB", "online": "1"}], True),
        ([mains(2)], True),  # on-line with a fixed voltage, as the kernel has it
        ([mains(0), battery(status="Charging")], False),
        ([battery(status="Charging")], True),
        ([battery(status="Discharging")], False),
        ([battery(status="Full")], None),
        ([], None),
    ],
)
def test_external_power(supplies: list[dict[str, str]], external: bool | None) -> None:
    assert summarise(supplies, AT).external is external


def run(root: Path, then: Callable[[PowerSupply, Seen], None], readings: int, poll_s: float = 30.0) -> Seen:
    """Start on a tree, do something after the first reading, and wait for so many observations."""

    async def main() -> Seen:
        seen = Seen()
        port = PowerSupply(root, seen, Clock(), poll_s=poll_s)
        port.start()
        await seen.until(lambda: len(seen.all) == 1)
        then(port, seen)
        await seen.until(lambda: len(seen.all) == readings)
        port.close()
        return seen

    return asyncio.run(main())


def test_a_change_that_udev_reports_is_read(tmp_path: Path) -> None:
    write(tmp_path, "AC", mains(1))

    def unplug(port: PowerSupply, _: Seen) -> None:
        write(tmp_path, "AC", mains(0))
        port.changed()

    seen = run(tmp_path, unplug, 2)
    assert [each.external for each in seen.all if isinstance(each, TabletPower)] == [True, False]


def test_a_change_that_nobody_reports_is_found_by_the_poll(tmp_path: Path) -> None:
    write(tmp_path, "BAT0", battery(capacity=50))
    seen = run(tmp_path, lambda *_: write(tmp_path, "BAT0", battery(capacity=49)), 2, poll_s=0.02)
    assert [each.percent for each in seen.all if isinstance(each, TabletPower)] == [50, 49]


def test_only_changes_are_reported(tmp_path: Path) -> None:
    write(tmp_path, "BAT0", battery(capacity=50))
    polls = 0

    class Counting(Clock):
        def __call__(self) -> BootNs:
            nonlocal polls
            polls += 1
            if polls == 5:
                write(tmp_path, "BAT0", battery(capacity=48))
            return self.forward(1)

    async def main() -> Seen:
        seen = Seen()
        port = PowerSupply(tmp_path, seen, Counting(), poll_s=0.001)
        port.start()
        await seen.until(lambda: len(seen.all) == 2)
        port.close()
        return seen

    seen = asyncio.run(main())
    assert polls >= 5
    assert len(seen.all) == 2


def test_a_supply_that_goes_is_reported(tmp_path: Path) -> None:
    write(tmp_path, "AC", mains(1))
    write(tmp_path, "BAT0", battery(capacity=50))

    def remove(port: PowerSupply, _: Seen) -> None:
        for path in (tmp_path / "AC").iterdir():
            path.unlink()
        (tmp_path / "AC").rmdir()
        port.changed()

    seen = run(tmp_path, remove, 2)
    assert [each.external for each in seen.all if isinstance(each, TabletPower)] == [True, None]


def test_a_missing_tree_says_nothing_is_known(tmp_path: Path) -> None:
    seen = run(tmp_path / "none", lambda *_: None, 1)
    assert seen.all == [TabletPower(seen.all[0].at, None, None, None, None, None)]


def test_the_battery_of_a_pen_is_not_the_tablets(tmp_path: Path) -> None:
    write(tmp_path, "BAT0", battery(capacity=50))
    write(tmp_path, "pen", {**battery(capacity=3), "scope": "Device"})
    seen = run(tmp_path, lambda *_: None, 1)
    assert [each.percent for each in seen.all if isinstance(each, TabletPower)] == [50]


def test_attributes_that_cannot_be_read_are_not_known(tmp_path: Path) -> None:
    write(tmp_path, "BAT0", battery(capacity=50))
    (tmp_path / "BAT0" / "temp").mkdir()  # reading it fails, as root too
    (tmp_path / "BAT0" / "voltage_now").write_bytes(b"\xff" * 9000)
    seen = run(tmp_path, lambda *_: None, 1)
    assert seen.all == [TabletPower(seen.all[0].at, None, 50, None, None, None)]


def test_a_tree_without_end_is_read_in_part(tmp_path: Path) -> None:
    for number in range(MAX_SUPPLIES + 10):
        write(tmp_path, f"BAT{number:02}", battery(capacity=50, current_now=1000))
    seen = run(tmp_path, lambda *_: None, 1)
    assert [each.battery_ma for each in seen.all if isinstance(each, TabletPower)] == [MAX_SUPPLIES]


TEXT = st.one_of(
    st.integers().map(str), st.text(max_size=8), st.sampled_from(["Charging", "Discharging", "0"])
)


@settings(max_examples=200)
@given(
    st.lists(
        st.builds(
            lambda kind, rest: {"type": kind, **rest},
            st.sampled_from(["Battery", "Mains", "USB", "?"]),
            st.dictionaries(st.sampled_from([*BATTERY, "online"]), TEXT),
        ),
        max_size=4,
    )
)
def test_whatever_drivers_say_percent_stays_in_bounds(supplies: list[dict[str, str]]) -> None:
    percent = summarise(supplies, AT).percent
    assert percent is None or 0 <= percent <= 100


@pytest.mark.parametrize(("after_it", "told"), [(49, [50, 49]), (3, [50, 3])])
def test_a_capacity_that_jumps_counts_only_if_the_next_reading_says_it_too(
    tmp_path: Path, after_it: int, told: list[int]
) -> None:
    write(tmp_path, "BAT0", battery(capacity=50))

    class Gauge(Clock):
        readings = 0

        def __call__(self) -> BootNs:
            """Asked once for each reading, which is made by then."""
            self.readings += 1
            write(tmp_path, "BAT0", battery(capacity=3 if self.readings == 1 else after_it))
            return self.forward(1)

    async def main() -> Seen:
        seen = Seen()
        port = PowerSupply(tmp_path, seen, Gauge(), poll_s=0.02)
        port.start()
        await seen.until(lambda: len(seen.all) == 2)
        port.close()
        return seen

    seen = asyncio.run(main())
    assert [each.percent for each in seen.all if isinstance(each, TabletPower)] == told
