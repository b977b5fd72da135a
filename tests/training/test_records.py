from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mdrun.command import run_command
from mdrun.errors import DataError, MdrunError, SourceError
from mdrun.thermal.normalise import Rule
from mdtrain.cli import mdtrain
from mdtrain.commands.labelled import read_labelled
from mdtrain.config import load_config
from mdtrain.data.records import CLASSES, MAX_WIDTH, check_command, check_records, keep_images, read_image
from mdtrain.data.sets.mfnet import read_mfnet
from mdtrain.data.sets.msrs import read_msrs
from mdtrain.loop import read_records
from mdtrain.tasks import make_task
from tests.training.tree import write_kaist, write_mfnet, write_msrs


def test_colours_are_rgb_and_large_images_shrink(tmp_path: Path) -> None:
    image = np.zeros((40, 2 * MAX_WIDTH, 3), np.uint8)
    image[..., 2] = 200  # red, as OpenCV counts
    cv2.imwrite(str(tmp_path / "red.png"), image)
    read = read_image(tmp_path / "red.png", colour=True)
    assert read.shape == (20, MAX_WIDTH, 3)
    assert read[0, 0].tolist() == [200, 0, 0]


def test_sixteen_bit_thermal_images_want_a_rule(tmp_path: Path) -> None:
    """Reading them as 8-bit would silently throw half of their bits away."""
    cv2.imwrite(str(tmp_path / "raw.png"), np.full((8, 8), 30000, np.uint16))
    with pytest.raises(DataError, match=r"raw\.png: thermal image is uint16 .* data\.normalisation is the rule"):
        read_image(tmp_path / "raw.png", colour=False)


def test_images_are_kept_within_the_budget(tmp_path: Path) -> None:
    records = read_msrs(write_msrs(tmp_path, (640, 480)), "train")
    keep_images(records, 3)  # a pair of 640x480x4 bytes has 1.17 MiB
    for record in records:
        assert record.visible is not None
    assert [record.visible_file.kept is not None for record in records] == [True, True, False, False]
    assert records[0].visible is records[0].visible
    np.testing.assert_array_equal(records[0].visible, read_image(records[0].visible_file.path, colour=True))


def test_label_maps_are_kept_within_the_same_budget(tmp_path: Path) -> None:
    records = read_mfnet(write_mfnet(tmp_path, (640, 480)), "train")
    keep_images(records, 3)  # a pair with its label map has 640x480x5 bytes, 1.46 MiB
    for record in records:
        assert record.label_map is not None
    kept = [record.label_map_file is not None and record.label_map_file.kept is not None for record in records]
    assert kept == [True, True, False]
    assert records[0].label_map is records[0].label_map


def test_missing_label_maps_are_counted_and_wrong_ones_opened(tmp_path: Path) -> None:
    root = write_mfnet(tmp_path)
    (root / "images" / "00001D.png").unlink()  # one file, though both cameras are in it
    (root / "labels" / "00002N.png").unlink()
    with pytest.raises(SourceError, match=r"00001D\.png and 1 more files are missing"):
        check_records(read_mfnet(root, "train"), root)
    cv2.imwrite(str(root / "labels" / "00003D.png"), np.full((48, 64), 11, np.uint8))
    with pytest.raises(DataError, match=r"labels/00003D\.png: label map holds the value 11"):
        check_records(read_mfnet(root, "val"), root)
    check_records(read_mfnet(root, "test"), root)


def test_wide_pairs_of_four_channels_shrink_and_their_label_maps_do_not(tmp_path: Path) -> None:
    (record, *_) = read_mfnet(write_mfnet(tmp_path, (2 * MAX_WIDTH, 40)), "val")
    assert record.visible.shape == (20, MAX_WIDTH, 3)
    assert record.thermal.shape == (20, MAX_WIDTH)
    assert record.label_map is not None
    assert record.label_map.shape == (40, 2 * MAX_WIDTH)


def test_missing_images_are_counted_before_a_training(tmp_path: Path) -> None:
    for name in ("vi/00002N.jpg", "ir/00003D.jpg"):
        (write_msrs(tmp_path) / name).unlink()
    (tmp_path / "vi" / "00002N.jpg").unlink(missing_ok=True)
    with pytest.raises(SourceError, match=r"00002N\.jpg and 1 more files are missing"):
        check_records(read_msrs(tmp_path, "train"), tmp_path)


def test_the_command_that_lists_all_missing_files(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What the error suggests names the missing file itself: another list, other labels, a folder of another name."""
    root = write_msrs(tmp_path / "my pairs")
    (root / "labels" / "fusion").rename(root / "labels" / "infrared")
    (root / "ir" / "00006N.jpg").unlink()
    with pytest.raises(SourceError, match=r"00006N\.jpg is missing; `mdtrain (.*)` lists all$") as caught:
        read_labelled("msrs", root, "val", "infrared", CLASSES)
    command = str(caught.value).split("`")[1]
    assert command == f"mdtrain data check '{root}' --set msrs --split val --labels infrared"
    assert run_command(mdtrain, "mdtrain", [*shlex.split(command)[1:], "--json"]) == 4
    assert json.loads(capfd.readouterr().out)["missing"] == [str(root / "ir" / "00006N.jpg")]


@pytest.mark.parametrize(
    ("layout", "options", "shown"),
    [
        ("street", {}, ""),
        ("msrs", {"labels": "fusion", "kaist_labels": "paired"}, ""),
        ("kaist", {"labels": "visible", "kaist_labels": "paired"}, " --kaist-labels paired"),
        ("coco", {"categories": ("person", "dog")}, " --classes person,dog"),
        ("coco", {"rule": Rule.parse("percentile(1,99)")}, " --normalisation 'percentile(1,99)'"),
    ],
)
def test_the_suggested_command_has_the_options_that_matter(layout: str, options: dict[str, Any], shown: str) -> None:
    command = f"mdtrain data check set --set {layout} --split val{shown}"
    assert check_command(layout, Path("set"), "val", **options) == command


def test_a_training_suggests_the_command_of_the_set_that_lacks_a_file(tmp_path: Path) -> None:
    root = write_msrs(tmp_path / "street7")
    (root / "vi" / "00001D.jpg").unlink()
    config = load_config(None, (f"data.root={tmp_path}", "data.sets=[]", f"data.street={root}"))
    with pytest.raises(SourceError, match=f"`mdtrain data check {root} --set street --split train` lists all"):
        read_records(config, make_task(config))


@pytest.mark.parametrize("text", [None, "not json"])
def test_a_training_suggests_the_command_of_the_set_that_lacks_a_label(text: str | None, tmp_path: Path) -> None:
    label = next((root := write_msrs(tmp_path / "msrs")).glob("labels/fusion/*00001D*"))
    label.unlink()
    if text is not None:
        label.write_text(text)
    config = load_config(None, (f"data.root={tmp_path}", "data.sets=[msrs]"))
    command = f"mdtrain data check {root} --set msrs --split train"
    with pytest.raises((SourceError, DataError), match=f"{label.name}.*; `{command}` lists all$"):
        read_records(config, make_task(config))


@pytest.mark.parametrize(
    ("there", "said"),
    [(["msrs"], r"; or leave it out: --set data\.sets=\[msrs\]$"), ([], r"no such list of names; .*val\.txt$")],
)
def test_a_set_that_is_not_there_may_be_left_out(there: list[str], said: str, tmp_path: Path) -> None:
    """Not the one that judges; and a list that its folder lacks is another mistake."""
    for name in there:
        write_msrs(tmp_path / name)
    config = load_config(None, (f"data.root={tmp_path}",))
    with pytest.raises(SourceError, match=said) as caught:
        read_records(config, make_task(config))
    assert "lists all" not in str(caught.value)
    (tmp_path / "roadscene").mkdir()
    with pytest.raises(SourceError, match=r"[^]]$"):
        read_records(config, make_task(config))


def test_lists_of_other_names_may_not_share_pairs(tmp_path: Path) -> None:
    """As KAIST's `train-all-20` is a part of `train-all-02`, and MFNet's `test_day` of `test`."""
    root = write_kaist(tmp_path / "kaist")
    (root / "imageSets" / "every-20.txt").write_text("set00/V000/I00001\n")
    judged = ("data.validation=kaist", "data.validation_list=every-20")
    config = load_config(None, (f"data.root={tmp_path}", "data.sets=[kaist]", *judged))
    wanted = r"set00/V000/visible/I00001\.jpg: 1 of the 1 pairs of the list every-20 are learnt from as well"
    with pytest.raises(DataError, match=wanted):
        read_records(config, make_task(config))


def swap(root: Path) -> None:
    (root / "vi").rename(root / "keep")
    (root / "ir").rename(root / "vi")
    (root / "keep").rename(root / "ir")


def swap_saved_in_three_channels(root: Path) -> None:
    """Both sensors in three channels: the thermal images in vi/ have them alike."""
    for path in (root / "ir").glob("*.jpg"):
        grey = cv2.imread(str(path))
        assert grey is not None
        cv2.imwrite(str(root / "vi" / path.name), grey)


@pytest.mark.parametrize(
    ("damage", "wanted", "named"),
    [
        (swap, DataError, "thermal image is coloured"),
        (
            swap_saved_in_three_channels,
            DataError,
            r"none of its visible images has colour \(4 of 4 were opened\), wanted colour: exchange .*, else leave the",
        ),
        (lambda root: (root / "train.txt").write_text("\n"), SourceError, "names no pairs"),
        (lambda root: (root / "ir" / "00001D.jpg").write_bytes(b""), SourceError, "empty"),
    ],
)
def test_what_no_training_should_start_with(
    damage: Callable[[Path], object], wanted: type[MdrunError], named: str, tmp_path: Path
) -> None:
    damage(write_msrs(tmp_path))
    with pytest.raises(wanted, match=named):
        check_records(read_msrs(tmp_path, "train"), tmp_path)


def test_one_grey_visible_image_is_no_swap(tmp_path: Path) -> None:
    write_msrs(tmp_path)
    cv2.imwrite(str(tmp_path / "vi" / "00001D.jpg"), np.full((120, 160, 3), 90, np.uint8))
    check_records(read_msrs(tmp_path, "train"), tmp_path)


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_truncated_image_is_no_image(share: float, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = write_msrs(tmp_path) / "vi" / "00001D.jpg"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(SourceError, match=r"00001D\.jpg: the image is truncated"):
        read_image(path, colour=True)
    path.unlink()
    with pytest.raises(SourceError, match=r"00001D\.jpg: cannot be read"):
        read_image(path, colour=True)
    assert not capfd.readouterr().err  # OpenCV keeps quiet


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    write_msrs(tmp_path)
    (tmp_path / "ir" / "00001D.jpg").write_bytes(b"cut off")
    record = read_msrs(tmp_path, "train")[0]
    with pytest.raises(SourceError, match=r"00001D\.jpg"):
        assert record.thermal is None


def test_a_set_in_the_place_of_the_folder_that_holds_it(tmp_path: Path) -> None:
    """`mdtrain data check` takes the one, `--data` the other."""
    root = write_msrs(tmp_path / "msrs")
    config = load_config(None, (f"data.root={root}", "data.sets=[msrs]"))
    with pytest.raises(SourceError, match=f"the folder that holds msrs, not msrs itself: --data {tmp_path}$"):
        read_records(config, make_task(config))
