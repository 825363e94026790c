"""`ivma-sim replay TRACE`: a black box once more through core and dock session. Composition root."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent import trace_format
from agent.config import load
from agent.core.types import BootNs
from agent.replay import Replay, replay
from agent.trace_format import Damage, Entry, Gap, Head, Step, Wire, read_path
from drivers import registry
from drivers.spec import DockSession, DockSettings, DockSpec
from drivers.tapped import call
from simulator.virtual.plan import is_failure

SHOWN = 10  # differences that are printed, without --all; ours


def add_parser(sub: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = sub.add_parser(
        "replay", help="replay a trace of the agent, or a failure that a soak found",
        description="A trace: exit code 0 for the same decisions, byte for byte, 1 for a difference. "
        "A failure: a log of what led to it; 1 if something is violated again, 0 if not. "
        "2: not a usable file.",
    )  # fmt: skip
    parser.add_argument(
        "trace",
        type=Path,
        metavar="TRACE|FAILURE",
        help="a file of `ivmactl trace export`, the agent's trace folder, or a file of `ivma-sim soak`",
    )
    parser.add_argument(
        "--config", type=Path, metavar="AGENT.TOML",
        help="the agent's configuration with its docks and their keys: wire bytes are replayed too",
    )  # fmt: skip
    parser.add_argument(
        "--all",
        action="store_true",
        help=f"print every difference, not the first {SHOWN}; of a failure, everything that happens",
    )
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Replay; print what differs, and one line for decisions and for each dock."""
    if is_failure(args.trace):
        from simulator.compose_failure import replay_failure  # it imports the whole world

        return replay_failure(args.trace, everything=args.all)
    try:
        docks = {} if args.config is None else of_config(args.config)
        entries = list(read_path(args.trace))
    except (
        OSError,
        ValueError,
        registry.NotRegisteredError,
    ) as error:  # ConfigError, TraceError: ValueErrors
        sys.stderr.write(f"ivma-sim replay: {error}\n")
        return 2
    outcome = replay(entries)
    if not outcome.steps:
        why = outcome.problems[0] if outcome.problems else "it holds no step after the start of a run"
        sys.stderr.write(f"ivma-sim replay: {args.trace}: nothing to replay: {why}\n")
        return 2
    wires = list(replay_wires(entries, docks))
    for line in report(outcome, wires, None if args.all else SHOWN):
        sys.stdout.write(f"{line}\n")
    return 1 if outcome.differences or any(wire.difference for wire in wires) else 0


def report(outcome: Replay, wires: Sequence[WireReplay], shown: int | None) -> Iterator[str]:
    """Differences, then one line for decisions and for each dock's wire."""
    for difference in outcome.differences[:shown]:
        yield from difference.text()
    more = len(outcome.differences) - len(outcome.differences[:shown])
    if more:
        yield f"{more} more steps differ; --all shows them"
    for problem in dict.fromkeys(outcome.problems):
        yield f"left out: {problem}"
    verdict = f"{len(outcome.differences)} steps differ" if outcome.differences else "the same"
    yield (
        f"decisions: {verdict}; {outcome.steps} steps of {outcome.runs} runs replayed, "
        f"{outcome.skipped} left out, {outcome.gaps} gaps"
    )
    for wire in wires:
        if wire.difference:
            yield f"wire of {wire.dock}: {wire.difference}"
        yield (
            f"wire of {wire.dock}: {'it differs' if wire.difference else 'the same'}; {wire.calls} calls, "
            f"{wire.sent} bytes sent, {wire.seen} observations"
        )


# --- the wire -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Dock:
    """A dock as it can be replayed: its model, its pairing, and what its sessions drew by chance."""

    spec: DockSpec
    settings: DockSettings
    entropy: Callable[[Iterable[bytes]], Callable[[int], bytes]]

    @classmethod
    def of(cls, model: str, settings: DockSettings) -> Dock:
        """Raises NotRegisteredError: nobody offers the model, or its simulation cannot be imported."""
        spec = registry.load(registry.DOCKS, model)
        if not isinstance(spec, DockSpec):
            raise registry.NotRegisteredError(f"`{model}` of {registry.DOCKS} is no DockSpec")
        return cls(spec, settings, _entropy_of(model))


def _entropy_of(model: str) -> Callable[[Iterable[bytes]], Callable[[int], bytes]]:
    """What says what a model's sessions drew; a model without such a module draws nothing."""
    name = f"simulator.docks.{model.replace('-', '_')}_draws"
    try:
        draws = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise registry.NotRegisteredError(f"dock model {model} cannot be replayed: {error}") from error
        return lambda _sent: bytes
    entropy: Callable[[Iterable[bytes]], Callable[[int], bytes]] = draws.entropy
    return entropy


def of_config(path: Path) -> dict[str, Dock]:
    """The docks of an agent's configuration, by name.

    Raises:
        ConfigError, NotRegisteredError, OSError: as they are read.
    """
    docks = {}
    for dock in load(path).settings.dock:
        key = bytes.fromhex(Path(dock.key_file).read_text().strip()) if dock.key_file else b""
        settings = DockSettings(dock.name, dock.serial, dock.vehicle_id, key, dock.link_version, dock.options)
        docks[dock.name] = Dock.of(dock.model, settings)
    return docks


@dataclass(slots=True)
class WireReplay:
    """One run of one dock's session: what was replayed, and the first thing that differed, if any."""

    dock: str
    calls: int = 0
    sent: int = 0
    seen: int = 0
    difference: str = ""


@dataclass(slots=True)
class _Run:
    """What a trace holds of one dock from the start of a run to the first gap."""

    wires: list[Wire] = field(default_factory=list)
    observations: list[bytes] = field(default_factory=list)


def replay_wires(entries: Iterable[Entry | Damage], docks: Mapping[str, Dock]) -> Iterator[WireReplay]:
    """Replay every run's wire of every dock that is given; nothing for a dock without wire bytes."""
    for runs in _runs(entries):
        for name, found in runs.items():
            if name in docks and found.wires:
                yield _replay_run(found, docks[name])


def _runs(entries: Iterable[Entry | Damage]) -> Iterator[dict[str, _Run]]:
    runs: dict[str, _Run] | None = None
    for entry in entries:
        match entry:
            case Head(state=None):
                yield runs or {}
                runs = {}
            case Gap() | Damage():
                yield runs or {}
                runs = None  # a session cannot be taken up in its middle
            case Wire() if runs is not None:
                runs.setdefault(entry.dock, _Run()).wires.append(entry)
            case Step(observation={"dock": str(dock)}) if runs is not None:
                runs.setdefault(dock, _Run()).observations.append(_as_now(entry))
            case _:
                pass
    yield runs or {}


def _as_now(step: Step) -> bytes:
    """A recorded observation as this version writes it: a field that it did not have has its default."""
    try:
        return trace_format.encode((step.kind, trace_format.observation(step)))
    except trace_format.TraceError:
        return trace_format.encode((step.kind, step.observation))


def _replay_run(run: _Run, dock: Dock) -> WireReplay:
    outcome = WireReplay(dock.settings.name)
    session = dock.spec.build(
        dock.settings, dock.entropy(_bytes(w.what) for w in run.wires if w.act == "out")
    )
    seen: list[bytes] = []
    wires = iter([*run.wires, None])
    wire = next(wires)
    while wire is not None:
        if wire.act == "out":
            outcome.difference = f"at {wire.at} ns {len(_bytes(wire.what))} bytes sent that no call led to"
            return outcome
        try:
            seen += _call(session, wire)
        except ValueError as error:
            outcome.difference = str(error)
            return outcome
        outcome.calls += 1
        sent, made, after = session.outgoing(), wire, next(wires)
        recorded = b""
        if after is not None and after.act == "out":
            recorded, after = _bytes(after.what), next(wires)
        outcome.sent += len(recorded)
        if sent != recorded and not (after is None and not recorded):  # the last may have been cut off
            outcome.difference = (
                f"after call {outcome.calls}, {made.act} at {made.at} ns\n"
                f"    recorded: {recorded.hex(' ')}\n    replayed: {sent.hex(' ')}"
            )
            return outcome
        wire = after
    outcome.seen = len(run.observations)
    for number, (one, other) in enumerate(zip(run.observations, seen, strict=False), 1):
        if one != other:
            texts = (str(trace_format.decode(each)) for each in (one, other))
            outcome.difference = (
                f"observation {number}\n    recorded: {next(texts)}\n    replayed: {next(texts)}"
            )
            return outcome
    if len(run.observations) > len(seen):
        outcome.difference = f"{len(run.observations)} observations, replayed {len(seen)}"
    return outcome


def _call(session: DockSession, wire: Wire) -> list[bytes]:
    seen = call(session, wire.act, BootNs(wire.at), wire.what)
    return [trace_format.encode((type(each).__name__, each)) for each in seen]


def _bytes(what: Any) -> bytes:
    return what if isinstance(what, bytes) else b""
