"""Fine-tuning for INT8: it rounds as engines do, leaves an ordinary student, and gives back what INT8 had cost."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization.quant_utils import compute_scale_zp
from torch import Tensor, nn

from mdexport.convert.graph import Graph
from mdexport.convert.int8 import to_int8
from mdexport.convert.ranges import measure_ranges
from mdexport.engine_file import read_engine
from mdexport.gate import box_measures
from mdexport.onnx_export import export_onnx
from mdexport.pairs import intact
from mdexport.proof import run_model
from mdrun.backends.ort import import_onnxruntime
from mdrun.command import run_command
from mdrun.errors import UsageError
from mdtrain import loop
from mdtrain.build import build_student, build_teacher, load_trained
from mdtrain.cli import mdtrain
from mdtrain.config import Config, Int8Target, load_config
from mdtrain.data.records import check_records
from mdtrain.data.sets import read_set
from mdtrain.models.streams import Student
from mdtrain.models.vgg import VGGStem
from mdtrain.quantise import FirstConv, Int8Conv, plain_weights, quantise, round_input, round_weight
from mdtrain.recipes import baseline, teacher
from mdtrain.recipes import quantise as recipe
from mdtrain.state import save_weights
from mdtrain.tasks import Evaluation
from tests.export.students import STREET, write_student
from tests.training.test_recipes import TINY, tiny
from tests.training.test_train_cli import flags
from tests.training.tree import write_mfnet, write_msrs

SEGMENT = ("task=segment", "model.decoder=16", "data.sets=[mfnet]", "data.validation=mfnet")


def in_onnx(x: NDArray[np.float32], scale: NDArray[np.float32], zero_point: NDArray[np.generic]) -> Tensor:
    """QuantizeLinear and DequantizeLinear in ONNX Runtime; one scale for all, or one for each first index."""
    weights = [numpy_helper.from_array(scale, "scale"), numpy_helper.from_array(zero_point, "zero")]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], axis=0),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"], axis=0),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, x.shape) for name in "xy"]
    graph = helper.make_graph(nodes, "rounding", values[:1], values[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    session = import_onnxruntime().InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["y"], {"x": x})[0])


def grid(low: float, high: float, kind: type[np.generic], least: int, most: int, *, symmetric: bool) -> list[NDArray]:
    """Scale and zero point that ONNX Runtime's quantiser gives a range."""
    limits = (np.array(value, kind) for value in (least, most))
    zero_point, scale = compute_scale_zp(np.float32(low), np.float32(high), *limits, symmetric=symmetric)
    return [np.asarray(scale, np.float32), np.asarray(zero_point, kind)]


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
@pytest.mark.parametrize(
    ("low", "high"),
    [
        (0.0, 6.1),  # behind a ReLU
        (-1.3, 4.2),
        (-3.0, 0.0),  # nothing above zero
        (0.0, 0.0),  # a dead map
    ],
)
def test_an_input_is_rounded_as_onnx_does(low: float, high: float, target: Int8Target) -> None:
    x = torch.empty(1, 3, 40, 40).uniform_(low - 0.5, high + 0.5, generator=torch.Generator().manual_seed(0))
    symmetric = target == "tensorrt"
    kind, least, most = (np.int8, -127, 127) if symmetric else (np.uint8, 0, 255)
    wanted = in_onnx(x.clamp(low, high).numpy(), *grid(low, high, kind, least, most, symmetric=symmetric))
    got = round_input(x.clamp(low, high), torch.tensor([-low, high]), target)
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-6)
    if low < high:
        step = float(grid(low, high, kind, least, most, symmetric=symmetric)[0])
        assert step / 4 < (got - x.clamp(low, high)).abs().max() <= step * 0.5001


def test_a_kernel_is_rounded_as_onnx_does_each_channel_by_its_own_scale() -> None:
    weight = torch.randn(5, 3, 3, 3, generator=torch.Generator().manual_seed(0)) * torch.logspace(-3, 2, 5)[:, None, None, None]
    weight[4] = 0  # a dead channel
    grids = [grid(float(c.min()), float(c.max()), np.int8, -127, 127, symmetric=True) for c in weight]
    scale, zero_point = (np.stack(values) for values in zip(*grids, strict=True))
    torch.testing.assert_close(round_weight(weight), in_onnx(weight.numpy(), scale, zero_point), rtol=1e-6, atol=0)


def test_a_kernel_may_be_rounded_before_its_batch_norm_is_folded_in() -> None:
    weight = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    folded = torch.tensor([0.5, -2.0, 4.0, -0.25])[:, None, None, None]  # gamma / deviation, of either sign
    assert torch.equal(round_weight(weight * folded), round_weight(weight) * folded)


def test_gradients_pass_straight_through() -> None:
    """As if nothing were rounded; but what is clipped has none."""
    x = torch.linspace(-2, 2, 41, requires_grad=True)
    round_input(x, torch.tensor([1.0, 1.5]), "cpu").sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, ((x > -1.01) & (x < 1.51)).float())
    weight = torch.randn(4, 3, 3, 3, requires_grad=True)
    upstream = torch.randn(4, 3, 3, 3)
    round_weight(weight).backward(upstream)
    assert weight.grad is not None
    assert torch.equal(weight.grad, upstream)


def test_a_range_widens_at_once_and_fades_slowly() -> None:
    conv = Int8Conv(nn.Conv2d(1, 1, 1), "cpu")
    conv(torch.tensor([-1.0, 8.0]).reshape(1, 1, 1, 2))
    assert torch.equal(conv.reach, torch.tensor([1.0, 8.0]))
    conv(torch.tensor([-3.0, 4.0]).reshape(1, 1, 1, 2))
    torch.testing.assert_close(conv.reach, torch.tensor([3.0, 8 - 0.02 * 4]))
    conv.eval()(torch.full((1, 1, 1, 2), 99.0))
    assert float(conv.reach[0]) == 3  # an evaluation learns nothing


def network(*settings: str) -> tuple[Config, Student]:
    torch.manual_seed(0)
    config = load_config(None, (*TINY, *settings))
    return config, build_student(config)


@pytest.mark.parametrize("inputs", ["both", "visible"])
def test_the_first_kernel_is_rounded_as_the_engine_has_it(inputs: str) -> None:
    """What it stands for is the same convolution; one step of its grid is one of the engine's."""
    _, student = network(f"inputs={inputs}")
    plain = student.stem.first
    first = FirstConv(plain, "cpu")
    image = student.fuse_images(torch.randn(2, 3, 64, 96), torch.randn(2, 1, 16, 24))
    scale = first.scale.flatten()
    assert len(scale) == (4 if inputs == "both" else 3)
    wanted, got = plain(image), first(image)
    assert 0 < float((got - wanted).abs().max()) < 0.03 * float(wanted.abs().max())
    image = torch.zeros_like(image)  # and the last channels are read once
    image[:, -1] = 1
    assert not first(image).any() or inputs == "visible"


@pytest.mark.parametrize("settings", [(), SEGMENT, ("model.backbone=vgg16",), (*SEGMENT, "model.imitates=24")])
def test_what_an_engine_keeps_is_rounded_and_the_keys_stay(settings: tuple[str, ...]) -> None:
    _, student = network(*settings)
    before = student.state_dict()
    quantise(student, "cpu")
    after = student.state_dict()
    assert list(plain_weights(after)) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    plain = {name.partition(".")[0] if "head" not in name else "head.auxiliary" for name, module in student.named_modules() if isinstance(module, nn.Conv2d)}
    wanted = {"attention"} | ({"head.auxiliary"} if "task=segment" in settings else set())
    assert plain == wanted | ({"adapter"} if student.adapter else set())
    assert sum(isinstance(module, FirstConv) for module in student.modules()) == 1


def test_only_students_are_rounded() -> None:
    with pytest.raises(UsageError, match="quantise=cpu wants a student, got a Teacher"):
        quantise(build_teacher(network()[0]), "cpu")


def test_a_segmenter_says_what_its_int8_engine_says(tmp_path: Path) -> None:
    """Ranges of one scene; inputs of convolutions are all that an engine for TensorRT rounds."""
    weights = write_student(tmp_path / "weights.safetensors", "segment")
    export_onnx(weights, tmp_path / "engine.onnx", STREET, STREET, 2)
    engine = read_engine(tmp_path / "engine.onnx")
