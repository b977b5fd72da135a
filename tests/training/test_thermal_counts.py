"""16-bit thermal images in training: the same rule, by the same code, as in the runtime, and told by the manifest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mdrun.command import run_command
from mdrun.errors import DataError, UsageError
from mdrun.preprocess import thermal_rule
from mdrun.thermal.normalise import Rule, normalise
from mdtrain.cli import mdtrain
from mdtrain.config import load_config
from mdtrain.contract import draft_manifest
from mdtrain.data.augment import Sizes
from mdtrain.data.batches import evaluation_batches, normalise_thermal
from mdtrain.data.records import MAX_WIDTH, read_image
from mdtrain.loop import read_records
from mdtrain.tasks import make_task
from tests import thermal_golden
from tests.training.tree import write_counts

PERCENTILE = Rule.parse("percentile(1,99)")


@pytest.mark.parametrize("text", [text for text, _ in thermal_golden.RULES])
@pytest.mark.parametrize("ending", ["png", "tiff"])
def test_golden_vectors_by_way_of_files(text: str, ending: str, tmp_path: Path) -> None:
    for counts, image in zip(*thermal_golden.firsts(text), strict=True):
        path = tmp_path / f"raw.{ending}"
        cv2.imwrite(str(path), np.array(counts, np.uint16))
        read = read_image(path, colour=False, rule=Rule.parse(text))
        wanted = np.array(image, float)
        assert (np.isnan(wanted) | (read == wanted)).all()


def test_wide_images_are_normalised_before_they_shrink(tmp_path: Path) -> None:
    """The limits are those of the camera's own pixels, as in the runtime."""
    counts = np.random.default_rng(0).integers(7000, 9000, (20, 2 * MAX_WIDTH)).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "raw.png"), counts)
    whole = normalise(counts, PERCENTILE)
    read = read_image(tmp_path / "raw.png", colour=False, rule=PERCENTILE)
    assert read.shape == (10, MAX_WIDTH)
    assert abs(float(read.mean()) - float(whole.mean())) < 1


def judge_others(root: Path) -> None:
    """The same images under names of their own in the list that judges."""
    document = json.loads((root / "val.json").read_text())
    for image in document["images"]:
        stem = Path(image["file_name"]).stem
        for camera in ("visible", "thermal"):
            (file,) = (root / camera).glob(f"{stem}.*")
            shutil.copy(file, file.with_stem(f"judge_{stem}"))
        image["file_name"] = f"judge_{image['file_name']}"
    (root / "val.json").write_text(json.dumps(document))


def test_batches_hold_what_the_rule_gives(tmp_path: Path) -> None:
    root = write_counts(tmp_path / "coco")
    judge_others(root)
    config = load_config(
        None,
        (
            f"data.root={tmp_path}",
            "data.sets=[coco]",
            "data.validation=coco",
            "data.normalisation=percentile(1, 99)",
            "data.cache_mb=16",
        ),
    )
    records, validation = read_records(config, make_task(config))
    assert len(records) == len(validation) == 2
    for record in records:
        file = root / "thermal" / f"{record.name}.png"
        counts = np.asarray(cv2.imread(str(file), cv2.IMREAD_UNCHANGED), np.uint16)
        np.testing.assert_array_equal(record.thermal, normalise(counts, PERCENTILE))
    (batch,) = evaluation_batches(records, Sizes((64, 64), (64, 48)), torch.device("cpu"))
    torch.testing.assert_close(
        batch.thermal_low, normalise_thermal(torch.from_numpy(np.stack([r.thermal for r in records])))
    )


def test_sets_of_another_depth_are_refused_before_the_first_iteration(tmp_path: Path) -> None:
    write_counts(tmp_path / "coco")
    base = (f"data.root={tmp_path}", "data.sets=[coco]", "data.validation=coco")
    config = load_config(None, base)
    with pytest.raises(DataError, match=r"gate_1\.png: thermal image is uint16 .* data\.normalisation is the rule"):
        read_records(config, make_task(config))
    for name in ("gate_1", "gate_2"):
        cv2.imwrite(str(tmp_path / "coco" / "thermal" / f"{name}.png"), np.full((48, 64), 90, np.uint8))
    config = load_config(None, (*base, "data.normalisation=fixed(7000,9000)"))
    with pytest.raises(DataError, match=r"gate_1\.png: thermal image is uint8 .* wants 16-bit counts"):
        read_records(config, make_task(config))


@pytest.mark.parametrize(
    ("given", "kept"),
    [("agc8", "agc8"), ("fixed(7000.0, 9000)", "fixed(7000,9000)"), ("percentile(1,99,smooth=1)", "percentile(1,99)")],
)
def test_the_manifest_says_the_rule(given: str, kept: str) -> None:
    config = load_config(None, (f"data.normalisation={given}",))
    facts = {"command": "mdtrain", "accuracy": {}, "display_score": 0.4}
    manifest = draft_manifest(config, {}, facts)
    assert manifest.inputs["thermal"].normalisation == kept
    assert thermal_rule(manifest) == config.data.rule == Rule.parse(given)


@pytest.mark.parametrize("text", ["minmax", "fixed(9000,7000)", "percentile(1)"])
def test_what_is_no_rule_is_a_problem_of_the_configuration(text: str) -> None:
    with pytest.raises(UsageError, match=r"data\.normalisation \(--set\): rule"):
        load_config(None, (f"data.normalisation={text}",))


def test_a_set_of_counts_is_checked_by_its_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check = ["data", "check", str(write_counts(tmp_path / "coco")), "--json"]
    assert run_command(mdtrain, "mdtrain", check) == 5
    assert "raw counts" in json.loads(capsys.readouterr().out)["unreadable"][0]
    assert run_command(mdtrain, "mdtrain", [*check, "--normalisation", "percentile(1,99)"]) == 0
    assert json.loads(capsys.readouterr().out)["thermal_sizes"] == {"64x48": 2}
    assert run_command(mdtrain, "mdtrain", [*check, "--normalisation", "minmax"]) == 2
