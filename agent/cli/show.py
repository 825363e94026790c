"""`ivmactl status | why | version`: what is, and why it is so."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from agent.cli import text
from agent.cli.client import NOT_WELL, OK, Client

TOPICS = ("tether", "ignition", "power")
# Verdicts that leave the thing asked about not well; a conflict between sources does so too.
_NOT_WELL = frozenset({"unknown", "restricted", "foreign"})


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    status = commands.add_parser(
        "status", parents=[common], help="state of tether, ignition, power and queue"
    )
    status.set_defaults(run=_status)
    why = commands.add_parser(
        "why", parents=[common], help="the rule that decided, and every source it looked at"
    )
    why.add_argument("topic", nargs="?", choices=TOPICS, help="all three without it")
    why.set_defaults(run=_why)
    version = commands.add_parser("version", parents=[common], help="version of the agent that runs")
    version.set_defaults(run=_version)


def _status(client: Client, options: argparse.Namespace) -> int:
    result: dict[str, Any] = client.ask("status", options.reason, {})
    problems = _problems(result)
    if options.json:
        text.show_json(result)
    else:
        text.table(("what", "state", "details"), _rows(result))
        for problem in problems:
            print(f"problem: {problem}")
    return NOT_WELL if problems else OK


def _problems(status: Mapping[str, Any]) -> list[str]:
    problems = []
    if status["tether"]["usable"] is not True:
        problems.append("the tablet is locked; `ivmactl why tether` says why")
    if status["tether"].get("conflicts"):
        problems.append("a source without a key contradicts the dock; see `ivmactl why tether`")
    if status["ignition"]["conflicts"]:
        problems.append("sources of the ignition contradict each other; see `ivmactl why ignition`")
    for name, action in status.get("enforcement", {}).get("actions", {}).items():
        if action.get("ok") is False:
            problems.append(f"{name} could not verify the lock: {text.word(action.get('detail'))}")
    if (guard := status.get("guard")) is not None and not guard["present"]:
        problems.append("the guard is not there: nobody locks if the agent dies; look at ivma-guard.service")
    if status.get("store", {}).get("ok") is False:
        problems.append(f"records wait in memory: {text.word(status['store'].get('detail'))}")
    return problems


def _rows(status: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    identity = {name: value for name, value in status.items() if isinstance(value, str)}
    rows = [("agent", "running", text.details(identity))]
    for name, part in status.items():
        if isinstance(part, Mapping):
            shown = dict(_shown(key, value) for key, value in part.items() if key != "state")
            rows.append((name.replace("_", " "), text.word(part.get("state")), text.details(shown)))
    return rows


def _shown(key: str, value: Any) -> tuple[str, object]:
    """A member of a part as people read it: its unit moves from the name to the value."""
    name = key.replace("_", " ")
    if isinstance(value, Mapping) and value.keys() == {"value", "age_ms"}:
        age = value["age_ms"]
        return name, None if age is None else f"{text.word(value['value'])} ({text.duration(age)} ago)"
    if value is None:
        return name, None
    if key.endswith("_ms_ago"):
        return name.removesuffix(" ms ago"), f"{text.duration(value)} ago"
    if key.endswith("_ms_left"):
        return name.removesuffix(" ms left"), f"{text.duration(value)} left"
    if key.endswith("_ms"):
        return name.removesuffix(" ms"), text.duration(value)
    if key.endswith("_mv"):
        return name.removesuffix(" mv"), f"{value / 1000:.2f} V"
    return name, value


def _why(client: Client, options: argparse.Namespace) -> int:
    topics = [options.topic] if options.topic else TOPICS
    answers = [client.ask("why", options.reason, {"topic": topic}) for topic in topics]
    if options.json:
        text.show_json(answers[0] if options.topic else answers)
    else:
        for number, answer in enumerate(answers):
            if number:
                print()
            _explain(answer)
    well = all(answer.get("verdict") not in _NOT_WELL and not answer.get("conflicts") for answer in answers)
    return OK if well else NOT_WELL


def _explain(answer: dict[str, Any]) -> None:
    print(f"{text.word(answer.get('topic'))}: {text.word(answer.get('verdict'))}")
    print(f"  rule     {text.word(answer.get('rule'))}, {text.duration(answer.get('decided_ms_ago'))} ago")
    print(f"  because  {text.word(answer.get('because'))}")
    for conflict in answer.get("conflicts", []):
        print(f"  conflict {text.word(conflict)}")
    text.table(
        ("source", "value", "age", "weight", "fresh", "note"),
        [
            (
                text.word(source.get("source")),
                text.word(source.get("value")),
                text.duration(source.get("age_ms")),
                text.word(source.get("weight")),
                text.word(source.get("fresh")),
                text.word(source.get("note")),
            )
            for source in answer.get("evidence", [])
        ],
    )


def _version(client: Client, options: argparse.Namespace) -> int:
    result = client.ask("version", options.reason, {})
    if options.json:
        text.show_json(result)
    else:
        print(text.details(result))
    return OK
