from __future__ import annotations

from pathlib import Path

import pytest

from mdrun.errors import OutputError
from mdtrain.data.sets.msrs import read_msrs
from mdtrain.data.street_set import write_street_set


def test_a_street_set_is_read_like_any_msrs_set(tmp_path: Path) -> None:
    names = list(write_street_set(tmp_path / "set", scenes=2, seed=5))
    records = read_msrs(tmp_path / "set", "train")
    assert [r.name for r in records] == names
    assert all(r.visible.shape == (480, 640, 3) and r.thermal.shape == (480, 640) for r in records)
    assert sum(len(r.boxes) for r in records) > 0


def test_another_seed_draws_other_scenes_and_the_same_seed_the_same(tmp_path: Path) -> None:
    images = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        (scene,) = write_street_set(tmp_path / name, scenes=1, seed=seed)
        images.append((tmp_path / name / "vi" / f"{scene}.jpg").read_bytes())
    assert images[0] == images[1] != images[2]


def test_a_set_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("x")
    with pytest.raises(OutputError, match="holds a set already"):
        next(write_street_set(tmp_path, 1, 0))
