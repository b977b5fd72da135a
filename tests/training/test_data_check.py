from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mdrun.command import run_command
from mdrun.errors import DataError, SourceError
from mdrun.frames import Modality
from mdrun.sinks import scene, sheet
from mdrun.sources import images
from mdrun.sources.images import read_image
from mdtrain.cli import mdtrain
from mdtrain.data import check
from mdtrain.data.augment import Sample, Sizes, augment
from mdtrain.data.check import check_set, draw_sheet
from mdtrain.data.records import MAX_WIDTH, Record
from mdtrain.data.sets import SetName, read_set
from mdtrain.data.street_set import write_street_set
from tests.training.tree import (
    NAMES,
    write_class_folders,
    write_coco,
    write_flir,
    write_kaist,
    write_llvip,
    write_mfnet,
    write_msrs,
    write_pair,
    write_roadscene,
)


def test_a_whole_set_is_counted(tmp_path: Path) -> None:
    report, usable = check_set(read_set("msrs", write_msrs(tmp_path), "train"), (128, 96))
    assert report.usable
    assert len(usable) == report.pairs == 4
    assert (report.day, report.night, report.empty) == (2, 2, 0)
    assert report.visible_sizes == {"160x120": 4}
    assert report.objects == {"person": 4}
    assert report.objects_by_night == {"person": 2}
    assert report.samples_per_second is not None
    assert report.samples_per_second > 0


def test_every_way_to_be_unusable_is_listed(tmp_path: Path) -> None:
    root = write_msrs(tmp_path)
    (root / "vi" / "00001D.jpg").unlink()
    (root / "ir" / "00002N.jpg").write_bytes(b"cut off")
    cv2.imwrite(str(root / "ir" / "00003D.png"), np.zeros((4, 4), np.uint8))  # a stem that both folders have
    cv2.imwrite(str(root / "vi" / "stray.jpg"), np.zeros((4, 4, 3), np.uint8))
    (root / "vi" / "notes.txt").write_text("no image")
    (root / "labels" / "fusion" / "00004N.txt").write_text("0 0.5 0.5 0.01 0.01\n")
    report, usable = check_set(read_set("msrs", root, "train"), (128, 96))
    assert [record.name for record in usable] == ["00003D", "00004N"]
    assert [Path(p).name for p in report.missing] == ["00001D.jpg"]
    assert "00002N.jpg" in report.unreadable[0]
    assert sorted(Path(p).name for p in report.unpaired) == ["00001D.jpg", "stray.jpg"]
    assert report.tiny == 1


def test_lists_that_were_not_looked_at_end_the_report(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = write_msrs(tmp_path / "msrs")
    assert run_command(mdtrain, "mdtrain", ["data", "check", str(root)]) == 0
    report = capfd.readouterr().out.split()
    assert report[report.index("lists") :][:6] == ["lists", "not", "looked", "at", "│", "--split"]
    assert "val" in report[report.index("--split") :]
    for flag in ("--list", "--split"):
        assert run_command(mdtrain, "mdtrain", ["data", "check", str(root), flag, "val", "--json"]) == 0
        found = json.loads(capfd.readouterr().out)
        assert (found["pairs"], found["other_lists"]) == (2, ["train"])


def test_boxes_of_own_pairs_that_are_not_learnt_are_counted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = write_coco(tmp_path / "coco") / "train.json"
    document = json.loads(path.read_text())
    document["annotations"].append(document["annotations"][1] | {"id": 4, "iscrowd": 1})  # a crowd of trees: trees
    path.write_text(json.dumps(document))
    assert run_command(mdtrain, "mdtrain", ["data", "check", str(path.parent)]) == 0
    assert re.search(r"left out +│ 2 tree, 1 crowds ", capfd.readouterr().out)
    assert run_command(mdtrain, "mdtrain", ["data", "check", str(path.parent), "--json"]) == 0
    report = json.loads(capfd.readouterr().out)
    assert (report["objects"], report["left_out"]) == ({"person": 1}, {"tree": 2, "crowds": 1})
    assert run_command(mdtrain, "mdtrain", ["data", "check", str(write_msrs(tmp_path / "msrs"))]) == 0
    assert "left out" not in capfd.readouterr().out


def test_an_own_pair_without_its_thermal_image(tmp_path: Path) -> None:
    (write_coco(tmp_path) / "thermal" / "gate_2.jpg").unlink()
    report, usable = check_set(read_set("coco", tmp_path, "train"), (128, 96))
    assert [record.name for record in usable] == ["gate_1"]
    assert len(report.missing) == 1
    assert report.empty == 1


def test_pixels_of_label_maps_are_counted_by_class_and_time(tmp_path: Path) -> None:
    root = write_mfnet(tmp_path)
    labels = np.full((48, 64), 255, np.uint8)
    labels[:12] = 6
    cv2.imwrite(str(root / "labels" / "00006N.png"), labels)
    report, usable = check_set(read_set("mfnet", root, "test"), (128, 96))
    assert report.usable
    assert len(usable) == report.label_maps == 2
    half = {"car": 32 * 24, "person": 16 * 36, "unlabelled": 64 * 48 - 32 * 24 - 16 * 36}
    assert report.label_pixels_by_day == half
    assert report.label_pixels_by_night == {"guardrail": 64 * 12, "ignored": 64 * 36}
    assert report.label_pixels == {**half, "guardrail": 64 * 12, "ignored": 64 * 36}
    assert report.to_json()["label_pixels_by_day"] == half


def test_unusable_label_maps_and_a_pair_in_one_file(tmp_path: Path) -> None:
    root = write_mfnet(tmp_path)
    (root / "images" / "00001D.png").unlink()
    (root / "images" / "00001D_flip.png").write_bytes(b"cut off")
    cv2.imwrite(str(root / "labels" / "00002N.png"), np.full((48, 64), 9, np.uint8))
    report, usable = check_set(read_set("mfnet", root, "train"), (128, 96))
    assert not usable
    assert [Path(path).name for path in report.missing] == ["00001D.png"]
    labels, pair = sorted(report.unreadable, reverse=True)
    assert "labels/00002N.png: label map holds the value 9" in labels
    assert "images/00001D_flip.png: begins with" in pair


def test_the_command_shows_shares_and_draws_label_maps(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root, sheet = write_mfnet(tmp_path / "mfnet", (160, 120)), tmp_path / "mfnet.png"
    assert run_command(mdtrain, "mdtrain", ["data", "check", str(root), "--split", "test", "--sheet", str(sheet)]) == 0
    out = capfd.readouterr().out
    assert re.search(r"car +25\.00% +25\.00% +25\.00% ", out)
    assert "objects" not in out
    picture = cv2.imread(str(sheet))
    assert picture is not None
    assert np.abs(picture.astype(int) - (0, 159, 230)).sum(-1).min() < 40  # the legend's orange: cars (BGR)

    list(write_street_set(tmp_path / "street", scenes=1, seed=0))
    assert run_command(mdtrain, "mdtrain", ["data", "check", str(tmp_path / "street"), "--json"]) == 0
    report = json.loads(capfd.readouterr().out)
    assert sum(report["label_pixels"].values()) == 640 * 480
    assert report["objects"]


def test_the_command_draws_a_sheet_and_fails_on_missing_files(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = write_msrs(tmp_path / "msrs")
    sheet = tmp_path / "sheets" / "msrs.png"
    assert run_command(mdtrain, "mdtrain", ["data", "check", str(root), "--sheet", str(sheet)]) == 0
    assert "160x120 4" in capfd.readouterr().out
    picture = cv2.imread(str(sheet))
    assert picture is not None
    assert picture.shape[1] > 300
    assert [p.name for p in sheet.parent.iterdir()] == ["msrs.png"]
    (root / "ir" / "00001D.jpg").unlink()
    assert run_command(mdtrain, "mdtrain", ["data", "check", str(root), "--json"]) == 4
    found = capfd.readouterr()
    assert json.loads(found.out)["missing"] == [str(root / "ir" / "00001D.jpg")]
    assert "3 of 4 pairs of train can be used" in found.err


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["elsewhere"], 2, "; name one with --set"),  # no layout of that name
        (["above"], 2, "; name one of the sets in it: above/msrs"),
        (["msrs"], 4, "train.txt"),
        (["elsewhere", "--set", "coco"], 4, "train.json"),
        (["msrs", "--labels", "blue"], 2, "--labels"),
    ],
)
def test_bad_input(
    arguments: list[str],
    code: int,
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "above" / "msrs").mkdir(parents=True)
    assert run_command(mdtrain, "mdtrain", ["data", "check", *arguments]) == code
    (line,) = capfd.readouterr().err.splitlines()
    assert named in line


def test_sizes_are_those_of_the_files(tmp_path: Path) -> None:
    """Records are read at MAX_WIDTH at most, where a box of 10 pixels would have 5."""
    root = write_msrs(tmp_path, (2 * MAX_WIDTH, 200), {"train": ("00001D",)})
    (root / "labels" / "fusion" / "00001D.txt").write_text("0 0.5 0.5 0.01 0.050\n0 0.5 0.5 0.01 0.035\n")
    report, _ = check_set(read_set("msrs", root, "train"), (128, 96))
    assert report.visible_sizes == report.thermal_sizes == {f"{2 * MAX_WIDTH}x200": 1}
    assert report.tiny == 1


def test_every_file_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: Counter[str] = Counter()

    def counted(path: Path, modality: Modality) -> NDArray[Any]:
        opened[f"{path.parent.name}/{path.name}"] += 1
        return read_image(path, modality)

    monkeypatch.setattr(images, "read_image", counted)
    monkeypatch.setattr(check, "_speed", lambda *_: 1.0)
    check_set(read_set("msrs", write_msrs(tmp_path), "train"), (128, 96))
    assert sorted(opened) == sorted(f"{part}/{name}.jpg" for part in ("vi", "ir") for name in NAMES["train"])
    assert set(opened.values()) == {1}


def test_of_many_sizes_the_most_frequent_are_shown(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = write_msrs(tmp_path / "msrs", lists={"train": [f"{number:05d}D" for number in range(9)]})
    for number in range(1, 9):
        name = f"{number:05d}D.jpg"
        write_pair(root / "vi" / name, root / "ir" / name, (160, 116 + max(number, 2)))
    assert run_command(mdtrain, "mdtrain", ["data", "check", str(root)]) == 0
    out = capfd.readouterr().out
    assert out.count("160x118 2") == 2
    assert out.count("… and 2 more (--json has all)") == 2


def test_files_without_a_partner_in_the_one_folder_of_both_cameras(tmp_path: Path) -> None:
    images = write_flir(tmp_path) / "JPEGImages"
    write_pair(images / "FLIR_00003_RGB.jpg", images / "FLIR_00004_PreviewData.jpeg")
    write_pair(images / "FLIR_00005_RGB.jpg", images / "FLIR_00005_PreviewData.jpeg")  # a pair of another list
    report, _ = check_set(read_set("flir", tmp_path, "train"), (128, 96))
    assert report.usable
    assert [Path(path).name for path in report.unpaired] == ["FLIR_00003_RGB.jpg", "FLIR_00004_PreviewData.jpeg"]


@pytest.mark.parametrize("channels", [1, 3])
def test_swapped_cameras_are_called_so(channels: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = write_msrs(tmp_path / "msrs")
    for path in (root / "vi").iterdir():  # `channels` is how the thermal image in vi/ was saved
        cv2.imwrite(str(path), np.full((120, 160, channels), 90, np.uint8))
        cv2.imwrite(str(root / "ir" / path.name), np.full((120, 160, 3), (40, 90, 140), np.uint8))
    assert run_command(mdtrain, "mdtrain", ["data", "check", str(root)]) == 5
    found = capfd.readouterr()
    assert "0 of 4 pairs of train can be used; the images of 4 seem to be swapped" in found.err
    assert "copy" not in found.out + found.err


def test_a_thermal_image_of_other_proportions(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = write_msrs(tmp_path / "msrs")
    for name, size in (("00001D", (50, 150)), ("00002N", (111, 75)), ("00003D", (112, 75))):  # 4:3 and 12 % are 1.4933
        cv2.imwrite(str(root / "ir" / f"{name}.jpg"), np.full(size[::-1], 90, np.uint8))
    report, usable = check_set(read_set("msrs", root, "train"), (128, 96))
    assert report.mismatched == [f"{root}/ir/00001D.jpg: other proportions, 50x150 beside 160x120"]
    assert [record.name for record in usable] == ["00002N", "00003D", "00004N"]
    assert run_command(mdtrain, "mdtrain", ["data", "check", str(root)]) == 5
    assert "3 of 4 pairs of train can be used; correct the files" in capfd.readouterr().err


def test_a_label_map_of_other_proportions(tmp_path: Path) -> None:
    root = write_mfnet(tmp_path)
    cv2.imwrite(str(root / "labels" / "00006N.png"), np.zeros((48, 32), np.uint8))
    report, usable = check_set(read_set("mfnet", root, "test"), (128, 96))
    assert len(usable) == 1
    assert report.mismatched == [f"{root}/labels/00006N.png: other proportions, 32x48 beside 64x48"]


def test_labels_for_another_size(tmp_path: Path) -> None:
    path = write_coco(tmp_path) / "train.json"
    document = json.loads(path.read_text())
    document["images"][1] |= {"width": 128, "height": 96}
    path.write_text(json.dumps(document))
    records = read_set("coco", tmp_path, "train")
    report, usable = check_set(records, (128, 96))
    assert usable == records[:1]
    assert report.mismatched == [f"{records[1].visible_file.path}: labels are for 128x96, the image has 64x48"]


def test_an_empty_list_is_called_empty(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = write_msrs(tmp_path / "msrs")
    (root / "val.txt").write_text("\n")
    assert run_command(mdtrain, "mdtrain", ["data", "check", str(root), "--split", "val"]) == 4
    assert "msrs: the list val is empty" in capfd.readouterr().err


def test_the_speed_is_that_of_a_worker_of_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set()

    def watched(record: Record, sizes: Sizes, rng: np.random.Generator) -> Sample:
        seen.add(cv2.getNumThreads())
        return augment(record, sizes, rng)

    monkeypatch.setattr(check, "augment", watched)
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    try:
        check_set(read_set("msrs", write_msrs(tmp_path), "train"), (128, 96))
        assert (seen, cv2.getNumThreads()) == ({1}, 3)
    finally:
        cv2.setNumThreads(before)


def test_names_of_files_are_no_markup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    root = write_msrs(tmp_path / "msrs", lists={"train": ["[bold]D"]})
    (root / "ir" / "[bold]D.jpg").unlink()
    assert run_command(mdtrain, "mdtrain", ["data", "check", str(root)]) == 4
    assert "ir/[bold]D.jpg" in capfd.readouterr().out


def test_a_sheet_shows_labels_as_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []
    for module in (scene, sheet):
        monkeypatch.setattr(module, "draw_text", lambda _, text, *rest, **__: texts.append(text))
    root = write_msrs(tmp_path)
    (root / "labels" / "fusion" / "00002N.txt").write_text("")
    draw_sheet(read_set("msrs", root, "train"), "msrs train", tmp_path / "sheet.png")
    assert {"msrs train", "4 labelled pairs", "visible", "thermal", "person", "person 1", "no labels"} <= set(texts)
    assert not [text for text in texts if "." in text or "measured" in text]


def spoil_msrs(root: Path) -> None:
    (write_msrs(root) / "labels" / "fusion" / "00001D.txt").unlink()
    (root / "labels" / "fusion" / "00002N.txt").write_text("7 0.5 0.5 0.1 0.1\n")


def spoil_kaist(root: Path) -> None:
    for path in (write_kaist(root) / "annotations_sanitized").rglob("*.txt"):
        path.write_text("% bbGt version=3\nperson 1 2 3\n")


def spoil_flir(root: Path) -> None:
    (write_flir(root) / "align_train.txt").write_text("FLIR_00001\nFLIR_00002_PreviewData\nFLIR_00003_PreviewData\n")


def spoil_llvip(root: Path) -> None:
    for path in (write_llvip(root) / "Annotations").glob("01*"):
        path.write_text("<annotation>")
    write_pair(root / "visible" / "train" / "010002.jpg", root / "infrared" / "train" / "010002.jpg")


def spoil_coco(root: Path) -> None:
    path = write_coco(root) / "train.json"
    path.write_text(path.read_text().replace('"width": 64', '"width": 0'))


def spoil_roadscene(root: Path) -> None:
    path = write_roadscene(root) / "annotations.json"
    write_pair(root / "vi_crop_hr" / "FLIR_00001.jpg", root / "ir_crop" / "FLIR_00001.jpg", (200, 100))
    document = json.loads(path.read_text())
    document["FLIR_00002"] = document["FLIR_00003"] = {"ir_crop": [0, 0], "boxes_crop_xyxy": [[1, 1, 1, 9, 9]]}
    path.write_text(json.dumps(document))


def spoil_folders(root: Path) -> None:
    (write_class_folders(root) / "train.txt").write_text("cold/000\nno class\nwarm/absent\n")


@pytest.mark.parametrize(
    ("layout", "spoil", "pairs", "code"),
    [
        ("msrs", spoil_msrs, 4, 4),
        ("kaist", spoil_kaist, 2, 5),
        ("flir", spoil_flir, 3, 4),
        ("llvip", spoil_llvip, 2, 4),
        ("coco", spoil_coco, 2, 5),
        ("roadscene", spoil_roadscene, 3, 5),
        ("folders", spoil_folders, 3, 4),
    ],
)
def test_all_pairs_without_usable_labels_are_named(
    layout: SetName,
    spoil: Callable[[Path], None],
    pairs: int,
    code: int,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A training stops at the first of two."""
    spoil(tmp_path)
    assert run_command(mdtrain, "mdtrain", ["data", "check", str(tmp_path), "--set", layout, "--json"]) == code
    found = capfd.readouterr()
    report = json.loads(found.out)
    assert (report["pairs"], len(report["unreadable"])) == (pairs, 2)
    assert sum(report["visible_sizes"].values()) == pairs - 2
    assert f"{pairs - 2} of {pairs} pairs of train can be used" in found.err
    with pytest.raises((SourceError, DataError)) as caught:
        read_set(layout, tmp_path, "train")
    assert str(caught.value) == report["unreadable"][0]
