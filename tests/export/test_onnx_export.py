"""Exports of really trained (tiny) students."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mdexport import onnx_export
from mdexport.cli import mdexport
from mdexport.deploy import rewrite_first
from mdexport.onnx_export import export_onnx
from mdexport.parity import LIMITS, compared_boxes, difference
from mdexport.recordings import Recording
from mdrun.command import run_command
from mdrun.engine import Engine
from mdrun.errors import EngineError, UsageError
from mdrun.manifest import METADATA_KEY, Manifest, parse_manifest
from mdrun.onnx_file import read_manifest
from mdtrain.build import load_trained
from mdtrain.contract import draft_manifest
from mdtrain.models.streams import Student
from mdtrain.recipes import baseline
from tests.training.test_recipes import tiny


@pytest.fixture(scope="module", params=["both", pytest.param("visible", marks=pytest.mark.slow)])
def weights(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    config = tiny(folder, f"inputs={request.param}", "name=tiny")
    return baseline.train(config, folder / "run", "mdtrain train baseline").weights


def sources(weights: Path) -> tuple[str, str]:
    root = weights.parent.parent / "data" / "msrs"
    return str(root / "vi"), str(root / "ir")


@pytest.fixture(scope="module")
def exported(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    output = tmp_path_factory.mktemp("exported") / "student.onnx"
    return output, export_onnx(weights, output, *sources(weights), pairs=4)


def test_export_carries_manifest_and_parity(exported: tuple[Path, Manifest]) -> None:
    output, manifest = exported
    model = onnx.load(output)
    (embedded,) = [p.value for p in model.metadata_props if p.key == METADATA_KEY]
    assert parse_manifest(embedded, "file") == manifest
    assert model.graph.name == manifest.network_name()
    assert manifest.parity is not None
    assert manifest.parity.passed
    assert manifest.parity.pairs == 4
    assert manifest.origin.precision == "fp32"
    assert list(output.parent.iterdir()) == [output]


@pytest.mark.slow
def test_other_backbones_and_heads_export_with_parity(tmp_path: Path) -> None:
    """VGG-16, two towers, nine anchors on five levels, an adapter that must not reach the graph."""
    others = ("model.backbone=vgg16", "model.shared_tower=false", "model.anchors=9", "model.levels=5")
    config = tiny(tmp_path, *others, "model.imitates=24", "optimiser.iterations=2")
    run = baseline.train(config, tmp_path / "run", "mdtrain train baseline")
    manifest = export_onnx(run.weights, tmp_path / "vgg.onnx", *sources(run.weights), pairs=2)
    assert manifest.parity is not None
    assert manifest.parity.passed
    names = {tensor.name for tensor in onnx.load(tmp_path / "vgg.onnx").graph.initializer}
    assert not [name for name in names if "adapter" in name or "attention" in name]


def test_a_thermal_only_student_is_no_engine(tmp_path: Path) -> None:
    config = tiny(tmp_path, "inputs=thermal", "optimiser.iterations=1")
    run = baseline.train(config, tmp_path / "run", "mdtrain train baseline")
    with pytest.raises(UsageError, match="inputs=thermal"):
        export_onnx(run.weights, tmp_path / "student.onnx", *sources(run.weights), pairs=1)
    assert not (tmp_path / "student.onnx").exists()


def test_the_runtime_loads_the_export(weights: Path, exported: tuple[Path, Manifest]) -> None:
    output, _ = exported
    visible_dir, thermal_dir = sources(weights)
    visible = cv2.imread(f"{visible_dir}/00005D.jpg")
    thermal = cv2.imread(f"{thermal_dir}/00005D.jpg", cv2.IMREAD_GRAYSCALE)
    assert visible is not None
    assert thermal is not None
    with Engine.load(output, threshold=0.0) as engine:
        detections = engine.infer(visible[..., ::-1].astype(np.uint8), thermal.astype(np.uint8))
    assert len(detections) > 0
    assert (np.diff(detections.scores) <= 0).all()
    assert (detections.boxes_xyxy >= 0).all()


@pytest.mark.slow
def test_two_exports_are_the_same_file(weights: Path, exported: tuple[Path, Manifest], tmp_path: Path) -> None:
    export_onnx(weights, tmp_path / "again.onnx", *sources(weights), pairs=4)
    assert (tmp_path / "again.onnx").read_bytes() == exported[0].read_bytes()


def test_the_file_holds_no_path_of_the_exporting_machine(weights: Path, exported: tuple[Path, Manifest]) -> None:
    content = exported[0].read_bytes()
    assert str(Path(torch.__file__).parent).encode() not in content
    assert str(weights.parent.parent).encode() not in content


def test_a_graph_that_differs_is_not_written(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def shifted(student: Student) -> torch.nn.Module:
        first = rewrite_first(student)
        for weight in first.parameters():
            weight.data *= 1.5
        return first

    monkeypatch.setattr("mdexport.deploy.rewrite_first", shifted)
    visible, thermal = sources(weights)
    command = ["onnx", str(weights), "--visible", visible, "--thermal", thermal, "--pairs", "2", "--json"]
    assert run_command(mdexport, "mdexport", [*command, "--output", str(tmp_path / "student.onnx")]) == 3
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert (report["passed"], report["path"], report["digest"]) == (False, None, None)
    assert any(report["max_abs"][name] > limit for name, limit in report["limits"].items())
    assert "the exported graph differs from the checkpoint" in said.err
    assert list(tmp_path.iterdir()) == []
    command += ["--output", str(tmp_path / "student.onnx"), "--accept", "to look at"]
    assert run_command(mdexport, "mdexport", command) == 0
    accepted = read_manifest(tmp_path / "student.onnx")
    assert accepted.parity is not None
    assert (accepted.parity.passed, accepted.parity.accepted) == (False, "to look at")
    assert "--accept 'to look at'" in json.loads(capsys.readouterr().out)["doubt"]


def test_difference_forgives_swapped_ranks_but_not_moved_boxes() -> None:
    boxes = np.array([[0, 0, 10, 10], [50, 50, 60, 60]], np.float32)
    scores, classes = np.array([0.9, 0.9], np.float32), np.array([0, 0])
    swapped = (boxes[::-1], scores, classes)
    assert difference((boxes, scores, classes), swapped) == {"scores": 0.0, "boxes_px": 0.0}
    moved = (boxes + np.float32(2.0), scores, classes)
    assert difference((boxes, scores, classes), moved)["boxes_px"] > LIMITS["boxes_px"]
    assert difference((boxes, scores, classes), (boxes, scores, classes + 1))["boxes_px"] == float("inf")


def test_boxes_are_compared_where_a_network_finds_nothing() -> None:
    """Scores that never reach a result: the best of them have boxes all the same."""
    boxes = np.array([[10 * i, 0, 10 * i + 10, 10] for i in range(20)], np.float32)
    scores, classes = np.linspace(2e-3, 1e-4, 20).astype(np.float32), np.zeros(20, np.int64)
    assert difference((boxes, scores, classes), (boxes, scores, classes)) == {"scores": 0.0, "boxes_px": 0.0}
    shifted = boxes + np.array([10, 0, 10, 0], np.float32)  # where the next box was
    assert difference((boxes, scores, classes), (shifted, scores, classes))["boxes_px"] == 10
    assert difference((boxes, scores, classes), (boxes, scores, classes + 1))["boxes_px"] == float("inf")


@pytest.mark.parametrize("best", [1e-4, 1e-6, 1e-8])
def test_scores_that_rounding_moves_find_their_boxes(best: float) -> None:
    """Sigmoids of two libraries differ by 1e-7, which may be more than such a score."""
    boxes = np.array([[10 * i, 0, 10 * i + 10, 10] for i in range(20)], np.float32)
    scores, classes = np.geomspace(best, best / 100, 20).astype(np.float32), np.zeros(20, np.int64)
    got = (boxes, scores + np.float32(1e-7), classes)
    assert difference((boxes, scores, classes), got)["boxes_px"] == 0


def test_a_head_without_weights_has_no_boxes_to_compare() -> None:
    """All scores are equal, so any K of its boxes may be the best."""
    scores = np.full(20, 0.0099, np.float32)
    assert compared_boxes(scores, scores) == 0
    assert compared_boxes(scores + np.float32(0.5), scores + np.float32(0.5)) == 20
    boxes, classes = np.zeros((20, 4), np.float32), np.zeros(20, np.int64)
    assert difference((boxes, scores, classes), (boxes + 80, scores, classes))["boxes_px"] == 0


def test_difference_forgives_another_box_in_the_last_place_only() -> None:
    """As six of 149 pairs of RoadScene have it, with a network whose scores are nearly all the same."""
    boxes = np.array([[0, 0, 10, 10], [20, 20, 30, 30], [50, 50, 60, 60]], np.float32)
    scores, classes = np.array([0.0140, 0.0130, 0.01251792], np.float32), np.array([0, 0, 0])
    for place, forgiven in ((0, False), (1, False), (2, True)):
        other = boxes.copy()
        other[place] += 8
        got = (other, scores - np.array([0, 0, 2e-8], np.float32), classes)
        for one, two in (((boxes, scores, classes), got), (got, (boxes, scores, classes))):
            assert (difference(one, two)["boxes_px"] == 0) is forgiven


def test_a_graph_that_gives_nan_has_no_parity() -> None:
    boxes, scores, classes = np.zeros((2, 4), np.float32), np.array([0.9, 0.8], np.float32), np.array([0, 0])
    broken = np.full_like(boxes, np.nan)
    assert difference((boxes, scores, classes), (broken, scores, classes)) == dict.fromkeys(LIMITS, float("inf"))


def test_fewer_pairs_than_asked_for_are_an_error(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "_graph", lambda *_, **__: pytest.fail("found after tracing"))
    with pytest.raises(UsageError, match="ask for fewer"):
        export_onnx(weights, tmp_path / "s.onnx", *sources(weights), pairs=100)
    assert list(tmp_path.iterdir()) == []


def test_command_line(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    visible, thermal = sources(weights)
    arguments = [
        "onnx",
        str(weights),
        "--output",
        str(tmp_path / "s.onnx"),
        "--visible",
        visible,
        "--thermal",
        thermal,
        "--pairs",
        "3",
    ]
    assert run_command(mdexport, "mdexport", [*arguments, "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["passed"] is True
    assert not said.err


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["--output", "s.onnx", "--visible", "test://street"], 2, "got --visible without --thermal"),
        (["--output", "s.onnx", "--thermal", "test://street"], 2, "got --thermal without --visible"),
        (["--output", "file/s.onnx"], 6, "file"),
        (["--output", "folder"], 6, "is a folder"),
        (["--output", "/proc/none/s.onnx"], 6, "/proc/none"),
    ],
)
def test_bad_input(
    arguments: list[str],
    code: int,
    named: str,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def too_late(*_: object) -> None:
        pytest.fail("found after the export began")

    monkeypatch.setattr("mdexport.onnx_export._graph", too_late)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder").mkdir()
    assert run_command(mdexport, "mdexport", ["onnx", str(weights), *arguments]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert named in line
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder"}


@pytest.mark.parametrize(
    ("facts", "named"),
    [
        ("{broken", "Invalid JSON"),
        ("[]", "facts: Input should be an object"),
        ("{}", "command: Field required; accuracy: Field required; display_score: Field required"),
        ('{"command": "x", "accuracy": {"a": "high"}, "display_score": 2}', "display_score: Input should be less"),
    ],
)
def test_weights_without_the_facts_of_a_run(facts: str, named: str, weights: Path, tmp_path: Path) -> None:
    with safe_open(weights, "pt") as file:
        metadata = file.metadata() | {"facts": facts}
    path = tmp_path / "weights.safetensors"
    save_file(load_file(weights), path, metadata)
    with pytest.raises(EngineError, match=r"weights\.safetensors: the facts") as caught:
        export_onnx(path, tmp_path / "s.onnx", *sources(weights), pairs=1)
    assert named in str(caught.value)
    assert not (tmp_path / "s.onnx").exists()


def test_weights_of_another_version_are_told_by_key_and_value(weights: Path, tmp_path: Path) -> None:
    with safe_open(weights, "pt") as file:
        metadata = file.metadata()
    config = json.loads(metadata["config"])
    config["model"]["size"] = "huge"
    path = tmp_path / "weights.safetensors"
    save_file(load_file(weights), path, metadata | {"config": json.dumps(config)})
    with pytest.raises(EngineError, match=r"another version .* \(model\.size: Input should be .*, got 'huge'\)"):
        load_trained(path)


def draft(weights: Path) -> Manifest:
    trained = load_trained(weights, "student")
    return draft_manifest(trained.config, trained.model.state_dict(), trained.facts)


def write_numbered(root: Path, frames: int) -> tuple[str, str]:
    """Folders whose visible image number i is 10 i red."""
    for part in ("vi", "ir"):
        (root / part).mkdir()
    for index in range(frames):
        cv2.imwrite(str(root / "vi" / f"{index}.png"), np.full((96, 128, 3), (90, 40, 10 * index), np.uint8))
        cv2.imwrite(str(root / "ir" / f"{index}.png"), np.full((24, 32), 90, np.uint8))
    return str(root / "vi"), str(root / "ir")


@pytest.mark.parametrize(
    ("frames", "pairs", "kept"),
    [
        (6, 6, [0, 1, 2, 3, 4, 5]),  # all
        (6, 2, [0, 4]),  # every second was kept: 0, 2, 4
        (6, 1, [0]),  # every fourth: 0, 4
    ],
)
def test_parity_pairs_are_evenly_spread(
    frames: int, pairs: int, kept: list[int], weights: Path, tmp_path: Path
) -> None:
    feeds = onnx_export._feeds(draft(weights), Recording(*write_numbered(tmp_path, frames)), pairs)
    assert [int(feed.visible[0, 0, 0, 0]) // 10 for feed in feeds] == kept


def test_an_endless_source_ends(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_export, "MOST_FRAMES", 20)
    endless = Recording(*(f"{folder}?loop=-1" for folder in write_numbered(tmp_path, 3)))
    assert len(onnx_export._feeds(draft(weights), endless, 2)) == 2
    with pytest.raises(UsageError, match="hold 20 pairs within 20 frames, --pairs asks for 50"):
        onnx_export._feeds(draft(weights), endless, 50)
