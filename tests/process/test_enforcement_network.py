"""The network off by NetworkManager on a private bus: verified, watched, and given back as it was."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from agent.core.types import LockOutcome
from agent.enforcement.chain import Chain
from agent.enforcement.network import NOTE, NetworkAction
from simulator.network_manager import NetworkManagerDouble
from tests.aio import looped
from tests.logind_rig import Rig, boot_now, lock_order, logind_rig, release_order

WIFI, MOBILE, ALL = "WirelessEnabled", "WwanEnabled", "NetworkingEnabled"


class Bed:
    """NetworkManager's double and the agent's side; ``chain`` may be replaced, as by a restart."""

    def __init__(self, rig: Rig, manager: NetworkManagerDouble, settings: dict[str, object]) -> None:
        self.rig, self.manager = rig, manager
        self._settings = {"delay_s": 0, "verify_ms": 5000, **settings}
        manager.on_call = lambda _member: rig.changed.set()
        self.restart()

    def restart(self) -> None:
        self.action = NetworkAction(self._settings, self.rig.around)
        self.chain = Chain([self.action], self.rig.observe, boot_now)

    async def outcomes(self, n: int) -> list[LockOutcome]:
        await self.rig.until(lambda: len(self.rig.of(LockOutcome)) >= n)
        return self.rig.of(LockOutcome)

    def stands(self) -> tuple[bool, bool, bool]:
        """Wifi, mobile, all."""
        switches = self.manager.switches
        return switches[WIFI], switches[MOBILE], switches[ALL]

    async def moved(self, **to: bool) -> None:
        await self.rig.until(lambda: all(self.manager.switches[name] == on for name, on in to.items()))


@contextlib.asynccontextmanager
async def bench(folder: Path, **settings: object) -> AsyncIterator[Bed]:
    async with logind_rig(folder) as rig:
        manager = NetworkManagerDouble(rig.address)
        await manager.start()
        bed = Bed(rig, manager, settings)
        await rig.connect()
        await bed.chain.start()
        try:
            yield bed
        finally:
            await bed.chain.close()
            await manager.stop()


@looped
async def test_radios_go_off_on_lock_and_come_back_on_release(tmp_path: Path) -> None:
    async with bench(tmp_path) as bed:
        bed.manager.after_s = 0.05
        bed.chain.lock(lock_order(4))
        (off,) = await bed.outcomes(1)
        assert (off.decision, off.action, off.ok) == (4, "network", True)
        assert off.detail == "wifi, mobile read back as off"
        assert bed.stands() == (False, False, True)
        bed.chain.release(release_order(5))
        on = (await bed.outcomes(2))[1]
        assert (on.decision, on.ok, on.detail) == (5, True, "wifi, mobile read back as on")
        assert bed.stands() == (True, True, True)
        assert not (tmp_path / NOTE).exists()


@looped
async def test_what_was_off_before_stays_off(tmp_path: Path) -> None:
    async with bench(tmp_path) as bed:
        bed.manager.move(MOBILE, on=False)
        bed.chain.lock(lock_order(1))
        await bed.outcomes(1)
        bed.chain.release(release_order(2))
        await bed.outcomes(2)
        assert bed.stands() == (True, False, True)


@looped
async def test_all_networking_can_be_switched(tmp_path: Path) -> None:
    async with bench(tmp_path, off=["all"]) as bed:
        bed.chain.lock(lock_order(1))
        assert (await bed.outcomes(1))[0].ok
        assert bed.stands() == (True, True, False)
        bed.chain.release(release_order(2))
        await bed.outcomes(2)
        assert bed.stands() == (True, True, True)


@looped
async def test_a_switch_that_says_yes_and_does_not_move_is_no_success(tmp_path: Path) -> None:
    async with bench(tmp_path, verify_ms=200) as bed:
        bed.manager.stuck.add(WIFI)
        bed.chain.lock(lock_order(1))
        (outcome,) = await bed.outcomes(1)
        assert (outcome.ok, outcome.detail) == (False, "did not go off: wifi")
        bed.manager.stuck.clear()
        assert (await bed.outcomes(2))[1].ok  # it goes on asking
        assert bed.stands() == (False, False, True)


@looped
async def test_who_switches_on_while_locked_is_switched_off_again_and_counted(tmp_path: Path) -> None:
    async with bench(tmp_path) as bed:
        bed.chain.lock(lock_order(1))
        await bed.outcomes(1)
        bed.manager.move(WIFI, on=True)
        await bed.moved(**{WIFI: False})
        assert bed.action.status()["switched_on_while_locked"] == 1


@looped
async def test_a_restart_of_the_agent_gives_back_what_the_run_before_switched_off(tmp_path: Path) -> None:
    async with bench(tmp_path) as bed:
        bed.chain.lock(lock_order(1))
        await bed.outcomes(1)
        await bed.chain.close()
        bed.restart()
        await bed.chain.start()
        bed.chain.lock(lock_order(1))
        await bed.outcomes(2)
        bed.chain.release(release_order(2))
        await bed.outcomes(3)
        assert bed.stands() == (True, True, True)


@looped
async def test_a_crash_between_release_and_switching_on_is_mended_at_the_start(tmp_path: Path) -> None:
    async with bench(tmp_path) as bed:
        bed.chain.lock(lock_order(1))
        await bed.outcomes(1)
        await bed.chain.close()
        bed.restart()
        await bed.chain.start()  # and no lock follows: the tablet is usable
        await bed.moved(**{WIFI: True, MOBILE: True})


@looped
async def test_without_networkmanager_the_outcome_says_so_and_it_takes_when_it_comes(tmp_path: Path) -> None:
    async with bench(tmp_path) as bed:
        await bed.manager.stop()
        bed.chain.lock(lock_order(1))
        (outcome,) = await bed.outcomes(1)
        assert not outcome.ok
        assert "cannot ask NetworkManager" in outcome.detail
        await bed.manager.start()
        assert (await bed.outcomes(2))[1].ok


@looped
async def test_a_refusal_by_polkit_is_told_in_its_words(tmp_path: Path) -> None:
    async with bench(tmp_path) as bed:
        bed.manager.refuse["Set"] = "org.freedesktop.NetworkManager.PermissionDenied"
        bed.chain.lock(lock_order(1))
        assert "PermissionDenied" in (await bed.outcomes(1))[0].detail


@looped
async def test_the_delay_lets_the_alarm_out_and_a_release_within_it_touches_nothing(tmp_path: Path) -> None:
    async with bench(tmp_path, delay_s=600) as bed:
        bed.chain.lock(lock_order(1))
        bed.chain.release(release_order(2))
        assert "superseded" in (await bed.outcomes(1))[0].detail
        await bed.rig.settle()
        assert bed.manager.sets == []
