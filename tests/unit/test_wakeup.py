"""What woke the machine, out of a sysfs tree of real files."""

from __future__ import annotations

from pathlib import Path

from agent.core.catalogue import WOKE
from agent.core.types import SECOND, BootNs, SleepSignal
from drivers.ports.wakeup import Wakeup
from tests.core_driver import Core


def source(root: Path, number: int, name: str, count: int) -> None:
    folder = root / "class" / "wakeup" / f"wakeup{number}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "wakeup_count").write_text(f"{count}\n")


def test_the_interrupt_and_the_sources_whose_counters_went_up(tmp_path: Path) -> None:
    source(tmp_path, 0, "alarmtimer", 3)
    source(tmp_path, 1, "1-1.2", 7)
    wakeup = Wakeup(tmp_path)
    wakeup.asleep()
    source(tmp_path, 1, "1-1.2", 8)
    (tmp_path / "power").mkdir()
    (tmp_path / "power" / "pm_wakeup_irq").write_text("9\n")
    (tmp_path / "kernel" / "irq" / "9").mkdir(parents=True)
    (tmp_path / "kernel" / "irq" / "9" / "actions").write_text("acpi\n")
    assert wakeup.reason() == "interrupt 9 (acpi), source 1-1.2"


def test_a_source_that_came_in_the_sleep_counts(tmp_path: Path) -> None:
    wakeup = Wakeup(tmp_path)
    wakeup.asleep()
    source(tmp_path, 0, "dock", 1)
    assert wakeup.reason() == "source dock"


def test_a_kernel_that_does_not_say_says_nothing(tmp_path: Path) -> None:
    wakeup = Wakeup(tmp_path / "nowhere")
    wakeup.asleep()
    assert wakeup.reason() == ""


def test_rubbish_in_the_tree_is_no_reason(tmp_path: Path) -> None:
    (tmp_path / "power").mkdir()
    (tmp_path / "power" / "pm_wakeup_irq").write_bytes(b"\xff\xfe")
    (tmp_path / "class" / "wakeup" / "wakeup0").mkdir(parents=True)
    (tmp_path / "class" / "wakeup" / "wakeup0" / "wakeup_count").mkdir()
    wakeup = Wakeup(tmp_path)
    wakeup.asleep()
    assert wakeup.reason() == ""


def test_each_resume_is_recorded_with_its_reason_and_how_long_it_slept() -> None:
    core = Core().tethered()
    core.see(SleepSignal(core.now, starting=True))
    woke = BootNs(core.now + 3600 * SECOND)
    core.see(SleepSignal(woke, starting=False, reason="interrupt 9 (acpi)"))
    core.see(SleepSignal(BootNs(woke + SECOND), starting=False))
    first, second = (record.as_dict() for record in core.records(WOKE))
    assert (first["reason"], first["slept_s"]) == ("interrupt 9 (acpi)", 3600)
    assert (second["reason"], second["slept_s"]) == ("the kernel does not say", 0)
