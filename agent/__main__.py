"""ivma-agent: the composition root, the only file that wires drivers, sync and core.

    ivma-agent run [--config FILE]      run until SIGTERM or SIGINT; SIGHUP reads the policy anew
    ivma-agent check-config FILE        say whether a configuration is good

Exit codes: 0 stopped in order, 2 usage, 70 it could not be started, 75 another agent runs, 78 no usable
configuration (sysexits.h: EX_SOFTWARE, EX_TEMPFAIL, EX_CONFIG).
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import os
import random
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent import logs  # before anything that imports structlog
from agent.bay import DockBay, Link
from agent.blackbox import FOLDER, BlackBox
from agent.calibration import Calibration
from agent.can_desk import CanDesk
from agent.clock import boot_now
from agent.config import Can, Config, ConfigError, Dock
from agent.contractors import FILE as CONTRACTORS
from agent.contractors import Contractors
from agent.control import ControlError
from agent.core.catalogue import QUEUE_STALLED, SYNC_TROUBLE
from agent.core.records import Stream
from agent.daemon import Daemon, group_id
from agent.dbus import Bus
from agent.dock_desk import Desk
from agent.dock_verbs import DockVerbs
from agent.effects import NoFleet
from agent.enforcement.base import EnforcementAction, SettingsError, Surroundings
from agent.enforcement.chain import Chain
from agent.fleet_key import FILE as FLEET_KEY
from agent.fleet_key import FleetKey
from agent.grant_desk import GrantDesk
from agent.guard_link import GuardLink
from agent.keeper import Keeper
from agent.life import Docking, Fleet, Guard, Hooks, NoGuard, Parts, Port
from agent.login1 import Login1
from agent.officers import ConsoleOfficers, LogindOfficers, Officers
from agent.pairings import FOLDER as PAIRINGS
from agent.pairings import PairingError, Pairings
from agent.power_actions import LogindPower, PowerActions
from agent.secrecy import no_core_dumps
from agent.wake_alarm import WakeAlarm
from drivers import links, registry
from drivers.dockyard import Dockyard, dock_spec
from drivers.pool import PooledSession
from drivers.ports.can import CanPort, opener
from drivers.ports.power_supply import PowerSupply
from drivers.spec import DockSession, DockSettings, DockSpec
from drivers.tapped import TappedSession
from drivers.vehicles.profile import load as load_profile
from drivers.vehicles.tables import ProfileError
from drivers.vehicles.watch import CompiledProfile
from sync.clock import SystemClock, parse_boot_id
from sync.envelope import NONCE_BYTES
from sync.errors import StoreInUse
from sync.keys import KeyFileError, load_public
from sync.store import Store
from sync.writer import StoreThread

if TYPE_CHECKING:
    from agent.core.types import Observation
    from drivers.ports.udev import Udev, UdevEvent
    from drivers.vehicles.codec import Profile
    from sync.orders import Orders
    from sync.session_types import Report

EX_SOFTWARE, EX_TEMPFAIL, EX_CONFIG = 70, 75, 78
DEFAULT_CONFIG = Path("/etc/ivma/agent.toml")
DAY_S = 86_400


class StartError(Exception):
    """The daemon cannot start; the text says what is wrong and what to do."""


class Builder:
    """Makes the parts that a configuration names; what it does not name is not imported."""

    def __init__(self, config: Config, boot_id: str, hooks: Hooks, trace: BlackBox | None = None) -> None:
        self._settings = config.settings
        self._state_dir = config.state_dir
        storage = config.settings.pairing.storage_key_file
        self._pairings = Pairings(config.state_dir / PAIRINGS, Path(storage) if storage else None)
        try:
            self._boot_id = parse_boot_id(boot_id)
        except ValueError as error:
            raise StartError(f"{config.settings.paths.boot_id}: {error}") from None
        self._hooks = hooks
        self._calibration = Calibration(config.state_dir, hooks.record, boot_now)
        self._system_bus: Bus | None = None
        self._udev: Udev | None = None
        self._trace = trace
        sync = config.settings.sync
        configured = load_public(Path(sync.fleet_key_file)) if sync and sync.fleet_key_file else None
        generation = sync.fleet_key_generation if sync else 0
        self._fleet_key = FleetKey(config.state_dir / FLEET_KEY, configured, generation)

    def parts(self) -> Parts:
        """Everything, in the order in which one part needs another."""
        around = Surroundings(self._hooks.observe, boot_now, self._bus, self._state_dir)
        chain = Chain(self._actions(around), self._hooks.observe, boot_now)
        power = self._power(around)
        bay, docking = self._docks()
        buses = self._buses()
        supplies = PowerSupply(Path(self._settings.paths.power_supply), self._hooks.observe, boot_now)
        queue, fleet, sync_status = self._queue_and_fleet()
        guard = self._guard()
        udev = self._hotplug()
        udev.subscribe("power_supply", lambda _event: supplies.changed())

        def tty_changed(event: UdevEvent) -> None:
            bay.poke(event.devnode if event.action == "remove" else None)

        udev.subscribe("tty", tty_changed)
        ports: list[Port] = [*buses.values(), supplies, udev]
        return Parts(
            queue,
            chain,
            power,
            self._system_bus,
            [bay],
            ports,
            fleet,
            guard,
            {
                "docks": bay.counters,
                "can": lambda: {name: bus.status() for name, bus in buses.items()},
                "enforcement": chain.status,
                "guard": guard.status,
                "power_actions": power.status,
                "sync": sync_status,
                "calibration": self._calibration.status,
            },
            docking,
            self._desk(around),
            {**self._can_desk(buses).verbs(), **self._calibration.verbs()},
            lambda order: self._fleet_key.change(order, self._reseal(queue), self._hooks.record),
        )

    # --- the tablet ---

    def _bus(self) -> Bus:
        if self._system_bus is None:
            self._system_bus = Bus(random.random)
        return self._system_bus

    def _actions(self, around: Surroundings) -> list[EnforcementAction]:
        chosen = self._settings.enforcement
        actions = []
        for name in chosen.actions:
            make: Any = registry.load(registry.ENFORCEMENT, name)
            actions.append(make(chosen.settings.get(name, {}), around))
        return actions

    def _guard(self) -> Guard:
        chosen = self._settings.guard
        if not chosen.enabled:
            return NoGuard()
        return GuardLink(Path(chosen.socket), self._hooks.observe, boot_now)

    def _power(self, around: Surroundings) -> PowerActions:
        if self._settings.enforcement.power == "console":
            from agent.power_console import ConsolePower

            return ConsolePower(around.observe, around.now)
        from drivers.ports.wakeup import Wakeup

        return LogindPower(around, WakeAlarm(), Wakeup(Path(self._settings.paths.sys)))

    def _desk(self, around: Surroundings) -> GrantDesk:
        chosen, device = self._settings.permits, self._settings.device
        officers: Officers = ConsoleOfficers()
        if self._settings.enforcement.power != "console":
            officers = LogindOfficers(Login1(around.bus()))
        papers, codes = None, None
        if chosen.authority_key_files:
            from sync.keys import Verifier
            from sync.papers import Papers

            keys = [Verifier(load_public(Path(file))) for file in chosen.authority_key_files]
            papers = Papers(device.fleet, device.name, keys)
        if chosen.code_key_file is not None:
            from sync.codes import load_code_key
            from sync.papers import ShortCodes

            codes = ShortCodes(load_code_key(Path(chosen.code_key_file)), secrets.token_bytes)
        return GrantDesk(device.name, papers, codes, officers, os.geteuid(), boot_now)

    # --- hardware ---

    def _hotplug(self) -> Udev:
        if self._udev is None:
            from drivers.ports.udev import Udev

            self._udev = Udev()
        return self._udev

    def _docks(self) -> tuple[DockBay, Docking]:
        """The configured docks and the paired ones; a pairing that is bad is recorded and left out."""

        def observe(seen: Observation) -> None:
            self._hooks.observe(self._calibration.applied(seen))

        bay = DockBay(lambda docks: self._link(docks, bay.observed), observe)
        for dock in self._settings.dock:
            try:
                bay.put_in(dock)
            except ValueError as error:
                raise StartError(f"dock {dock.name}: {error}") from None
        configured = {name: berth.dock.serial for name, berth in bay.berths.items()}
        yard = Dockyard(self._hotplug, boot_now, self._tapped)
        desk = Desk(bay, self._pairings, yard, configured, self._hooks.record, boot_now)
        return bay, DockVerbs(desk, Path(self._settings.paths.runtime_dir), self._contractors())

    def _contractors(self) -> Contractors:
        chosen, device = self._settings.contractors, self._settings.device
        read = None
        if chosen.key_files:
            from sync.contractors import ContractorTokens
            from sync.keys import Verifier

            keys = [Verifier(load_public(Path(file))) for file in chosen.key_files]
            read = ContractorTokens(device.fleet, device.name, keys).read
        file = self._state_dir / CONTRACTORS
        group = group_id(chosen.group)
        return Contractors(file, self._boot_id.hex(), read, group, self._hooks.record, boot_now)

    def _link(self, docks: list[Dock], observe: Callable[[Observation], None]) -> Link:
        """The wire of docks that are found in the same way; mostly one."""
        first = docks[0]
        sessions = [(dock.serial, self._session(dock)) for dock in docks]
        session = sessions[0][1] if len(sessions) == 1 else PooledSession(sessions)
        where = links.Where(first.port, first.match, first.baud, first.options)
        return links.make(dock_spec(first.model).port, session, where, self._hotplug, observe, boot_now)

    def _session(self, dock: Dock) -> DockSession:
        spec = dock_spec(dock.model)
        key = self._pairings.key_of(dock) if dock.key_file else b""
        settings = DockSettings(dock.name, dock.serial, dock.vehicle_id, key, dock.link_version, dock.options)
        return self._tapped(spec, spec.build(settings, secrets.token_bytes))

    def _tapped(self, spec: DockSpec, session: DockSession) -> DockSession:
        if self._trace is None or spec.scrub is None:
            return session
        return TappedSession(session, self._trace.tap(session.name), spec.scrub)

    def _buses(self) -> dict[str, CanPort]:
        profile = self._profile()
        if profile is None or not profile.frames:  # a vehicle that is judged by wire and voltage
            return {}
        return {can.name: self._can(can, profile) for can in self._settings.can}

    def _profile(self) -> Profile | None:
        name = self._settings.vehicle.profile
        if name is None:
            return None
        if "/" in name:
            return load_profile(Path(name))
        offered: Any = registry.load(registry.VEHICLES, name)
        profile: Profile = offered()
        return profile

    def _can(self, can: Can, profile: Profile) -> CanPort:
        compiled = CompiledProfile(profile, can.name)
        open_bus = opener(can.interface, can.channel, compiled)
        return CanPort(can.name, open_bus, compiled, self._hooks.observe, boot_now, bitrate=can.bitrate)

    def _can_desk(self, buses: Mapping[str, CanPort]) -> CanDesk:
        listened = {name: bus.filters for name, bus in buses.items()}
        fd = {name: bus.fd for name, bus in buses.items()}
        return CanDesk(self._settings.can, listened, fd, self._hooks.record, boot_now)

    # --- the queue and its way to the fleet ---

    def _queue_and_fleet(self) -> tuple[StoreThread, Fleet, Callable[[], object]]:
        sync = self._settings.sync
        if sync is None:
            return self._queue(lambda _heads: None), NoFleet(), lambda: None
        committed: list[Callable[[Mapping[Stream, int]], None]] = []
        queue = self._queue(lambda heads: committed[0](heads))
        from sync.keys import Signer, Verifier, load_private
        from sync.mqtt_types import Endpoint, Tls
        from sync.topics import Topics
        from sync.uplink import Uplink, UplinkConfig

        device = self._settings.device
        orders = self._orders()
        tls = None
        if sync.tls is not None:
            tls = Tls(Path(sync.tls.ca_file), Path(sync.tls.cert_file), Path(sync.tls.key_file))
        uplink = Uplink(
            UplinkConfig(
                Topics(device.fleet, device.name),
                self._boot_id,
                Endpoint(sync.host, sync.port, device.name, tls, sync.keepalive_s),
                nonce=orders.nonce if orders else b"",
            ),
            queue,
            Signer(load_private(Path(sync.signing_key_file))),
            Verifier(load_public(Path(sync.depot_key_file))),
            boot_now,
            random.random,
            self._trouble,
            on_contact=self._hooks.contact,
            on_generation=self._hooks.generation,
            on_order=lambda what, payload: self._ordered(orders, what, payload),
        )
        committed.append(uplink.notify)
        return queue, uplink, uplink.status

    def _orders(self) -> Orders | None:
        """Reads what the control room sends; None where nobody's word counts."""
        chosen, device = self._settings.orders, self._settings.device
        from sync.keys import Verifier
        from sync.orders import OrderKeys, Orders

        files = (chosen.command_key_files, chosen.configuration_key_files, chosen.sealing_key_files)
        if not any(files):
            return None
        keys = OrderKeys(*([Verifier(load_public(Path(file))) for file in each] for each in files))
        return Orders(
            device.fleet, device.name, self._boot_id, secrets.token_bytes(NONCE_BYTES), keys, boot_now
        )

    def _ordered(self, orders: Orders | None, what: str, payload: bytes) -> None:
        order = orders.read(what, payload) if orders is not None else None
        if order is not None:
            self._hooks.ordered(order)

    def _reseal(self, queue: StoreThread) -> Callable[[bytes, int], object]:
        from sync.sealing import Sealer

        return lambda key, generation: queue.reseal(Sealer(key, generation, secrets.token_bytes))

    def _queue(self, on_commit: Callable[[Mapping[Stream, int]], None]) -> StoreThread:
        store = self._settings.store
        quotas = {stream: getattr(store.quotas, stream.value) for stream in Stream}

        def open_store() -> Store:
            sealer = None
            if self._fleet_key.key is not None:
                from sync.sealing import Sealer

                sealer = Sealer(self._fleet_key.key, self._fleet_key.generation, secrets.token_bytes)
            return Store(
                self._state_dir / "queue.db",
                self._settings.device.name,
                self._boot_id,
                SystemClock(),
                secrets.token_bytes,
                sealer=sealer,
                quotas=quotas,
                keep_acked_s=store.retain_days * DAY_S,
            )

        return StoreThread(
            open_store,
            boot_now,
            on_health=self._hooks.store_health,
            on_renewed=self._hooks.store_renewed,
            on_recalled=self._hooks.store_recalled,
            on_commit=on_commit,
            on_stall=lambda since, lasted: self._hooks.record(
                QUEUE_STALLED.make(since, lasted_ms=lasted // 1_000_000)
            ),
            telemetry_group_s=store.telemetry_commit_s,
        )

    def _trouble(self, report: Report) -> None:
        self._hooks.record(
            SYNC_TROUBLE.make(
                boot_now(), stream=report.where, trouble=report.trouble.value, detail=report.detail
            )
        )


# --- the command ----------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    version = importlib.metadata.version("ivma-agent")
    parser = argparse.ArgumentParser(prog="ivma-agent", description="The on-vehicle tablet agent.")
    parser.add_argument("--version", action="version", version=version)
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", help="run the daemon")
    run.add_argument("--config", type=Path, default=DEFAULT_CONFIG, help=f"default {DEFAULT_CONFIG}")
    checking = verbs.add_parser("check-config", help="say whether a configuration file is good")
    checking.add_argument("file", type=Path)
    checking.add_argument(
        "--files", action="store_true",
        help="read the keys and certificates that it names, too: as the agent's user, on the tablet",
    )  # fmt: skip
    arguments = parser.parse_args(argv)
    if arguments.verb == "check-config":
        from agent.compose_check import check

        return check(arguments.file, files=arguments.files)
    return _run(arguments.config, version)


def _run(file: Path, version: str) -> int:
    no_core_dumps()
    # systemd names the state folder; without it the copy lies beside the file.
    copies = Path(os.environ.get("STATE_DIRECTORY", str(file.parent)))
    keeper = Keeper(file, copies / f"{file.name}.last-good")
    try:
        config, problem = keeper.start()
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return EX_CONFIG
    logs.configure(config.settings.logging.level, stream=sys.stderr, environ=os.environ)
    keeper.complain()
    try:
        again = asyncio.run(_serve(config, keeper, version, problem))
    except StoreInUse as error:
        sys.stderr.write(f"{error}\n")
        return EX_TEMPFAIL
    except (
        ControlError,
        KeyFileError,
        OSError,
        PairingError,
        ProfileError,
        SettingsError,
        StartError,
        registry.NotRegisteredError,
    ) as error:
        sys.stderr.write(f"ivma-agent cannot start: {error}\n")
        if keeper.desired.kept.trial is None:
            return EX_SOFTWARE
        keeper.desired.roll_back(f"the agent cannot start: {error}")
        again = True
    if again:
        _anew()
    return 0


def _anew() -> None:
    """This program again, in this process: whoever supervises it sees no end, and nothing is left over."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - our own command line


async def _serve(config: Config, keeper: Keeper, version: str, problem: str | None) -> bool:
    wanted = config.settings.trace
    trace = BlackBox(config.state_dir / FOLDER, wanted.size) if wanted.enabled else None

    def build(config: Config, boot_id: str, hooks: Hooks) -> Parts:
        return Builder(config, boot_id, hooks, trace).parts()

    return await Daemon(config, keeper, version, build, trace).run(problem)


if __name__ == "__main__":
    sys.exit(main())
