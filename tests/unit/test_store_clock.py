"""Boot and wall clock of this machine, and how far the latter is trusted."""

from __future__ import annotations

import time

import pytest

from sync.blocks import Quality
from sync.clock import SystemClock, boot_id, parse_boot_id, quality


def test_the_clock_reads_boot_time_and_wall_time_together() -> None:
    before = time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.time_ns()
    stamp = SystemClock()()
    after = time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.time_ns()
    assert before[0] <= stamp.boot_ns <= after[0]
    assert before[1] <= stamp.wall_ns <= after[1]
    assert stamp.quality in (Quality.RTC, Quality.SYNCED)


@pytest.mark.parametrize(
    ("wall_ns", "synced", "expected"),
    [
        (0, False, Quality.UNSET),
        (1_700_000_000_000_000_000, False, Quality.UNSET),  # 2023: a dead clock battery
        (1_760_000_000_000_000_000, False, Quality.RTC),
        (1_760_000_000_000_000_000, True, Quality.SYNCED),
    ],
)
def test_a_wall_clock_is_trusted_as_far_as_the_kernel_and_the_date_allow(
    wall_ns: int, synced: bool, expected: Quality
) -> None:
    assert quality(wall_ns, synced=synced) is expected


def test_the_boot_id_is_the_kernels() -> None:
    assert len(boot_id()) == 16
    assert boot_id() == boot_id()
    assert parse_boot_id("00112233-4455-6677-8899-aabbccddeeff\n") == bytes.fromhex(
        "00112233445566778899aabbccddeeff"
    )
    with pytest.raises(ValueError, match="expected 32 hex digits"):
        parse_boot_id("0011")
