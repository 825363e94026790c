"""``ivma-sim demo | run | list``: play a scenario on a rig of real processes, and judge it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import shutil
import signal
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulator import broker, private_bus
from simulator.broker import BrokerError
from simulator.compose_accounts import Accounts
from simulator.compose_bench import Options, Rig, boot_now
from simulator.compose_narrator import Narrator
from simulator.compose_stage import Stage
from simulator.play import Verdict, play
from simulator.scenario import Scenario, ScenarioError, find, load, names
from simulator.timeline import Timeline
from simulator.virtual.scenes import SCENES

LIMIT_S = 300.0  # ours: what hangs ends by then; a demo takes some 50 s, more only on an overloaded machine
FAILED, USAGE, INTERRUPTED = 1, 2, 130  # exit statuses; 0 is: everything held


def add_parser(sub: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    demo = sub.add_parser("demo", help="a tablet lives through a shift, with real processes")
    demo.set_defaults(func=_run, scenario="shift")
    run = sub.add_parser("run", help="play a scenario, by its name or from a file")
    run.add_argument("scenario", help="a name that `list` shows, or a path that ends with .toml")
    run.set_defaults(func=_run)
    for parser in (demo, run):
        parser.add_argument(
            "--broker", choices=("mosquitto", "amqtt"), help="default: mosquitto if installed"
        )
        parser.add_argument(
            "--no-dbus", action="store_true", help="console actions in place of logind's double"
        )
        parser.add_argument("--seed", type=int, default=1, help="of everything that is random [1]")
        parser.add_argument("--keep", action="store_true", help="keep the folder with logs and databases")
    sub.add_parser("list", help="the scenarios there are").set_defaults(func=_list)


@dataclass(frozen=True, slots=True)
class Result:
    """What a play came to."""

    scenario: str
    accounts: Accounts
    verdicts: Sequence[Verdict]
    undock_to_lock_ms: Sequence[float]
    undocked: int
    can_frames_transmitted: int

    @property
    def holds(self) -> bool:
        return (
            self.accounts.hold
            and all(verdict.held for verdict in self.verdicts)
            and len(self.undock_to_lock_ms) == self.undocked
            and self.can_frames_transmitted == 0
        )

    def summary(self) -> dict[str, Any]:
        """The line of JSON that ends the output."""
        delays = self.undock_to_lock_ms
        return {
            "produced": self.accounts.produced,
            "delivered": self.accounts.delivered,
            "lost": self.accounts.lost,
            "unexpected": self.accounts.unexpected,
            "duplicates_dropped": self.accounts.duplicates_dropped,
            "chains": self.accounts.chains,
            "undock_to_lock_ms": {
                "p50": round(statistics.median(delays), 2) if delays else None,
                "max": round(max(delays), 2) if delays else None,
            },
            "can_frames_transmitted": self.can_frames_transmitted,
            "scenario": self.scenario,
        }


def _list(_arguments: argparse.Namespace) -> int:
    for name in names():
        sys.stdout.write(f"{name:<24} {load(find(name)).about}\n")
    for name, scene in SCENES.items():  # lived in virtual time
        sys.stdout.write(f"{'scene ' + name:<24} {scene.words}\n")
    return 0


def _run(arguments: argparse.Namespace) -> int:
    try:
        scenario = load(find(arguments.scenario))
    except ScenarioError as error:
        sys.stderr.write(f"ivma-sim: {error}\n")
        return USAGE
    options = Options(
        broker=arguments.broker or ("mosquitto" if broker.installed() else "amqtt"),
        dbus=private_bus.installed() and not arguments.no_dbus,
        seed=arguments.seed,
        profile=scenario.profile,
        policy=scenario.policy,
    )
    folder = Path(tempfile.mkdtemp(prefix="ivma-sim-"))
    status, last_line = FAILED, ""
    try:
        result = asyncio.run(_play(scenario, options, folder))
        status, last_line = 0 if result.holds else FAILED, json.dumps(result.summary()) + "\n"
    except KeyboardInterrupt:
        status = INTERRUPTED
    except (BrokerError, RuntimeError, OSError) as error:
        sys.stderr.write(f"ivma-sim: {error}\n")
    finally:
        if status == 0 and not arguments.keep:
            shutil.rmtree(folder)
        else:
            sys.stderr.write(f"ivma-sim: logs and databases are in {folder}\n")
    sys.stdout.write(last_line)
    return status


async def _play(scenario: Scenario, options: Options, folder: Path) -> Result:
    with Timeline(scenario, boot_now) as timeline, _terminable():
        timeline.heading(
            {
                "broker": _broker(options),
                "sessions": "logind's double on a private D-Bus"
                if options.dbus
                else "console actions, no D-Bus",
                "seed": str(options.seed),
            }
        )
        async with _time_limit(), Rig(folder, options) as rig:
            rig.watchers.append(Narrator(rig, timeline).watch)
            verdicts = await play(scenario, Stage(rig), timeline, boot_now)
            accounts = await rig.settle()
            result = Result(
                scenario.name,
                accounts,
                verdicts,
                rig.undock_to_lock_ms(),
                len(rig.undocked_at),
                rig.can_frames_transmitted,
            )
        timeline.table("What came of it", _rows(result))
    return result


def _broker(options: Options) -> str:
    if options.broker == "mosquitto":
        return "Mosquitto"
    return "amqtt, embedded" if broker.installed() else "amqtt, embedded: Mosquitto is not installed"


def _rows(result: Result) -> dict[str, str]:
    accounts, summary = result.accounts, result.summary()
    held = sum(verdict.held for verdict in result.verdicts)
    delays = summary["undock_to_lock_ms"]
    return {
        "expectations": f"{held} of {len(result.verdicts)} held",
        "records": f"{accounts.produced} committed on the tablet, {accounts.delivered} at the depot",
        "lost, unexpected": f"{accounts.lost}, {accounts.unexpected}",
        "duplicates dropped": str(accounts.duplicates_dropped),
        "chains": accounts.chains,
        "undock to lock": f"p50 {delays['p50']} ms, longest {delays['max']} ms, of {result.undocked}",
        "CAN frames sent by the agent": str(result.can_frames_transmitted),
    }


@contextlib.asynccontextmanager
async def _time_limit() -> AsyncIterator[None]:
    limit = asyncio.timeout(LIMIT_S)
    try:
        async with limit:
            yield
    except TimeoutError:
        if limit.expired():
            raise TimeoutError(f"the play was not over after {LIMIT_S:g} s") from None
        raise


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends the play as Ctrl-C does: in order."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, signal.raise_signal, signal.SIGINT)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
