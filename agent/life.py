"""One run of the agent on whatever machine: start in order, take observations in, stop in order.

It knows nothing of processes: time, the timer and every part are given to it. ``agent/daemon.py`` runs one
in a process; the simulator runs many, one after the other, in virtual time.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import structlog

from agent import memory
from agent.availability import Availability
from agent.core import catalogue, machine
from agent.core.grants import NOTHING_KNOWN
from agent.core.orders import NewFleetKey, Order
from agent.core.policy import Policy
from agent.core.records import Record, Stream
from agent.core.state import State, TetherState, initial
from agent.core.types import (
    MS,
    BootNs,
    Decision,
    DepotContact,
    Effect,
    Effects,
    GuardState,
    KeepGrant,
    Lease,
    MemoryFound,
    Observation,
    Remembered,
    Started,
    StoreHealth,
    StoreRenewed,
)
from agent.dbus import Bus
from agent.effects import DockPort, Effector, FleetLink, LeaseHolder
from agent.emergency import Left, NoEmergency
from agent.enforcement.chain import Chain
from agent.power_actions import PowerActions
from agent.report import Section
from agent.runtime import LockMarker, Runtime, Timer, Watcher
from agent.spent import NoNote

log = structlog.get_logger()

CLOSE_S = 3.0  # ours: what the store and the uplink each get to finish at a stop


class Queue(Protocol):
    """The durable queue in its thread."""

    refused: Counter[Stream]

    @property
    def stalled_s(self) -> int | None:
        """For how many seconds its disk has not answered; None while it does."""

    async def start(self) -> Any:
        """Has ``remembered`` (bytes or None) and ``problem`` (text or None)."""

    def commit(self, records: Sequence[Record], remember: bytes | None = None) -> asyncio.Future[Any]: ...
    def flush(self) -> asyncio.Future[Any]: ...
    def stats(self) -> asyncio.Future[Any]: ...
    async def close(self, timeout_s: float) -> bool: ...


class Port(Protocol):
    """Something that listens to hardware on the loop."""

    def start(self) -> None: ...
    def close(self) -> None: ...


class DockLink(Port, DockPort, Protocol):
    """A dock's wire."""


class Fleet(FleetLink, Protocol):
    """The way to the fleet."""

    def start(self) -> None: ...
    async def close(self, timeout_s: float) -> bool: ...
    def report(self, at: BootNs, accepted: int, generation: int, state: str, detail: str) -> None:
        """Say what became of a desired configuration."""


@dataclass(frozen=True, slots=True)
class Greeting:
    """What the guard says first: the lease that still runs, or the lock that it made on its own."""

    lease: Lease | None = None
    locked: tuple[int, str] | None = None  # decision of the lease that ran out, rule
    absent: str = ""  # why there is none, though there should be one


class Guard(LeaseHolder, Protocol):
    """The way to the guard."""

    async def start(self) -> Greeting:
        """Connect, and hear what it has to say; without a guard nothing."""

    async def close(self) -> None:
        """Let go; a lease that runs goes on."""

    def status(self) -> object: ...


class NoGuard:
    """A tablet without a guard: nobody locks it when the agent dies."""

    async def start(self) -> Greeting:
        return Greeting()

    async def close(self) -> None:
        """Nobody to leave."""

    def begin(self, lease: Lease) -> None:
        """Nobody holds it."""

    def renew(self, lease: Lease) -> None:
        """Nobody holds it."""

    def end(self, decision: int, because: str) -> None:
        """Nobody held it."""

    def status(self) -> object:
        return None


class Marker(LockMarker, Protocol):
    def read(self) -> tuple[int | None, str] | None:
        """What an earlier run left: (decision, rule), or None; the decision is None if it is not known."""


class Emergency(Protocol):
    """Where records are kept that the store could not take; see agent/emergency.py."""

    def left(self) -> Sequence[Left]: ...
    def keep(self, records: Sequence[Record]) -> None: ...
    def forget(self) -> None: ...
    def close(self) -> None: ...


class Spent(Protocol):
    """The note that the override which needs no record was taken in this boot."""

    def set(self) -> None: ...
    def is_set(self) -> bool: ...


class Desk(Protocol):
    """Where leave is asked for: what the daemon calls of it."""

    def attach(self, runtime: Runtime) -> None: ...
    async def present(self, text: str) -> dict[str, Any]: ...
    def watch(self, observation: Observation, state: State, effects: Effects) -> None: ...
    def verbs(self) -> Mapping[str, Any]: ...
    def officer_verbs(self) -> Mapping[str, Any]: ...


class OrderDesk(Protocol):
    """Who obeys the control room."""

    def take(self, order: Order) -> None: ...
    def contact(self) -> None: ...
    def generation(self, known: int) -> None: ...


class Docking(Protocol):
    """Docks that come and go while the agent runs: what the daemon calls of it."""

    def verbs(self) -> Mapping[str, Any]: ...
    def attach(self, percent: Callable[[], int | None], policy: Callable[[], Policy]) -> None:
        """Where to read the tablet's battery, and what policy is in force."""

    def in_force(self, policy: Policy) -> tuple[Policy, list[str]]:
        """What of a policy holds beside the docks that are paired, and what does not."""

    async def recover(self) -> None:
        """Finish what was interrupted; after the start. Raises nothing."""

    def reload(self) -> list[str]:
        """Look at the pairings anew; what is wrong with them."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a run is made of."""

    queue: Queue
    chain: Chain
    power: PowerActions
    bus: Bus | None  # the system bus, if any part uses it
    docks: Sequence[DockLink]
    ports: Sequence[Port]  # everything else that listens, started in order
    fleet: Fleet
    guard: Guard
    sections: Mapping[str, Section]  # what parts say of themselves in `ivmactl status`
    docking: Docking | None = None  # pairing and testing docks
    desk: Desk | None = None  # permits, short codes, the override
    verbs: Mapping[str, Any] = field(default_factory=dict)  # what else the control socket offers
    change_fleet_key: Callable[[NewFleetKey], None] = lambda order: None


@dataclass(frozen=True, slots=True)
class Hooks:
    """What parts call the run by."""

    observe: Callable[[Observation], None]
    store_health: Callable[[bool, str], None]
    record: Callable[[Record], None]
    store_renewed: Callable[[str], None]
    store_recalled: Callable[[bytes], None]  # what is remembered, when the start could not read it
    contact: Callable[[], None]  # the depot said something under its key
    generation: Callable[[int], None]  # of configuration, that the depot knows to be accepted
    ordered: Callable[[Order], None]  # the control room sent something


@dataclass(frozen=True, slots=True)
class Identity:
    """What a run says of itself in its first record."""

    version: str
    config: str  # the configuration's digest
    boot_id: str


class Life:
    """One run. ``build`` makes the parts; everything happens on the loop that it was made in.

    ``timer`` makes the one deadline timer, on the boot clock, for a callback. ``watchers`` are told of every
    step, ``noted`` of the records that no step made, ``ran`` of every effect once it is under way.
    """

    def __init__(
        self,
        build: Callable[[Hooks], Parts],
        policy: Policy,
        identity: Identity,
        *,
        marker: Marker,
        now: Callable[[], BootNs],
        timer: Callable[[Callable[[], None]], Timer],
        explained: Callable[[Decision], None] = lambda decision: None,
        watchers: Sequence[Watcher] = (),
        noted: Callable[[Record], None] = lambda record: None,
        ran: Callable[[Effect], None] = lambda effect: None,
        spent: Spent | None = None,
        emergency: Emergency | None = None,
        orders: OrderDesk | None = None,
    ) -> None:
        self._orders = orders
        self._emergency: Emergency = emergency or NoEmergency()
        self.parts = parts = build(
            Hooks(
                self.observe,
                self.store_health,
                self.note,
                self.store_renewed,
                self.store_recalled,
                self.contact,
                self.generation,
                self.ordered,
            )
        )
        self._effector = Effector(
            chain=parts.chain,
            power=parts.power,
            docks=parts.docks,
            fleet=parts.fleet,
            guard=parts.guard,
            explained=explained,
            observe=self.observe,
            now=now,
        )
        self.runtime = Runtime(
            initial(policy),
            policy,
            ledger=self,
            run=self._run,
            marker=marker,
            now=now,
            watchers=[*watchers, self._measure],
            emergency=self._emergency,
        )
        self.availability = Availability()
        self.store: dict[str, object] = {"ok": True, "detail": ""}  # as `ivmactl status` shows it
        self._identity = identity
        self._marker = marker
        self._now = now
        self._timer = timer
        self._noted = noted
        self._ran = ran
        self._spent = spent or NoNote()
        self._open = False  # the store has told what was before

    async def start(self, problem: str | None) -> None:
        """Start all but the way to the fleet. ``problem``: why the last good configuration is in force."""
        parts, runtime = self.parts, self.runtime
        opened = await parts.queue.start()
        self._open = True
        greeting = await parts.guard.start()
        first = opened.remembered is None and opened.damaged is None and opened.problem is None
        decoded = memory.decode(opened.remembered)
        remembered = self._take_up(decoded, greeting, problem, first=first)
        await parts.chain.start()
        await parts.power.start()
        if parts.bus is not None:
            parts.bus.start()
        cold = decoded is None or decoded.boot_id != self._identity.boot_id
        self.availability.begin(self._now(), cold=cold)
        runtime.arm_with(self._timer(runtime.deadline))
        started = Started(
            self._now(), self._identity.boot_id, remembered, greeting.lease,
            emergency_spent=self._spent.is_set(), locked=remembered is not decoded,
        )  # fmt: skip
        runtime.observe(started)
        if greeting.absent:
            runtime.observe(GuardState(self._now(), False, greeting.absent))
        if opened.damaged is not None:
            self.store_renewed(opened.damaged)
        if opened.problem is not None:
            self.store_health(False, opened.problem)
        for port in (*parts.docks, *parts.ports):
            port.start()

    async def stop(self, reason: str) -> None:
        """Commit the last words and close everything, also after a start that failed."""
        parts, runtime = self.parts, self.runtime
        for port in (*parts.docks, *parts.ports):
            port.close()
        if self._open:
            at = self._now()
            stopped = catalogue.AGENT_STOPPED.make(at, reason=reason)
            shifts = self.availability.end(at)
            last = [stopped] if shifts is None else [shifts.record(at), stopped]
            self.commit(last, machine.last_words(runtime.state, at))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(runtime.settle(), CLOSE_S)
        await parts.guard.close()
        await parts.fleet.close(CLOSE_S)
        await parts.chain.close()
        await parts.power.close()
        if parts.bus is not None:
            await parts.bus.close()
        if not await parts.queue.close(CLOSE_S):
            log.error("store.not_closed", waited_s=CLOSE_S)
        self._emergency.close()

    def commit(self, records: Sequence[Record], remember: Remembered | None) -> asyncio.Future[Any]:
        """The runtime's ledger."""
        return self.parts.queue.commit(records, None if remember is None else memory.encode(remember))

    # --- what parts call --------------------------------------------------------------------------

    def observe(self, observation: Observation) -> None:
        if self._open:
            self.runtime.observe(observation)

    def store_health(self, ok: bool, detail: str) -> None:
        self.store = {"ok": ok, "detail": detail}
        self.observe(StoreHealth(self._now(), ok, detail))

    def store_renewed(self, detail: str) -> None:
        self.observe(StoreRenewed(self._now(), detail))

    def store_recalled(self, remembered: bytes) -> None:
        found = memory.decode(remembered)
        if found is not None:
            self.observe(MemoryFound(self._now(), found))

    def generation(self, known: int) -> None:
        if self._orders is not None:
            self._orders.generation(known)

    def ordered(self, order: Order) -> None:
        if self._open and self._orders is not None:
            self._orders.take(order)

    def contact(self) -> None:
        if self._orders is not None:
            self._orders.contact()
        # Acks come by the thousand: only a memory that was lost waits for one.
        if self._open and self.runtime.state.grants.memory.void:
            self.observe(DepotContact(self._now()))

    def note(self, record: Record) -> None:
        """Commit a record that no decision depends on."""
        self._noted(record)
        self.commit([record], None)

    def _measure(self, _observation: Observation, state: State, _effects: Effects) -> None:
        if (over := self.availability.see(state)) is not None:
            self.note(over.record(state.now))

    def _run(self, effect: Effect) -> None:
        if isinstance(effect, KeepGrant) and effect.hurried and not effect.kept:
            self._spent.set()  # before it is used
        self._effector.run(effect)
        self._ran(effect)

    def _take_up(
        self, remembered: Remembered | None, greeting: Greeting, problem: str | None, *, first: bool
    ) -> Remembered | None:
        """Record this start and what the last run left unrecorded; returns what the core is to know of it.

        ``first``: nothing was before on this tablet; otherwise no memory is one that cannot be read.
        """
        at, identity = self._now(), self._identity
        records = [
            catalogue.AGENT_STARTED.make(
                at, version=identity.version, config=identity.config, boot_id=identity.boot_id
            )
        ]
        if problem is not None:
            records.append(catalogue.CONFIG_REFUSED.make(at, problem=problem))
        left = self._marker.read()
        found = [] if left is None else [left]
        if greeting.locked is not None:
            lapsed, rule = greeting.locked
            found.append((lapsed + 1, rule))
        lent_ns = self.runtime.policy.tether.ride_through_ms * MS
        for decision, rule in found:
            remembered = _recover(decision, rule, remembered, lent_ns, records, at)
        if greeting.locked is not None and remembered is not None:
            # From here on it is noted as ours is: the guard forgets it with our next word.
            self._marker.set(remembered.decision, greeting.locked[1])
        left_over = self._emergency.left()
        # Of the change that is remembered the record came through, in the same transaction.
        known = remembered.decision if remembered is not None else None
        records += [each.record(at) for each in left_over if known is None or each.decision != known]
        for record in records:
            self._noted(record)
        commit = self.commit(records, remembered)
        if left_over:
            commit.add_done_callback(self._told)
        if found and remembered is not None:
            commit.add_done_callback(functools.partial(self._recovered, remembered.decision))
        return remembered if remembered is not None or first else _unreadable(identity.boot_id, at)

    def _told(self, commit: asyncio.Future[Any]) -> None:
        if not commit.cancelled() and commit.exception() is None:
            self._emergency.forget()

    def _recovered(self, decision: int, commit: asyncio.Future[Any]) -> None:
        if not commit.cancelled() and commit.exception() is None:
            self._marker.clear(decision)


def _unreadable(boot_id: str, at: BootNs) -> Remembered:
    """What to go by when there was a memory and nobody can read it: a tablet that was usable, no budget.

    Numbers of changes never go back, and the last one is not known: they begin where no other run has been,
    below 2**53, which every JSON can hold.
    """
    return Remembered(
        tether=TetherState.TETHERED.value,
        decision=(zlib.crc32(boot_id.encode()) >> 12 << 32) + at // MS,
        grants=NOTHING_KNOWN,
    )


def _recover(
    decision: int | None,
    rule: str,
    remembered: Remembered | None,
    lent_ns: int,
    records: list[Record],
    at: BootNs,
) -> Remembered | None:
    """Record the lock that a note tells of, unless its record is durable: the crash came after that."""
    before = remembered or Remembered(grants=NOTHING_KNOWN)
    if decision is None:
        decision = before.decision + 1
    if decision <= before.decision:
        return remembered
    records.append(catalogue.LOCK_RECOVERED.make(at, decision=decision, rule=rule))
    if before.tether == TetherState.FOREIGN.value:
        return replace(before, decision=decision)
    # The memory is from before that lock: a usable tablet in it must not ride through, and has done so.
    budget_ns = before.budget_ns
    if budget_ns is not None and before.tether == TetherState.TETHERED.value:
        budget_ns = max(0, budget_ns - lent_ns)
    return replace(before, decision=decision, tether=TetherState.RESTRICTED.value, budget_ns=budget_ns)
