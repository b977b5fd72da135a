from __future__ import annotations

from pathlib import Path

import pytest

from mdrun.command import run_command
from mdrun.errors import OutputError, SourceError
from mdtrain.cli import mdtrain
from mdtrain.data.records import LABEL_CLASSES, check_records
from mdtrain.data.sets.msrs import read_msrs
from mdtrain.data.sets.street import read_street
from mdtrain.data.street_set import write_street_set


def test_a_street_set_is_read_like_any_msrs_set(tmp_path: Path) -> None:
    names = list(write_street_set(tmp_path / "set", scenes=2, seed=5))
    records = read_msrs(tmp_path / "set", "train")
    assert [r.name for r in records] == names
    assert all(r.visible.shape == (480, 640, 3) and r.thermal.shape == (480, 640) for r in records)
    assert sum(len(r.boxes) for r in records) > 0


def test_label_maps_agree_with_the_boxes(tmp_path: Path) -> None:
    """In the middle of the boxes of persons and cars, their classes are the most common: most are not hidden."""
    list(write_street_set(tmp_path, scenes=4, seed=5))
    hits = {0: [0, 0], 2: [0, 0]}
    for record in read_street(tmp_path, "train"):
        assert record.label_map is not None
        assert record.label_map.shape == (480, 640)
        for box, label in zip(record.boxes * [640, 480, 640, 480], record.classes, strict=True):
            if label in hits and box[3] - box[1] > 30:
                x, y = ((box[:2] + box[2:]) / 2).astype(int)
                hits[int(label)][0] += record.label_map[y, x] == LABEL_CLASSES.index(("person", "bike", "car")[label])
                hits[int(label)][1] += 1
    for hit, of in hits.values():
        assert of >= 3
        assert hit >= 0.6 * of


@pytest.mark.slow
def test_validation_scenes_are_others_and_the_same_for_any_number_of_scenes(tmp_path: Path) -> None:
    drawn = {}
    for folder, scenes in (("a", 1), ("b", 2)):
        list(write_street_set(tmp_path / folder, scenes, seed=3, validation=2))
        check_records(read_street(tmp_path / folder, "train"), tmp_path)
        validation = read_street(tmp_path / folder, "val")
        assert not {r.name for r in validation} & {r.name for r in read_street(tmp_path / folder, "train")}
        drawn[folder] = [(r.name, r.visible_file.path.read_bytes()) for r in validation]
    assert drawn["a"] == drawn["b"]
    assert len(drawn["a"]) == 2


def test_a_street_of_an_earlier_version_has_boxes_only(tmp_path: Path) -> None:
    list(write_street_set(tmp_path, scenes=1, seed=0))
    for path in (tmp_path / "label_maps").iterdir():
        path.unlink()
    (tmp_path / "label_maps").rmdir()
    (record,) = read_street(tmp_path, "train")
    assert record.label_map is None
    check_records([record], tmp_path)


def test_a_street_without_validation_scenes_says_how_to_draw_some(tmp_path: Path) -> None:
    list(write_street_set(tmp_path, scenes=1, seed=0))
    with pytest.raises(SourceError, match=r"has no val\.txt; `mdtrain street --validation 40`"):
        read_street(tmp_path, "val")
    with pytest.raises(SourceError, match=r"nowhere: no such folder; `mdtrain street --validation 40"):
        read_street(tmp_path / "nowhere", "val")


def test_the_command_draws_both_lists(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "street"
    arguments = ["street", "--scenes", "1", "--validation", "1", "--output", str(root)]
    assert run_command(mdtrain, "mdtrain", arguments) == 0
    assert f"{root}: 1 pairs for training, 1 for validation" in capfd.readouterr().out
    assert len(read_street(root, "train")) == len(read_street(root, "val")) == 1


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
