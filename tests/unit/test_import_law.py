"""The import law of docs/architecture.md, read from the source: who may import whom."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("agent", "drivers", "sync", "simulator")
VOCABULARY = {
    "agent.core.types",
    "agent.core.records",
    "agent.core.orders",
    "agent.core.catalogue",
    "agent.core.quick",
}
COMPOSITION_ROOTS = {"agent.__main__", "agent.compose_check", "simulator.__main__"}
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(source: str, module: str) -> set[str]:
    """Every module that a source imports, at any depth of nesting, in full."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import; write it in full"
            assert node.module is not None
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


def breaches(module: str, imported: set[str]) -> list[str]:
    """The imports of a module that the law forbids."""
    if module.startswith("agent.core"):
        return [
            name
            for name in imported
            if not name.startswith("agent.core") and name.split(".")[0] not in sys.stdlib_module_names
        ]
    own = module.split(".")[0]
    if own == "simulator" and any(name.startswith("drivers.ports") for name in imported):
        return [name for name in imported if name.startswith("drivers.ports")]
    if module in COMPOSITION_ROOTS or module.startswith("simulator.compose"):
        return []
    codec = own == "drivers" and module.endswith(".codec")
    return [
        name
        for name in imported
        if name.split(".")[0] in FOLDERS
        and not (name.startswith(f"{own}.") and not codec)
        and not any(name == word or name.startswith(f"{word}.") for word in VOCABULARY)
        and name not in {"agent", "agent.core", own}
        and not (own == "simulator" and name.startswith("drivers.") and is_codec(name))
        and not (codec and name.startswith(module.rsplit(".", 1)[0] + "."))
    ]


def is_codec(name: str) -> bool:
    parts = name.split(".")
    return "codec" in parts or "auth" in parts


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_the_law_allows(path: Path) -> None:
    module = module_name(path)
    assert breaches(module, imports(path.read_text(), module)) == []


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("agent.core.tether", "msgspec"),
        ("agent.core.tether", "agent.config"),
        ("agent.runtime", "drivers.registry"),
        ("drivers.ports.serial", "agent.runtime"),
        ("drivers.docks.reference.codec", "drivers.spec"),
        ("simulator.vehicle", "drivers.ports.can"),
        ("simulator.__main__", "drivers.ports.can"),
        ("sync.store", "agent.config"),
    ],
)
def test_the_law_forbids(module: str, imported: str) -> None:
    assert breaches(module, {imported}) == [imported]
