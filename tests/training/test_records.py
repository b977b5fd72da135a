from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mdrun.errors import MdrunError, SourceError
from mdtrain.data.records import read_msrs, read_roadscene
from tests.training.tree import write_msrs, write_roadscene


def test_msrs_reads_names_images_and_fractions(tmp_path: Path) -> None:
    records = read_msrs(write_msrs(tmp_path), "train")
    assert [r.name for r in records] == ["00001D", "00002N", "00003D", "00004N"]
    assert records[0].visible.shape == (120, 160, 3)
    assert records[0].thermal.shape == (120, 160)
    assert ((records[0].boxes >= 0) & (records[0].boxes <= 1)).all()
    assert records[0].boxes[0, 3] - records[0].boxes[0, 1] == pytest.approx(0.4, abs=1e-3)


def test_roadscene_keeps_only_pairs_with_learnable_boxes(tmp_path: Path) -> None:
    (record,) = read_roadscene(write_roadscene(tmp_path))
    assert record.name == "FLIR_00001"
    assert record.classes.tolist() == [0, 2]
    np.testing.assert_allclose(record.boxes[0], [0.05, 0.2, 0.15, 0.8], atol=1e-6)
    assert record.visible.shape[1] == 800  # larger files only cost memory


@pytest.mark.parametrize(
    ("missing", "named"),
    [("train.txt", "train.txt"), ("vi/00002N.jpg", "00002N.jpg"), ("ir/00003D.jpg", "00003D.jpg")],
)
def test_missing_files_are_named(tmp_path: Path, missing: str, named: str) -> None:
    (write_msrs(tmp_path) / missing).unlink()
    with pytest.raises(SourceError, match=named):
        read_msrs(tmp_path, "train")


def test_broken_labels_are_named(tmp_path: Path) -> None:
    (write_msrs(tmp_path) / "labels" / "fusion" / "00001D.txt").write_text("0 0.5 0.5\n")
    with pytest.raises(MdrunError, match="00001D"):
        read_msrs(tmp_path, "train")


@pytest.mark.realdata
def test_real_sets_have_the_counts_of_their_read_me(real_data: Path) -> None:
    assert len(read_msrs(real_data / "rgbt" / "msrs", "val")) == 60
    assert len(read_roadscene(real_data / "rgbt" / "roadscene")) > 120
