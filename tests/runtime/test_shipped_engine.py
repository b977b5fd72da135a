"""The engines in the package: what they promise, and that they keep it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mdrun.command import run_command
from mdrun.engine import Engine
from mdrun.models import default, default_ladder, shipped
from mdrun.street import Street, StreetConfig

MOST_BYTES = 16e6
NAME = "md-r18-slim"
MODELS = {model.name: model for model in shipped()}
JUDGED = {
    "detect": ("person/ap50", 0.6),
    "detect visible only": ("car/ap50", 0.5),
    "segment": ("mean/accuracy", 0.3),
}  # score of each task, and what it must pass
SEGMENTERS = [name for name, model in MODELS.items() if model.manifest.task == "segment"]


@pytest.mark.parametrize("name", MODELS)
def test_it_fits_the_package_and_states_data_terms_command_and_accuracy(name: str) -> None:
    model = MODELS[name]
    assert name == model.manifest.engine_name
    assert model.path.stat().st_size <= MOST_BYTES
    origin = model.manifest.origin
    photographs = [data for data in origin.data if "synthetic" not in data]
    assert origin.data
    assert origin.licence.startswith("research use only" if photographs else "Apache-2.0")
    assert origin.command.startswith("mdtrain train ")
    score, floor = JUDGED[model.manifest.task if "thermal" in model.manifest.needs else "detect visible only"]
    judged = [value for key, value in origin.accuracy.items() if key.partition("/")[2] == score]
    assert judged
    assert min(judged) > floor
    assert model.manifest.parity is not None
    assert model.manifest.parity.passed


def test_the_detector_is_the_default() -> None:
    assert default().stem == NAME
    assert MODELS[NAME].manifest.origin.command.startswith("mdtrain train distill")
    assert any("MSRS" in data for data in MODELS[NAME].manifest.origin.data)


def test_behind_it_stands_one_that_needs_no_thermal_image() -> None:
    assert [path.stem for path in default_ladder()] == [NAME, f"{NAME}-visible_int8"]


def test_the_int8_engine_is_the_same_network_and_says_what_it_loses() -> None:
    single, integer = MODELS[NAME].manifest, MODELS[f"{NAME}_int8"].manifest
    assert integer.origin.checkpoint_sha256 == single.origin.checkpoint_sha256
    assert integer.origin.precision == "int8"
    assert integer.parity is not None
    losses = {name: change.reference - change.engine for name, change in integer.parity.metrics.items()}
    assert set(losses) == {"person/ap50", "mean/ap50"}
    assert max(losses.values()) <= 0.01


@pytest.mark.parametrize("name", [NAME, f"{NAME}_int8"])
def test_it_finds_warm_persons_in_the_dark(name: str) -> None:
    """Persons of a synthetic night street: most of the large ones are found, in the right place."""
    street = Street(StreetConfig(seed=1, time="night"))
    found = wanted = 0
    with Engine.load(name) as engine:
        person = engine.manifest.classes.index("person")
        for time_s in (1.0, 3.0, 5.0):
            labels = street.labels(time_s)
            heights = labels.boxes_xyxy[:, 3] - labels.boxes_xyxy[:, 1]
            large = labels.boxes_xyxy[(labels.classes == 0) & (labels.occlusion < 0.2) & (heights > 60)]
            detections = engine.infer(street.visible(time_s), street.thermal(time_s))
            seen = detections.boxes_xyxy[(detections.classes == person) & (detections.scores > 0.2)]
            centres = (large[:, :2] + large[:, 2:]) / 2
            inside = (centres[:, None] > seen[None, :, :2]) & (centres[:, None] < seen[None, :, 2:])
            found += int(inside.all(2).any(1).sum())
            wanted += len(large)
    assert wanted >= 3
    assert found >= 0.7 * wanted


@pytest.mark.parametrize("name", SEGMENTERS)
def test_it_labels_a_synthetic_night_street(name: str) -> None:
    """Half of the pixels of persons and cars get their class, and what is labelled is mostly right."""
    street = Street(StreetConfig(seed=1, time="night"))
    right = labelled = wanted = 0
    with Engine.load(name) as engine:
        chosen = [engine.manifest.classes.index(kind) for kind in ("person", "car")]
        for time_s in (1.0, 3.0, 5.0):
            truth = street.labels(time_s).label_map
            labels = engine.segment(street.visible(time_s), street.thermal(time_s)).label_map
            assert labels.shape == truth.shape
            right += sum(int(((labels == kind) & (truth == kind)).sum()) for kind in chosen)
            labelled += int(np.isin(labels, chosen).sum())
            wanted += int(np.isin(truth, chosen).sum())
    assert wanted > 0
    assert right >= 0.5 * wanted
    assert right >= 0.5 * labelled


def test_without_its_thermal_image_it_refuses_to_guess(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from mdrun.cli import cli

    arguments = ["--visible", "test://street?frames=3", "--output", str(tmp_path / "run")]
    assert run_command(cli, "mdrun", arguments) == 2
    assert "--thermal" in capfd.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.realdata
def test_it_is_as_accurate_as_its_manifest_says(real_data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """MSRS validation pairs through the runtime, thermal at 160x128."""
    from mdtrain.cli import mdtrain

    folder = str(real_data / "rgbt" / "msrs")
    arguments = ["eval", "msrs", "--data", folder, "--split", "val", "--engine", NAME, "--thermal-size", "160x128"]
    assert run_command(mdtrain, "mdtrain", [*arguments, "--json"]) == 0
    report = json.loads(capfd.readouterr().out)
    with Engine.load(NAME) as engine:
        promised = engine.manifest.origin.accuracy["msrs_val/person/ap50"]
    measured = report["all"]["classes"]["person"]["ap50"]
    assert measured == pytest.approx(promised, abs=0.02)  # resizing differs a little from that of training


@pytest.mark.realdata
def test_stream_folders_of_the_read_me_run(real_data: Path, tmp_path: Path) -> None:
    from mdrun.cli import cli

    found = 0
    for visible, thermal, size in (
        ("stream_vtuav/visible", "stream_vtuav/thermal", (960, 540)),  # from a drone
        ("stream_m3svd/0111_1716/vi", "stream_m3svd/0111_1716/ir", (640, 480)),  # from the ground
    ):
        folder, output = real_data / "rgbt", tmp_path / visible.replace("/", "_")
        arguments = ["--engine", NAME, "--visible", str(folder / visible), "--thermal", str(folder / thermal)]
        assert run_command(cli, "mdrun", [*arguments, "--limit", "5", "--output", str(output)]) == 0
        lines = [json.loads(line) for line in (output / "results.jsonl").read_text().splitlines()]
        assert [line["sequence"] for line in lines] == list(range(5))
        boxes = np.array([d["box_xyxy"] for line in lines for d in line["detections"]]).reshape(-1, 4)
        assert (boxes >= 0).all()
        assert (boxes <= [*size, *size]).all()
        found += len(boxes)
    assert found >= 1
