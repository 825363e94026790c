"""Agent and guard as real processes, and everything that may befall the agent."""

from __future__ import annotations

import enum
import os
import resource
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.core.types import BootNs
from agent.guard.posture import Posture, PostureError, read
from simulator.compose_bench import Options, Rig, boot_now
from simulator.tablet_os import LogindSystem
from tests.agent_rig import docked
from tests.system import need

STRUCK = Path(__file__).with_name("struck")
LIMIT_S = 3.0  # from the end of the lease to a lock that was read back; issue "Tether that can be trusted"
PATIENCE_S = 90.0
POLICY: Mapping[str, Any] = {"tether": {"refill_after_s": 1}, "power": {"run_on_s": 600, "max_s": 900}}


class Fault(enum.Enum):
    CRASH = "crash"
    KILL = "SIGKILL"
    STOP = "SIGSTOP"
    BUSY = "busy loop"
    IMPORT = "import error at start"
    DISK = "disk full"
    MEMORY = "out of memory"
    BUS = "D-Bus restart"


@dataclass(frozen=True)
class Struck:
    """What came of a fault, in seconds from the end of the lease; an agent that lives locks before it."""

    asked_s: float
    locked_s: float


def guarded(folder: Path, **policy: Any) -> Rig:
    """A rig whose agent can be struck."""
    need("dbus-daemon")
    environment = {"PYTHONPATH": os.fspath(STRUCK), "IVMA_STRUCK": os.fspath(folder / "struck")}
    return Rig(folder, Options(policy={**POLICY, **policy}, environment=environment))


def shown(rig: Rig) -> Posture | None:
    """What the posture file says."""
    try:
        return read(rig.layout.guard, {os.geteuid()})
    except PostureError:
        return None


async def leased(rig: Rig) -> Posture:
    """Wait for the guard to show a lease that runs."""
    found: Posture | None = None

    def runs() -> bool:
        nonlocal found
        found = shown(rig)
        return found is not None and found.usable and found.until > boot_now()

    await rig.until(runs, PATIENCE_S, "a lease that runs")
    assert found is not None
    return found


async def strike(rig: Rig, fault: Fault) -> Struck:
    """Dock, strike, and wait for the lock. What an agent could live through comes with a silent removal."""
    await docked(rig)
    await leased(rig)
    asked_before, begun = len(rig.system.lock_times), boot_now()
    match fault:
        case Fault.CRASH:
            rig.agent.signal(signal.SIGSEGV)
        case Fault.KILL:
            await rig.agent.kill()
        case Fault.STOP:
            rig.agent.signal(signal.SIGSTOP)
        case Fault.BUSY:
            rig.agent.signal(signal.SIGUSR1)
        case Fault.IMPORT:
            (rig.folder / "struck").touch()
            await rig.agent.kill()
            await rig.agent.start()
            assert await rig.agent.ended() != 0
        case Fault.DISK:
            assert rig.guard is not None
            for process in (rig.agent, rig.guard):
                hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)[1]
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, hard))
            rig.world.unplug()
        case Fault.MEMORY:
            rig.agent.signal(signal.SIGUSR2)
            rig.world.unplug()
        case Fault.BUS:
            rig.world.unplug()
            assert isinstance(rig.system, LogindSystem)
            await rig.system.restart_bus()
    until = begun  # of a lease that the fault has ended already no time was lent at all

    def locked() -> bool:
        """An agent may renew once more before the fault has reached it: the last lease counts."""
        nonlocal until
        lease = shown(rig)
        if lease is not None and lease.usable:
            until = BootNs(max(until, lease.until))
        return rig.system.session == "locked"

    await rig.until(locked, PATIENCE_S, f"a lock after {fault.value}")
    locked_at = boot_now()
    asked_at = rig.system.lock_times[asked_before]
    return Struck((asked_at - until) / 1e9, (locked_at - until) / 1e9)
