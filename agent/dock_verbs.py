"""`ivmactl dock` inside the daemon: show, pair, unpair and test. No answer holds a key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from agent.bay import Berth
from agent.config import Dock
from agent.config_docks import beside_keys
from agent.contractors import Contractors
from agent.control import Caller, Refusal, Verb
from agent.core.catalogue import DOCK_TESTED
from agent.core.policy import HintUse, Policy
from agent.core.types import MS, SECOND
from agent.dock_desk import Desk, teller
from agent.dock_test import DockTest, as_json
from agent.pairing import Pairer
from agent.pairing_wish import wish
from agent.unpairing import Unpairer

WITHIN_S = 90.0  # ours: the longest pairing, with every question going through all its tries, and a test
HERE_NS = 60 * SECOND  # a proof tells for so long in which dock the tablet is; the default of [policy.tether]


class DockVerbs:
    """Implements ``agent.life.Docking``."""

    def __init__(self, desk: Desk, runtime_dir: Path, contractors: Contractors) -> None:
        self._contractors = contractors
        self._desk = desk
        self._bay = desk.bay
        self._pairings = desk.pairings
        self._pairer = Pairer(desk)
        self._unpairer = Unpairer(desk)
        self._runtime_dir = runtime_dir
        self._configured = desk.configured
        self._record = desk.record
        self._now = desk.now
        self._percent: Callable[[], int | None] = lambda: None
        self._pairer.take_up()
        self.recover = self._pairer.recover
        self.reload = desk.reload

    def attach(self, percent: Callable[[], int | None], policy: Callable[[], Policy]) -> None:
        self._percent = percent
        self._desk.lines_hold = lambda: policy().tether.hint_lines is HintUse.ALLOW

    def in_force(self, policy: Policy) -> tuple[Policy, list[str]]:
        paired = {dock.name for dock in self._pairings.good()[0]}
        return beside_keys(policy, paired)

    def verbs(self) -> dict[str, Verb]:
        return {
            "dock.show": Verb(lambda _args: self.show()),
            # Not for mere readers either: each asks ``contractors``, who may without root.
            "dock.pair": Verb(self._pair, within_s=WITHIN_S, with_caller=True),
            "dock.unpair": Verb(self._unpair, within_s=WITHIN_S, with_caller=True),
            "dock.test": Verb(self._test, within_s=WITHIN_S, with_caller=True),
        }

    # --- show ---

    def show(self) -> dict[str, object]:
        pending, unreadable = self._pairings.pending()
        problems = [*self._pairings.good()[1], *unreadable]
        docks = [self._shown(berth) for berth in self._bay.berths.values()]
        here = [dock["dock"] for dock in docks if dock["here"]]
        return {
            "docks": docks,
            "in": here[0] if len(here) == 1 else None,
            "pending": [{"dock": dock.name, "serial": dock.serial} for dock in pending],
            "problems": problems,
        }

    def _shown(self, berth: Berth) -> dict[str, object]:
        dock, now = berth.dock, self._now()
        ident, proof_at = berth.ident, berth.proof_at
        counters = berth.link.counters().values
        return {
            "dock": dock.name,
            "here": berth.proven and proof_at is not None and now < proof_at + HERE_NS,
            "serial": dock.serial,
            "vehicle_id": dock.vehicle_id,
            "source": "configuration" if dock.name in self._configured else "paired",
            "port": berth.link.path,
            "found_by": dict(dock.match) or dock.port,
            "driver": dock.model,
            "model": ident.model if ident else None,
            "firmware": ".".join(map(str, ident.firmware)) if ident else None,
            "says_serial": ident.serial if ident else None,
            "link_version": dock.link_version,
            "proof_ms_ago": None if proof_at is None else (now - proof_at) // MS,
            "foreign_ms_ago": None if berth.foreign_at is None else (now - berth.foreign_at) // MS,
            "round_trip": {
                "p50_us": counters.get("round_trip_p50_us"),
                "max_us": counters.get("round_trip_max_us"),
            },
            "errors": {
                name: number for name, number in counters.items() if not name.startswith("round_trip")
            },
        }

    # --- pair, unpair ---

    async def _pair(self, args: Mapping[str, Any], caller: Caller) -> object:
        self._contractors.allow("pair", args.get("token"), caller)
        trusted = self._contractors.trusted(caller.peer)
        if not trusted and "handover" in args:
            raise Refusal(
                "forbidden", "only root hands over a key", "leave --key-file out: a new key is made"
            )
        # A port that a contractor made could have a dock of software behind it.
        return await self._pairer.pair(wish(args, self._runtime_dir), caller, listed=not trusted)

    async def _unpair(self, args: Mapping[str, Any], caller: Caller) -> object:
        forget = args.get("forget", False)
        if not isinstance(forget, bool):
            raise Refusal("bad_request", "forget: expected true or false")
        self._contractors.allow("unpair", args.get("token"), caller)
        return await self._unpairer.unpair(self._named(args), forget, caller)

    # --- test ---

    async def _test(self, args: Mapping[str, Any], caller: Caller) -> object:
        self._contractors.allow("test", args.get("token"), caller)
        name = self._named(args)
        berth = self._bay.berths.get(name)
        if berth is None:
            raise Refusal(
                "unknown_dock", f"no dock {name!r}", f"known: {', '.join(self._bay.berths) or 'none'}"
            )
        tell = teller(caller)
        async with self._desk.alone(tell):
            findings = await DockTest(self._bay, berth, self._percent(), tell).run()
        failed = [f"{each.what}: {each.text}" for each in findings if each.ok is False]
        left_out = [f"{each.what}: {each.text}" for each in findings if each.ok is None]
        shown = self._shown(berth)
        round_trip_us = berth.link.counters().values.get("round_trip_p50_us")
        self._record(
            DOCK_TESTED.make(
                self._now(), dock=name, serial=berth.dock.serial, ok=not failed, failed="; ".join(failed),
                left_out="; ".join(left_out), round_trip_us=round_trip_us, uid=caller.peer.uid,
            )
        )  # fmt: skip
        return {
            "dock": name,
            "serial": berth.dock.serial,
            "ok": not failed,
            "findings": as_json(findings),
            "round_trip": shown["round_trip"],
            "errors": shown["errors"],
        }

    def _named(self, args: Mapping[str, Any]) -> str:
        """The dock that is meant; without a name the only one there is."""
        name = args.get("dock")
        known: list[Dock] = [berth.dock for berth in self._bay.berths.values()]
        if name is None and len(known) == 1:
            return known[0].name
        if not isinstance(name, str):
            names = ", ".join(dock.name for dock in known) or "none"
            raise Refusal("bad_request", "dock: which one?", f"known: {names}")
        return name
