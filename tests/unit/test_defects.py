"""The planted defects: every patch has its header and still applies; what they prove is `make defects`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.defects.planted import ROOT, BadPatch, Defect, apply, copy_tree, defects
from tests.system import need


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("git")
    copy = tmp_path_factory.mktemp("tree")
    copy_tree(copy)
    return copy


@pytest.mark.parametrize("defect", defects(), ids=lambda defect: defect.name)
def test_a_planted_defect_still_applies_and_names_tests_that_exist(defect: Defect, tree: Path) -> None:
    apply(defect, tree, only_check=True)
    for selection in defect.caught_by:
        assert (ROOT / selection.split("::")[0]).exists()


def test_there_are_as_many_as_were_promised() -> None:
    assert len(defects()) >= 12


def test_a_patch_that_the_code_moved_away_from_is_refused(tmp_path: Path) -> None:
    need("git")
    with pytest.raises(BadPatch, match="does not apply any more"):
        apply(defects()[0], tmp_path)
