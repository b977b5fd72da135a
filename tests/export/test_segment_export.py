"""A segmenter from a real short training to a graph that the runtime runs."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from mdexport import parity
from mdexport.gate import GateError
from mdexport.onnx_export import export_onnx
from mdrun.cli import cli
from mdrun.command import run_command
from mdrun.engine import Engine
from mdrun.onnx_file import read_manifest
from mdrun.street.config import LABEL_NAMES
from mdtrain.build import load_trained
from mdtrain.data.sets.street import read_street
from mdtrain.data.street_set import write_street_set
from mdtrain.models.streams import Student
from mdtrain.recipes import baseline
from mdtrain.state import save_weights
from tests.training.test_segment import config_of


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("segment")
    for _ in write_street_set(root / "street", scenes=3, seed=3, validation=1):
        pass
    run = baseline.train(config_of(root / "street", "optimiser.iterations=2"), root / "run", "mdtrain train baseline")
    trained = load_trained(run.weights, "student")
    torch.manual_seed(0)
    # a short training knows the background only; other weights of the classifier give maps of all classes
    trained.model.get_submodule("head.classify").get_parameter("weight").data.normal_()
    save_weights(run.weights, trained.model, trained.config, trained.kind, trained.facts)
    return run.weights


def read_pair(weights: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The first pair at network size."""
    record = read_street(weights.parent.parent / "street", "train")[0]
    visible = cv2.resize(record.visible, (128, 96), interpolation=cv2.INTER_AREA)
    thermal = cv2.resize(record.thermal, (32, 24), interpolation=cv2.INTER_AREA)
    return np.asarray(visible, np.uint8), np.asarray(thermal, np.uint8)


def sources(weights: Path) -> tuple[str, str]:
    street = weights.parent.parent / "street"
    return str(street / "vi"), str(street / "ir")


@pytest.fixture(scope="module")
def exported(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("exported") / "segment.onnx"
    export_onnx(weights, output, *sources(weights), pairs=3)
    return output


def test_the_graph_follows_the_checkpoint(exported: Path) -> None:
    manifest = read_manifest(exported)
    assert (manifest.task, manifest.classes) == ("segment", list(LABEL_NAMES))
    assert manifest.parity is not None
    assert manifest.parity.passed
    assert manifest.parity.limits == {"labels": 1e-4, "energy": 1e-3}
    assert manifest.parity.pairs == 3


def test_the_energy_is_that_of_the_checkpoint_and_its_threshold_travels(weights: Path, exported: Path) -> None:
    manifest = read_manifest(exported)
    small, low = read_pair(weights)
    with Engine.load(exported) as engine:
        energy = engine.segment(small, low).energy
    student = load_trained(weights, "student").model
    assert isinstance(student, Student)
    _, wanted = parity.reference_labels(student, parity.Feed(small[None], low[None]))
    assert energy == pytest.approx(float(wanted[0]), abs=1e-4)
    assert manifest.energy is not None
    assert set(manifest.energy) == {"fp32"}
    assert math.isfinite(manifest.energy["fp32"])


def test_nothing_of_the_training_reaches_the_graph(exported: Path) -> None:
    """No auxiliary head, no dropout, no adaptive pooling: an engine library without them runs it."""
    graph = onnx.load(exported).graph
    assert not [tensor.name for tensor in graph.initializer if "auxiliary" in tensor.name]
    kinds = {node.op_type for node in graph.node}
    assert "MatMul" in kinds
    assert "ArgMax" in kinds
    assert not kinds & {"Dropout", "AveragePool", "GlobalAveragePool", "Loop", "If"}


@pytest.mark.slow
@pytest.mark.parametrize("stride", [8, 32])
def test_other_strides_and_a_visible_only_student(stride: int, weights: Path, tmp_path: Path) -> None:
    street = weights.parent.parent / "street"
    settings = (f"model.output_stride={stride}", "inputs=visible", "optimiser.iterations=1", "evaluate_every=1")
    run = baseline.train(config_of(street, *settings), tmp_path / "run", "mdtrain train baseline")
    manifest = export_onnx(run.weights, tmp_path / "segment.onnx", *sources(weights), pairs=1)
    assert manifest.needs == ["visible"]
    assert manifest.parity is not None
    assert manifest.parity.passed


def test_the_runtime_gives_the_labels_of_the_checkpoint(weights: Path, exported: Path) -> None:
    small, low = read_pair(weights)
    with Engine.load(exported) as engine:
        found = engine.segment(small, low).label_map
    student = load_trained(weights, "student").model
    assert isinstance(student, Student)
    wanted, _ = parity.reference_labels(student, parity.Feed(small[None], low[None]))
    assert found.shape == (96, 128)
    assert (found != wanted).mean() <= 1e-4
    assert len(np.unique(found)) > 3


def test_mdrun_writes_label_maps(weights: Path, exported: Path, tmp_path: Path) -> None:
    visible, thermal = sources(weights)
    arguments = ["--engine", str(exported), "--visible", visible, "--thermal", thermal]
    assert run_command(cli, "mdrun", [*arguments, "--output", str(tmp_path / "out"), "--no-overlay"]) == 0
    maps = sorted((tmp_path / "out" / "labels").iterdir())
    assert len(maps) == 4
    label_map = cv2.imread(str(maps[0]), cv2.IMREAD_UNCHANGED)
    assert label_map is not None
    assert label_map.shape[:2] == (480, 640)


@pytest.mark.slow
def test_a_graph_that_differs_is_not_written(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def other_labels(student: Student, feed: parity.Feed) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        return np.full((96, 128), -1, np.int64), np.zeros(1, np.float32)  # a class that no graph gives

    monkeypatch.setattr(parity, "reference_labels", other_labels)
    with pytest.raises(GateError, match=r"labels 1\.00e\+00 \(limit 0\.0001\)"):
        export_onnx(weights, tmp_path / "segment.onnx", *sources(weights), pairs=1)
    assert not (tmp_path / "segment.onnx").exists()
