"""Readers on tiny trees in the true layouts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mdrun.errors import DataError, MdrunError, SourceError
from mdrun.sinks.labels import class_palette
from mdtrain.data.records import LABEL_CLASSES, check_records
from mdtrain.data.sets import SetName, read_set
from mdtrain.data.sets.kaist import FOLDERS, KaistLabels
from mdtrain.data.sets.kaist_labels import learnt_boxes, read_bbgt
from tests.training.tree import (
    VOC,
    write_class_folders,
    write_coco,
    write_flir,
    write_kaist,
    write_llvip,
    write_mfnet,
    write_msrs,
    write_roadscene,
)

KAIST_TEXT = "annotations_sanitized/set00/V000/I00001.txt"
FLIR_XML = "FLIR_00002_PreviewData.xml"
KAIST_OBJECTS = (
    "<object><name>person</name><bndbox><x>64</x><y>128</y><w>32</w><h>64</h></bndbox>"
    "<occlusion>1</occlusion></object>"
    "<object><name>people</name><bndbox><x>1</x><y>1</y><w>40</w><h>60</h></bndbox></object>"
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


def coco(key: str, index: int, **values: object) -> Callable[[Path], None]:
    """Change an entry of the file, or append one like it where the index is beyond the end."""

    def damage(root: Path) -> None:
        data = json.loads((root / "train.json").read_text())
        if index == len(data[key]):
            data[key].append(dict(data[key][-1]))
        data[key][index].update(values)
        (root / "train.json").write_text(json.dumps(data))

    return damage


def box(*xywh: float) -> Callable[[Path], None]:
    return coco("annotations", 0, bbox=list(xywh))


def voc(name: str, old: str, new: str) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        path = root / "Annotations" / name
        path.write_text(path.read_text().replace(old, new, 1))

    return damage


def road(*box: float) -> Callable[[Path], None]:
    return write(
        "annotations.json", json.dumps({"FLIR_00001": {"ir_crop": [200, 100], "boxes_crop_xyxy": [[1, *box]]}})
    )


def kaist(line: str) -> Callable[[Path], None]:
    return write(KAIST_TEXT, f"% bbGt version=3\nperson 9 9 40 60 0\n{line}\n")


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
        (
            "coco",
            coco("categories", 0, name="bush"),
            "none of its categories is learnt: it has bush, tree, wanted some of person, bicycle, car; name your own",
        ),
        ("coco", write("train.json", "[]"), "wanted an object"),
        ("mfnet", unlink("train.txt"), r"train\.txt: no such list of names; the MFNet layout"),
        ("mfnet", write_latin("train.txt"), "wanted UTF-8"),
        ("msrs", write("labels/fusion/00001D.txt", "0 .5 .5 0 0\n"), r"/labels/fusion/00001D\.txt, line 1: .*no area"),
        ("roadscene", road(30, 20, 10, 80), r"FLIR_00001: boxes_crop_xyxy: the box '\[1.0, 30.0, .*has no area"),
        (
            "coco",
            box(500, 500, 9, 9),
            r"annotations\[0\]: bbox: the box '500 500 9 9' has no area within the image, 64 w",
        ),
        ("coco", box(16, 12, -16, -12), "has no area"),
        ("coco", box(16, 12, 0, 12), "has no area"),
        ("coco", coco("images", 1, width=0), r"images\[1\]: width is 0, wanted pixels"),
        ("coco", coco("images", 1, height=-48), "height is -48, wanted pixels"),
        ("coco", coco("images", 1, width=64.5), "width is 64.5, wanted a whole number"),
        ("coco", coco("images", 1, id=7), r"images\[1\]: id is 7, wanted another than images\[0\] has"),
        ("coco", coco("images", 2, id=11), r"images\[2\]: file_name is 'gate_2\.png', wanted another than images\[1\]"),
        ("coco", coco("images", 1, file_name="b/gate_1.jpg"), "folder and ending aside"),
        ("coco", coco("images", 1, night="no"), "night is 'no', wanted 1, 0, true or false"),
        (
            "coco",
            coco("annotations", 1, image_id=8),
            r"annotations\[1\]: image_id is 8, wanted an id of one of .* images",
        ),
        (
            "coco",
            coco("annotations", 1, category_id=3),
            "category_id is 3, wanted an id of one of the file's categories",
        ),
        ("coco", coco("categories", 1, id=1), r"categories\[1\]: id is 1, wanted another than categories\[0\]"),
        (
            "flir",
            voc(FLIR_XML, "<xmin>16", "<xmin>nan"),
            r"PreviewData\.xml, object 1: the box 'nan 12 32 36' has no area",
        ),
        ("flir", voc(FLIR_XML, "<xmax>32", "<xmax>1e999"), "has no area"),
        ("flir", voc(FLIR_XML, "<xmax>32", "<xmax>9"), "has no area"),
        ("flir", voc(FLIR_XML, "<width>64", "<width>0"), "<size> is 0 x 48, wanted"),
        ("flir", voc(FLIR_XML, "<width>64", "<width>inf"), "<size> is inf x 48, wanted"),
        ("llvip", voc("010001.xml", "<xmin>16", "<xmin>90"), r"010001\.xml, object 1: the box '90 12 32 36'"),
        (
            "kaist",
            kaist("person 900 900 40 60 0"),
            "line 3: the box '900 900 40 60' has no area within the image, 640 w",
        ),
        ("kaist", kaist("person 90 90 -40 60 0"), "line 3: the box .* has no area"),
        ("kaist", kaist("person nan 90 40 60 0"), "line 3: the box is 'nan 90 40 60', wanted finite numbers"),
        ("kaist", kaist("people 9 9 40 inf 0"), "line 3: the box is '9 9 40 inf', wanted finite numbers"),
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


@pytest.mark.parametrize(
    ("name", "damage", "wanted"),
    [
        ("coco", box(-16, 12, 48, 100), [0, 0.25, 0.5, 1]),
        ("flir", voc(FLIR_XML, "<xmax>32", "<xmax>65"), [0.25, 0.25, 1, 0.75]),
        ("kaist", write(KAIST_TEXT, "% bbGt version=3\nperson -64 128 128 512 0\n"), [0, 0.25, 0.1, 1]),
        ("roadscene", road(-1, 20, 20, 101), [0, 0.2, 0.1, 1]),
    ],
)
def test_boxes_that_leave_the_image_are_cut_off(
    name: SetName, damage: Callable[[Path], None], wanted: list[float], tmp_path: Path
) -> None:
    damage(WRITERS[name](tmp_path))
    np.testing.assert_allclose(read_set(name, tmp_path, "train")[0].boxes, [wanted])


@pytest.mark.parametrize("name", ["coco", "flir", "llvip"])
def test_the_size_that_labels_give_is_kept(name: SetName, tmp_path: Path) -> None:
    assert {record.declared_size for record in read_set(name, WRITERS[name](tmp_path), "train")} == {(64, 48)}


@pytest.mark.parametrize(
    ("category", "index"),
    [
        ("Persons", 0),
        ("people", 0),
        ("pedestrians", 0),
        ("bicycles", 1),
        ("Bikes", 1),
        ("cyclists", 1),
        ("cars", 2),
        (" car", 2),
    ],
)
def test_a_category_of_own_pairs_may_be_a_plural(category: str, index: int, tmp_path: Path) -> None:
    write_coco(tmp_path)
    coco("categories", 0, name=category)(tmp_path)
    night, _ = read_set("coco", tmp_path, "train")
    assert night.classes.tolist() == [index]


@pytest.mark.parametrize("unknown", [None, -1])
def test_coco_takes_what_other_writers_make_of_it(unknown: int | None, tmp_path: Path) -> None:
    """Whole floats, true and false, null or -1 for unknown, and files beside the thermal images that are none."""
    write_coco(tmp_path)
    coco("images", 0, id=7.0, width=64.0, night=True)(tmp_path)
    coco("images", 1, night=unknown)(tmp_path)
    coco("annotations", 0, iscrowd=False, image_id=7.0)(tmp_path)
    coco("annotations", 2, iscrowd=True)(tmp_path)
    (tmp_path / "thermal" / "gate_1.txt").write_text("notes")
    night, other = read_set("coco", tmp_path, "train")
    assert (night.night, other.night) == (True, None)
    np.testing.assert_allclose(night.boxes, [QUARTER])
    assert night.thermal_file.path.name == "gate_1.jpg"


def test_a_text_beside_an_image_of_a_class_is_no_image(tmp_path: Path) -> None:
    write_class_folders(tmp_path, pairs=1)
    (tmp_path / "train.txt").write_text("cold/000\n")
    for camera in ("visible", "thermal"):
        (tmp_path / camera / "cold" / "000.txt").write_text("notes")
    (record,) = read_set("folders", tmp_path, "train")
    assert [file.path.suffix for file in record.files] == [".png", ".jpg"]


def test_a_missing_visible_image_of_roadscene_stays_a_pair(tmp_path: Path) -> None:
    write_roadscene(tmp_path)
    visible = tmp_path / "vi_crop_hr" / "FLIR_00001.jpg"
    visible.unlink()
    records = read_set("roadscene", tmp_path, "train")
    assert len(records) == 1
    with pytest.raises(MdrunError, match=r"FLIR_00001\.jpg is missing"):
        check_records(records, tmp_path)


def test_kaist_boxes_that_nothing_learns_from_need_no_area(tmp_path: Path) -> None:
    write_kaist(tmp_path)
    kaist("people 900 9 40 60 0\nperson? 9 9 0 60 0\nperson 9 9 0 0 0")(tmp_path)
    day = read_set("kaist", tmp_path, "train")[0]
    assert len(day.boxes) == 1
    assert day.kaist is not None
    assert len(day.kaist.boxes_xywh) == 4


@pytest.mark.parametrize("text", ["", "\n", "% bbGt version=3", "% bbGt version=3\n\n"])
def test_a_kaist_file_without_a_box(text: str, tmp_path: Path) -> None:
    write_kaist(tmp_path)
    write(KAIST_TEXT, text)(tmp_path)
    assert len(read_set("kaist", tmp_path, "train")[0].boxes) == 0


def test_an_empty_kaist_line_is_no_box(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("% bbGt version=3\n\nperson 0 0 64 512 0\n")
    np.testing.assert_allclose(learnt_boxes(read_bbgt(path)), [[0, 0, 0.1, 1]])


def as_published(root: Path, day: str = KAIST_OBJECTS) -> Path:
    """The tree with sanitized labels in XML, as they are published."""
    write_kaist(root)
    shutil.rmtree(root / "annotations_sanitized")
    for frame, objects in (("set00/V000/I00001", day), ("set03/V001/I00041", "")):
        path = root / "annotations-xml-new-sanitized" / f"{frame}.xml"
        path.parent.mkdir(parents=True)
        path.write_text(f"<annotation><filename>{frame}</filename>{objects}</annotation>")
    return root


def test_sanitized_kaist_is_read_as_it_is_published(tmp_path: Path) -> None:
    day, night = read_set("kaist", as_published(tmp_path), "train")
    np.testing.assert_allclose(day.boxes, [[0.1, 0.25, 0.15, 0.375]])
    assert day.kaist is not None
    assert (day.kaist.source, day.kaist.occlusion.tolist()) == ("annotations-xml-new-sanitized", [1, 0])
    assert day.kaist.ignored.tolist() == [False, True]
    assert len(night.boxes) == 0


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("<x>64", "<x>nan", r"I00001\.xml, object 1: the box is 'nan 128 32 64', wanted finite numbers"),
        ("<x>64", "<x>900", "object 1: the box '900 128 32 64' has no area"),
        ("<x>64</x>", "", "object 1: <bndbox><x> holds None, wanted a number"),
        ("<occlusion>1", "<occlusion>.5", "object 1: <occlusion> is 0.5, wanted 0, 1 or 2"),
    ],
)
def test_published_kaist_labels_that_cannot_be(old: str, new: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        read_set("kaist", as_published(tmp_path, KAIST_OBJECTS.replace(old, new)), "train")


def test_text_goes_before_xml(tmp_path: Path) -> None:
    write_kaist(as_published(tmp_path))
    day = read_set("kaist", tmp_path, "train")[0]
    assert day.kaist is not None
    assert day.kaist.source == "annotations_sanitized"


def write_published_truth(root: Path, boxes: list[tuple[list[int], int]]) -> None:
    """KAIST_annotation.json with the boxes (x y w h, ignore) of the day frame."""
    frames = ("set00/V000/I00001", "set03/V001/I00041")
    rows = [{"image_id": 0, "category_id": 1, "bbox": b, "occlusion": 0, "ignore": ignore} for b, ignore in boxes]
    document = {
        "images": [{"id": index, "im_name": frame} for index, frame in enumerate(frames)],
        "annotations": rows,
        "categories": [{"id": 1, "name": "person"}],
    }
    (root / "KAIST_annotation.json").write_text(json.dumps(document))


def test_the_published_truth_stands_for_labels(tmp_path: Path) -> None:
    """No other labels are wanted, as of test frames there are none; what it ignores and what is small is not learnt."""
    write_kaist(tmp_path)
    shutil.rmtree(tmp_path / "annotations_sanitized")
    with pytest.raises(SourceError, match=r"no such file of labels.*or KAIST_annotation\.json"):
        read_set("kaist", tmp_path, "train")
    write_published_truth(tmp_path, [([64, 128, 32, 64], 0), ([9, 9, 40, 60], 1), ([9, 9, 5, 12], 0)])
    day, night = read_set("kaist", tmp_path, "train")
    np.testing.assert_allclose(day.boxes, [[0.1, 0.25, 0.15, 0.375]])
    assert (day.name, day.night, night.night, len(night.boxes)) == ("set00_V000_I00001", False, True, 0)
    assert day.kaist is not None
    assert (day.kaist.source, len(day.kaist.boxes_xywh)) == ("KAIST_annotation.json", 3)


def test_a_box_of_the_published_truth_that_cannot_be(tmp_path: Path) -> None:
    write_published_truth(write_kaist(tmp_path), [([900, 9, 40, 60], 0)])
    with pytest.raises(
        DataError, match=r"KAIST_annotation\.json, set00/V000/I00001: the box '900 9 40 60' has no area"
    ):
        read_set("kaist", tmp_path, "train")


@pytest.mark.realdata
def test_real_sets_have_the_counts_of_their_read_me(real_data: Path) -> None:
    assert len(read_set("msrs", real_data / "rgbt" / "msrs", "val")) == 60
    assert len(read_set("roadscene", real_data / "rgbt" / "roadscene", "train")) == 149  # one of 150 has no boxes


@pytest.mark.realdata
def test_real_kaist_truth_is_learnt_from_without_other_labels(real_data: Path, tmp_path: Path) -> None:
    """2,252 test frames: 3,390 persons that are not ignored, none of them of 12 pixels or less."""
    folder = real_data / "rgbt" / "kaist_eval"
    (tmp_path / "imageSets").mkdir()
    shutil.copy(folder / "test-all-20.txt", tmp_path / "imageSets")
    shutil.copy(folder / "KAIST_annotation.json.gz", tmp_path)
    records = read_set("kaist", tmp_path, "test-all-20")
    assert len(records) == 2252
    assert sum(len(record.boxes) for record in records) == 3390
