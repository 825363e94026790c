"""The generated pages of docs/ say what the code says."""

from __future__ import annotations

import re

import pytest

from tests.generate_docs import DOCS, PAGES


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_up_to_date(name: str) -> None:
    assert (DOCS / name).read_text() == PAGES[name](), "run `make docs` and commit the result"


def test_every_page_that_is_named_exists() -> None:
    """In the sources, the units and the pages themselves."""
    root = DOCS.parent
    folders = ("agent", "drivers", "sync", "simulator", "systemd", "tests", "docs")
    files = [path for name in folders for path in (root / name).rglob("*") if path.is_file()]
    named = {
        page
        for path in [*files, root / "README.md", root / "pyproject.toml"]
        if path.suffix in {".py", ".md", ".toml", ".service", ".rules"}
        for page in re.findall(r"docs/[a-z-]+\.md", path.read_text())
    }
    assert named
    assert [page for page in sorted(named) if not (root / page).exists()] == []
