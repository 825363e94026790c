"""Writes the pages of docs/ that are generated; tests/unit/test_docs_drift.py compares them.

`python -m tests.generate_docs` writes them anew.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from agent import config
from agent.core import diagrams
from agent.core.catalogue import CATALOGUE
from agent.core.policy import Policy
from simulator.invariants.registry import registry

DOCS = Path(__file__).parents[1] / "docs"


def configuration() -> str:
    """docs/configuration.md from the declarations in agent/config.py and agent/core/policy.py."""
    lines = [
        "# Configuration",
        "",
        "Generated from `agent/config.py` and `agent/core/policy.py` by `make docs`; change it there.",
        "",
        "One TOML file, by default `/etc/ivma/agent.toml`. `ivma-agent check-config FILE` says whether it is",
        "good. A bad new file leaves the last good one in force and is recorded as `config.refused`.",
        "",
    ]
    lines += _tables(config.Settings, "")
    for name, policy_class in typing.get_type_hints(Policy).items():
        lines += ["", f"## `[policy.{name}]`", "", (policy_class.__doc__ or "").strip().splitlines()[0], ""]
        lines += ["| key | default | bounds | unit | meaning | source |", "|---|---|---|---|---|---|"]
        hints = typing.get_type_hints(policy_class, include_extras=True)
        for field in dataclasses.fields(policy_class):
            bounds = hints[field.name].__metadata__[0]
            limits = "" if bounds.ge is None else f"{bounds.ge} to {bounds.le}"
            default = field.default.value if hasattr(field.default, "value") else field.default
            lines.append(
                f"| `{field.name}` | {_cell(default)} | {limits} | {bounds.unit} "
                f"| {bounds.doc} | {bounds.source} |"
            )
    return "\n".join(lines) + "\n"


def _tables(struct: Any, prefix: str) -> Iterator[str]:
    """A table for a section's own keys, then its subsections."""
    hints = typing.get_type_hints(struct, include_extras=True)
    inner: list[tuple[str, Any, bool, str]] = []
    rows: list[str] = []
    for field in msgspec.structs.fields(struct):
        annotated = hints[field.name]
        meta = annotated.__metadata__[-1] if hasattr(annotated, "__metadata__") else None
        plain = typing.get_args(annotated)[0] if meta else annotated
        section = config.struct_in(plain)
        if section is not None:
            if field.name != "policy":
                many = typing.get_origin(plain) is list
                inner.append((field.name, section, many, meta.description if meta else ""))
            continue
        default = "required" if field.required else _cell(_default(field))
        ge, le = (meta.ge, meta.le) if meta else (None, None)
        limits = "" if ge is None else f"{ge} to {le}"
        rows.append(f"| `{field.name}` | {default} | {limits} | {meta.description if meta else ''} |")
    if rows:
        yield from ["| key | default | bounds | meaning |", "|---|---|---|---|", *rows]
    for name, section, many, about in inner:
        title = f"[[{prefix}{name}]]" if many else f"[{prefix}{name}]"
        yield from ["", f"## `{title}`", "", about, ""]
        yield from _tables(section, f"{prefix}{name}.")


def _default(field: msgspec.structs.FieldInfo) -> object:
    if field.default is not msgspec.NODEFAULT:
        return field.default
    assert callable(field.default_factory)
    return field.default_factory()


def _cell(value: object) -> str:
    return "none" if value is None else f"`{json.dumps(value, default=str)}`"


def data_inventory() -> str:
    """docs/data-inventory.md from the catalogue of records."""
    lines = [
        "# Data inventory",
        "",
        "Generated from `agent/core/catalogue.py` by `make docs`; change it there. Nothing that is not",
        "listed here can be recorded. Retention is at the depot; on the tablet acknowledged records go",
        "after `store.retain_days` of powered time.",
    ]
    for kind in CATALOGUE.values():
        lines += ["", f"## `{kind.name}`", "", f"{kind.purpose}", ""]
        lines += [
            f"Stream {kind.stream.value}, version {kind.version}, kept {kind.retention_days} days.",
            "",
        ]
        lines += [
            "| field | type | unit | precision | personal data | meaning |",
            "|---|---|---|---|---|---|",
        ]
        lines += [
            f"| `{f.name}` | {f.type.__name__}{', optional' if f.optional else ''} | {f.unit} "
            f"| {f.precision} | {f.personal.value} | {f.meaning} |"
            for f in kind.fields
        ]
    return "\n".join(lines) + "\n"


def invariants() -> str:
    """docs/invariants.md from the invariants that the simulator checks."""
    lines = [
        "# Invariants",
        "",
        "Generated from `simulator/invariants/` by `make docs`; change it there. What must hold whatever",
        "happens; the deterministic world checks each after every step ([simulator.md](simulator.md)).",
        "",
        "| | checked by | must hold |",
        "|---|---|---|",
    ]
    lines += [f"| {kind.number} | `{kind.__name__}` | {kind.statement} |" for kind in registry()]
    return "\n".join(lines) + "\n"


PAGES = {
    "configuration.md": configuration,
    "data-inventory.md": data_inventory,
    "invariants.md": invariants,
    "states.md": diagrams.render,
}


def main() -> int:
    for name, render in PAGES.items():
        (DOCS / name).write_text(render())
    return 0


if __name__ == "__main__":
    sys.exit(main())
