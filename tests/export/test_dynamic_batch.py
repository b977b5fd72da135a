"""Engines for one pair, and engines that take any number of pairs at once."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from mdexport.cli import mdexport
from mdrun.backends import open_backend
from mdrun.command import run_command
from mdrun.engine import Engine, make_postprocess
from mdrun.frames import Segmentation
from mdrun.manifest import Manifest
from mdrun.onnx_file import read_manifest
from mdtrain.data.batches import MEAN
from tests.export.students import STREET, random_feeds, write_student

pytestmark = pytest.mark.slow  # an export each


class Exported(NamedTuple):
    path: Path
    graph: onnx.GraphProto
    manifest: Manifest

    def shapes(self) -> dict[str, list[str | int]]:
        values = [*self.graph.input, *self.graph.output]
        return {value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim] for value in values}


def export(folder: Path, task: str, *flags: str) -> Exported:
    weights, output = write_student(folder / "weights.safetensors", task), folder / "engine.onnx"
    arguments = [str(weights), "--output", str(output), "--visible", STREET, "--thermal", STREET, "--pairs", "1"]
    assert run_command(mdexport, "mdexport", ["onnx", *arguments, *flags]) == 0
    return Exported(output, onnx.load(output).graph, read_manifest(output))


@pytest.fixture(scope="module", params=["detect", "segment"])
def dynamic(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export(tmp_path_factory.mktemp(request.param), request.param, "--dynamic-batch")


@pytest.fixture(scope="module")
def fixed(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export(tmp_path_factory.mktemp("fixed"), "detect")


def test_without_the_flag_the_batch_is_one(fixed: Exported) -> None:
    assert {shape[0] for shape in fixed.shapes().values()} == {1}


def test_the_first_dimension_has_a_name_and_the_manifest_describes_one_pair(dynamic: Exported) -> None:
    got = dynamic.shapes()
    assert got.keys() == {*dynamic.manifest.inputs, *dynamic.manifest.outputs}
    assert {shape[0] for shape in got.values()} == {"batch"}
    for name, spec in dynamic.manifest.outputs.items():
        assert got[name][1:] == spec.shape[1:]
        assert spec.shape[0] == 1


@pytest.mark.parametrize("batch", [1, 3])
def test_many_at_once_are_each_alone(dynamic: Exported, batch: int) -> None:
    session = onnxruntime.InferenceSession(dynamic.path, providers=["CPUExecutionProvider"])
    feeds, names = random_feeds(dynamic.manifest, batch), list(dynamic.manifest.outputs)
    pairs = [{name: array[index : index + 1] for name, array in feeds.items()} for index in range(batch)]
    alone = [session.run(names, pair) for pair in pairs]
    for index, got in enumerate(session.run(names, feeds)):
        wanted = np.concatenate([outputs[index] for outputs in alone])
        assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)
        assert batch == 1 or (got[0] != got[1]).any()  # another pair, another result


def test_the_runtime_gives_it_one_pair(dynamic: Exported) -> None:
    """And reads what the graph gives for it."""
    pair = random_feeds(dynamic.manifest, 1)
    height, width = pair["visible"].shape[1:3]
    with open_backend(dynamic.path, dynamic.manifest) as backend:
        wanted = make_postprocess(dynamic.manifest, None)(backend.infer(pair), (width, height))
    with Engine.load(dynamic.path) as engine:
        found, _ = engine.run_timed(pair["visible"][0], pair["thermal"][0])
    for name in ("label_map",) if isinstance(found, Segmentation) else ("boxes_xyxy", "scores", "classes"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))


def test_bytes_go_straight_into_their_cast(fixed: Exported, dynamic: Exported) -> None:
    """TensorRT refuses uint8 elsewhere. The mean goes into the bias of the convolution that makes the blocks."""
    for exported in (fixed, dynamic):
        nodes = exported.graph.node
        for name in exported.manifest.inputs:
            assert [node.op_type for node in nodes if name in node.input] == ["Cast"]
        first = next(node for node in nodes if node.op_type == "Conv")
        (bias,) = [numpy_helper.to_array(t) for t in exported.graph.initializer if t.name == first.input[2]]
        np.testing.assert_allclose(bias.reshape(4, 4)[:, :3], np.tile(-MEAN.numpy() * 255, (4, 1)), rtol=1e-6)
