"""Which lists a set has."""

from __future__ import annotations

from pathlib import Path

import pytest

from mdtrain.data.sets import SetName, other_lists
from tests.training.test_sets import WRITERS


@pytest.mark.parametrize("name", WRITERS)
def test_the_other_lists_of_a_set_are_known(name: SetName, tmp_path: Path) -> None:
    """By the names that its reader takes, `val` of LLVIP for its `test` too."""
    WRITERS[name](tmp_path)
    lists = {"msrs": ["val"], "llvip": ["test"], "coco": ["val"], "mfnet": ["test", "test_day", "test_night", "val"]}
    assert other_lists(name, tmp_path, "train") == lists.get(name, [])
    if name == "flir":
        (tmp_path / "align_validation.txt").write_text("FLIR_00002_PreviewData\n")
        assert other_lists(name, tmp_path, "align_train") == ["val"]
    if name == "kaist":
        assert other_lists(name, tmp_path, "test-all-20") == ["train"]
    if name == "llvip":
        assert other_lists(name, tmp_path, "val") == ["train"]
