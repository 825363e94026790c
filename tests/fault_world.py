"""A world that is nothing but its knobs, for tests of faults: it remembers which were turned, and to what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agent.core.types import BootNs
from simulator.faults.knobs import Behind, Step, Wish
from simulator.virtual.agenda import Agenda


class Part:
    """Attributes are as in a healthy world until they are set; every turn of a knob is told to ``turned``."""

    def __init__(self, name: str, turned: Callable[[str], None]) -> None:
        self.__dict__.update(name=name, turned=turned)

    def __setattr__(self, knob: str, value: Any) -> None:
        self.turned(f"{self.name}.{knob}")
        if value == getattr(type(self), knob):
            self.__dict__.pop(knob, None)
        else:
            self.__dict__[knob] = value

    name: str
    turned: Callable[[str], None]

    def off_rest(self) -> dict[str, Any]:
        return {
            f"{self.name}.{knob}": value
            for knob, value in vars(self).items()
            if knob not in ("name", "turned")
        }


class DockWire(Part):
    lose_permille = flip_permille = split_bytes = duplicate_permille = replay_permille = 0
    merge_ns = delay_ns = change_permille = 0
    bystander = False
    version: int | None = None
    plugged: Behind | None = None

    def plug(self, behind: Behind | None, after_bytes: int = 0) -> None:
        self.plugged = behind


class CanWire(Part):
    bus_off = silent = frozen = False
    foreign_period_ns = 0


class Wiring(Part):
    sag_mv = 0
    kl15: bool | None = None


class Tablet(Part):
    machine: str | None = None
    guard_down = False
    wish: Wish | None = None

    def officer(self, wish: Wish | None) -> None:
        self.wish = wish

    def cut_power(self, after: int, of: Step) -> None:
        self.machine = f"cut after {after} {of.value}"

    def kill_agent(self, after: int, of: Step) -> None:
        self.machine = f"kill after {after} {of.value}"

    def spare_agent(self) -> None:
        self.machine = None

    def shut_down(self) -> None:
        self.machine = "off"

    def stop_agent(self) -> None:
        self.machine = "stopped"

    def go_on_agent(self) -> None:
        self.machine = None

    def suspend(self) -> None:
        self.machine = "asleep"

    def switch_on(self) -> None:
        self.machine = None


class Clock(Part):
    wall = 0  # ns off

    def step_wall(self, by_ns: int) -> None:
        self.wall += by_ns


class Session(Part):
    ignores_lock = False


class Disk(Part):
    full = read_only = io_errors = torn = False
    slow_ns = 0


class Network(Part):
    cut = stall_up = stall_down = False
    delay_ns = 0
    drops = 0

    def drop(self) -> None:
        self.drops += 1


class Broker(Part):
    lose_puback_permille = duplicate_permille = 0
    run: str | None = None

    def stop(self, *, keep: bool) -> None:
        self.run = "kept" if keep else "lost"

    def start(self) -> None:
        self.run = None


class Depot(Part):
    silent = False
    lose_ack_permille = 0
    backup: str | None = None

    def back_up(self) -> None:
        self.backup = "a copy"

    def restore(self) -> None:
        self.backup = None


class KnobWorld:
    """Conforms to ``simulator.faults.schedule.Stage``."""

    def __init__(self) -> None:
        self.turned: list[str] = []
        turned = self.turned.append
        self.agenda = Agenda()
        self.dockwire = DockWire("dockwire", turned)
        self.canwire = CanWire("canwire", turned)
        self.wiring = Wiring("wiring", turned)
        self.tablet = Tablet("tablet", turned)
        self.clock = Clock("clock", turned)
        self.session = Session("session", turned)
        self.disk = Disk("disk", turned)
        self.network = Network("network", turned)
        self.broker = Broker("broker", turned)
        self.depot = Depot("depot", turned)

    def at(self, at: BootNs, call: Callable[[], None]) -> object:
        return self.agenda.at(at, call)

    def off_rest(self) -> dict[str, Any]:
        """Every knob that is not at rest; ``Network.drops`` counts and has none."""
        found: dict[str, Any] = {}
        for part in vars(self).values():
            if isinstance(part, Part):
                found |= part.off_rest()
        found.pop("network.drops", None)
        return found
