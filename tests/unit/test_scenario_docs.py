"""docs/simulator.md names every action and everything that can be looked at, and its example is sound."""

from __future__ import annotations

import re
from pathlib import Path

from simulator.scenario import ACTIONS, OBSERVABLES, Parameter, parse

PAGE = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text(encoding="utf-8")


def described(parameter: Parameter) -> str:
    bounds = ", ".join(parameter.words) or f"{parameter.least} to {parameter.most} {parameter.meaning}"
    return f"`{parameter.name}` [{parameter.default}] {bounds}"


def tables() -> str:
    lines = ["| `do` | what happens | settings [default] |", "|---|---|---|"]
    for action in ACTIONS.values():
        settings = "; ".join(described(parameter) for parameter in action.parameters)
        lines.append(f"| `{action.name}` | {action.meaning} | {settings} |")
    lines += ["", "| `expect` | values |", "|---|---|"]
    lines += [f"| `{name}` | {', '.join(values)} |" for name, values in OBSERVABLES.items()]
    return "\n".join(lines)


def test_the_page_has_every_action_and_observable() -> None:
    assert tables() in PAGE, f"docs/simulator.md lacks this:\n{tables()}"


def test_the_example_can_be_played() -> None:
    examples = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert len(examples) == 1
    assert len(parse(examples[0]).steps) == 2
