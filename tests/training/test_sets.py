"""Readers on tiny trees in the true layouts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mdrun.errors import MdrunError
from mdrun.sinks.labels import class_palette
from mdtrain.data.records import LABEL_CLASSES
from mdtrain.data.sets import SetName, read_set
from mdtrain.data.sets.kaist import FOLDERS, KaistLabels, learnt_boxes, read_bbgt
from tests.training.tree import (
    VOC,
    write_coco,
    write_flir,
    write_kaist,
    write_llvip,
    write_mfnet,
    write_msrs,
    write_roadscene,
)

QUARTER = [0.25, 0.25, 0.5, 0.75]  # the box 16, 12, 32, 36 of a 64x48 image


def test_msrs_reads_names_images_and_fractions(tmp_path: Path) -> None:
    records = read_set("msrs", write_msrs(tmp_path), "train")
    assert [r.name for r in records] == ["00001D", "00002N", "00003D", "00004N"]
    assert [r.night for r in records] == [False, True, False, True]
    assert records[0].visible.shape == (120, 160, 3)
    assert records[0].thermal.shape == (120, 160)
    assert ((records[0].boxes >= 0) & (records[0].boxes <= 1)).all()
    assert records[0].boxes[0, 3] - records[0].boxes[0, 1] == pytest.approx(0.4, abs=1e-3)


def test_roadscene_keeps_only_pairs_with_learnable_boxes(tmp_path: Path) -> None:
    (record,) = read_set("roadscene", write_roadscene(tmp_path), "train")
    assert record.name == "FLIR_00001"
    assert record.classes.tolist() == [0, 2]
    np.testing.assert_allclose(record.boxes[0], [0.05, 0.2, 0.15, 0.8], atol=1e-6)
    assert record.visible.shape[1] == 800  # larger files only cost memory


@pytest.mark.parametrize("labels", ["original", "sanitized", "paired"])
def test_kaist_learns_persons_only(labels: KaistLabels, tmp_path: Path) -> None:
    """People, cyclists and persons of 12 pixels are left out; paired labels are those of the visible image."""
    day, night = read_set("kaist", write_kaist(tmp_path, FOLDERS[labels]), "train", kaist_labels=labels)
    assert (day.name, day.night, night.night) == ("set00_V000_I00001", False, True)
    np.testing.assert_allclose(day.boxes, [[0.1, 0.25, 0.15, 0.375]])
    assert len(night.boxes) == 0
    assert day.thermal.shape == (48, 64)


def test_flir_pairs_colour_and_preview(tmp_path: Path) -> None:
    (record,) = read_set("flir", write_flir(tmp_path), "train")
    assert (record.name, record.classes.tolist()) == ("FLIR_00002", [2])
    np.testing.assert_allclose(record.boxes, [QUARTER])
    assert record.visible.shape == (48, 64, 3)


@pytest.mark.parametrize(("split", "name"), [("train", "010001"), ("test", "190001"), ("val", "190001")])
def test_llvip_has_two_parts(split: str, name: str, tmp_path: Path) -> None:
    (record,) = read_set("llvip", write_llvip(tmp_path), split)
    assert record.name == name
    np.testing.assert_allclose(record.boxes, [QUARTER])
    assert record.thermal.shape == (48, 64)


def test_own_pairs_need_two_folders_and_a_coco_file(tmp_path: Path) -> None:
    night, day = read_set("coco", write_coco(tmp_path), "train")
    assert (night.night, day.night) == (True, False)
    np.testing.assert_allclose(night.boxes, [QUARTER])
    assert night.classes.tolist() == [0]  # `Pedestrian`; the tree and the crowd are left out
    assert len(day.boxes) == 0
    assert night.thermal_file.path.suffix == ".jpg"


def test_mfnet_reads_pairs_of_four_channels_and_a_class_for_every_pixel(tmp_path: Path) -> None:
    day, night, flipped = read_set("mfnet", write_mfnet(tmp_path), "train")
    assert [record.name for record in (day, night, flipped)] == ["00001D", "00002N", "00001D_flip"]
    assert [record.night for record in (day, night, flipped)] == [False, True, False]
    assert len(day.boxes) == len(day.classes) == 0
    assert day.label_map is not None
    assert flipped.label_map is not None
    assert set(np.unique(day.label_map)) == {0, 1, 2}
    assert (day.visible[day.label_map == 1] == (230, 60, 30)).all()
    assert (day.thermal[day.label_map == 2] == 220).all()
    np.testing.assert_array_equal(flipped.label_map, day.label_map[:, ::-1])
    np.testing.assert_array_equal(flipped.visible, day.visible[:, ::-1])


@pytest.mark.parametrize(("split", "names"), [("test_day", ["00005D"]), ("test_night", ["00006N"])])
def test_mfnet_has_test_lists_by_day_and_by_night(split: str, names: list[str], tmp_path: Path) -> None:
    assert [record.name for record in read_set("mfnet", write_mfnet(tmp_path), split)] == names


def test_the_other_spelling_of_mfnets_lists_is_pointed_out(tmp_path: Path) -> None:
    (write_mfnet(tmp_path) / "test_day.txt").rename(tmp_path / "text_day.txt")
    with pytest.raises(MdrunError, match=r"test_day\.txt: no such list of names; rename text_day\.txt"):
        read_set("mfnet", tmp_path, "test_day")
    with pytest.raises(MdrunError, match=r"all\.txt: no such list of names; the MFNet layout is"):
        read_set("mfnet", tmp_path, "all")


def test_ids_and_colours_of_mfnet() -> None:
    """As the set's own code has them: index, name, RGB."""
    published = (
        (0, "unlabelled", (0, 0, 0)),
        (1, "car", (64, 0, 128)),
        (2, "person", (64, 64, 0)),
        (3, "bike", (0, 128, 192)),
        (4, "curve", (0, 0, 192)),
        (5, "car_stop", (128, 128, 0)),
        (6, "guardrail", (64, 64, 128)),
        (7, "color_cone", (192, 128, 128)),
        (8, "bump", (192, 64, 0)),
    )
    ours = zip(LABEL_CLASSES, class_palette(LABEL_CLASSES).tolist(), strict=True)
    assert tuple((index, name, tuple(rgb)) for index, (name, rgb) in enumerate(ours)) == published


def unlink(path: str) -> Callable[[Path], None]:
    return lambda root: (root / path).unlink()


def write(path: str, text: str) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        (root / path).write_text(text)

    return damage


def write_latin(path: str) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        (root / path).write_bytes(b"caf\xe9\n")

    return damage


def without_categories(root: Path) -> None:
    data = json.loads((root / "train.json").read_text())
    data["categories"] = [{"id": 1, "name": "tree"}]
    (root / "train.json").write_text(json.dumps(data))


KAIST_TEXT = "annotations_sanitized/set00/V000/I00001.txt"
WRITERS: dict[str, Callable[[Path], Path]] = {
    "msrs": write_msrs,
    "roadscene": write_roadscene,
    "kaist": write_kaist,
    "flir": write_flir,
    "llvip": write_llvip,
    "coco": write_coco,
    "mfnet": write_mfnet,
}


@pytest.mark.parametrize(
    ("name", "damage", "named"),
    [
        ("msrs", unlink("train.txt"), r"train\.txt"),
        ("msrs", write("labels/fusion/00001D.txt", "0 0.5 0.5\n"), "00001D"),
        ("roadscene", unlink("annotations.json"), r"annotations\.json"),
        ("msrs", write_latin("train.txt"), r"train\.txt is not text \(byte 3\), wanted UTF-8"),
        ("roadscene", write("annotations.json", "{"), "not JSON"),
        ("roadscene", write("annotations.json", "[]"), "got a JSON list, wanted an object"),
        ("roadscene", write("annotations.json", '{"a": 1}'), "a: got a JSON number, wanted an object"),
        ("roadscene", write("annotations.json", '{"FLIR_00001": {"boxes_crop_xyxy": [[1, 2]]}}'), "class x1 y1 x2 y2"),
        (
            "roadscene",
            write("annotations.json", '{"FLIR_00001": {"ir_crop": [0, 9], "boxes_crop_xyxy": [[1, 2, 3, 4, 5]]}}'),
            r"ir_crop is \[0, 9\], wanted width and height",
        ),
        ("roadscene", write_latin("annotations.json"), "wanted UTF-8"),
        ("kaist", write_latin("imageSets/train.txt"), "wanted UTF-8"),
        ("kaist", write_latin(KAIST_TEXT), "wanted UTF-8"),
        ("flir", write_latin("align_train.txt"), "wanted UTF-8"),
        ("llvip", write_latin("Annotations/010001.xml"), "not XML"),
        ("llvip", write("Annotations/010001.xml", "<?xml version='1.0' encoding='klingon'?><annotation/>"), "not XML"),
        ("coco", write_latin("train.json"), "wanted UTF-8"),
        ("kaist", unlink("imageSets/train.txt"), "no such list of frames"),
        ("kaist", unlink(KAIST_TEXT), r"I00001\.txt"),
        ("kaist", write("imageSets/train.txt", "I00001\n"), "wanted set00/V000/I00001"),
        ("kaist", write("imageSets/train.txt", "set12/V000/I00001\n"), "of sets 00 to 11"),
        ("kaist", write(KAIST_TEXT, "% bbGt version=3\nperson 1 2 3 4 half\n"), "line 2"),
        ("kaist", write(KAIST_TEXT, "person 1 2 3 4\n"), "% bbGt version=3"),
        ("kaist", write(KAIST_TEXT, "% bbGt version=3\nperson 1 2 x 4\n"), "line 2"),
        ("flir", unlink("align_train.txt"), r"align_train\.txt"),
        ("flir", write("Annotations/FLIR_00002_PreviewData.xml", VOC[:-20]), "not XML"),
        ("llvip", write("Annotations/010001.xml", "<annotation><size/></annotation>"), "<size><width> holds None"),
        ("llvip", unlink("Annotations/010001.xml"), r"010001\.xml"),
        ("coco", unlink("train.json"), r"train\.json"),
        ("coco", without_categories, "none of its categories"),
        ("coco", write("train.json", "[]"), "wanted an object"),
        ("mfnet", unlink("train.txt"), r"train\.txt: no such list of names; the MFNet layout"),
        ("mfnet", write_latin("train.txt"), "wanted UTF-8"),
    ],
)
def test_what_is_missing_or_malformed_is_named(
    name: SetName, damage: Callable[[Path], None], named: str, tmp_path: Path
) -> None:
    damage(WRITERS[name](tmp_path))
    with pytest.raises(MdrunError, match=named):
        read_set(name, tmp_path, "train")


def test_a_split_that_a_set_does_not_have(tmp_path: Path) -> None:
    with pytest.raises(MdrunError, match="no list 'val', all of it is 'train'"):
        read_set("roadscene", write_roadscene(tmp_path), "val")


def test_an_empty_kaist_line_is_no_box(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("% bbGt version=3\n\nperson 0 0 64 512 0\n")
    np.testing.assert_allclose(learnt_boxes(read_bbgt(path)), [[0, 0, 0.1, 1]])


@pytest.mark.realdata
def test_real_sets_have_the_counts_of_their_read_me(real_data: Path) -> None:
    assert len(read_set("msrs", real_data / "rgbt" / "msrs", "val")) == 60
    assert len(read_set("roadscene", real_data / "rgbt" / "roadscene", "train")) > 120
