from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from mdrun.command import run_command
from mdtrain.cli import mdtrain
from mdtrain.data.check import check_set
from mdtrain.data.sets import read_set
from mdtrain.data.street_set import write_street_set
from tests.training.tree import write_coco, write_mfnet, write_msrs


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
    (root / "labels" / "fusion" / "00004N.txt").write_text("0 0.5 0.5 0.01 0.01\n")
    report, usable = check_set(read_set("msrs", root, "train"), (128, 96))
    assert [record.name for record in usable] == ["00003D", "00004N"]
    assert [Path(p).name for p in report.missing] == ["00001D.jpg"]
    assert "00002N.jpg" in report.unreadable[0]
    assert sorted(Path(p).name for p in report.unpaired) == ["00001D.jpg", "stray.jpg"]
    assert report.tiny == 1


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
        (["elsewhere"], 2, "--set"),  # no layout of that name
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
    assert run_command(mdtrain, "mdtrain", ["data", "check", *arguments]) == code
    (line,) = capfd.readouterr().err.splitlines()
    assert named in line
