"""Fine-tuning for INT8: it rounds as engines do, leaves an ordinary student, and gives back what INT8 had cost."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization.quant_utils import compute_scale_zp
from torch import Tensor, nn

from mdexport.convert.int8 import to_int8
from mdexport.convert.ranges import measure_ranges
from mdexport.engine_file import read_engine
from mdexport.gate import box_measures
from mdexport.onnx_export import export_onnx
from mdexport.pairs import Scene, intact
from mdexport.proof import run_model
from mdrun.backends.base import Feeds
from mdrun.backends.ort import import_onnxruntime
from mdrun.command import run_command
from mdrun.errors import UsageError
from mdtrain import loop
from mdtrain.build import build_student, build_teacher, load_trained
from mdtrain.cli import mdtrain
from mdtrain.config import Config, Int8Target, load_config
from mdtrain.data.batches import normalise_thermal, normalise_visible
from mdtrain.data.records import Record
from mdtrain.data.sets import read_set
from mdtrain.models.streams import Student
from mdtrain.models.vgg import VGGStem
from mdtrain.quantise import FirstConv, Int8Conv, plain_weights, quantise, round_input, round_weight
from mdtrain.recipes import baseline, teacher
from mdtrain.recipes import quantise as recipe
from mdtrain.state import read_checkpoint, save_weights
from mdtrain.tasks import Evaluation
from tests.export.students import STREET, random_feeds, write_student
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


def grid(
    low: float, high: float, kind: type[np.generic], least: int, most: int, *, symmetric: bool
) -> list[NDArray[Any]]:
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
    weight = (
        torch.randn(5, 3, 3, 3, generator=torch.Generator().manual_seed(0))
        * torch.logspace(-3, 2, 5)[:, None, None, None]
    )
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
    (gradient,) = torch.autograd.grad(round_input(x, torch.tensor([1.0, 1.5]), "cpu").sum(), x)
    assert torch.equal(gradient, ((x > -1.01) & (x < 1.51)).float())
    weight = torch.randn(4, 3, 3, 3, requires_grad=True)
    upstream = torch.randn(4, 3, 3, 3)
    (gradient,) = torch.autograd.grad(round_weight(weight), weight, upstream)
    assert torch.equal(gradient, upstream)


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


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        ((), ["attention"]),
        (("model.backbone=vgg16", "inputs=visible"), ["attention"]),
        ((*SEGMENT, "model.imitates=24"), ["head.auxiliary.0.0", "head.auxiliary.3", "attention", "adapter"]),
    ],
)
def test_what_an_engine_keeps_is_rounded_and_the_keys_stay(settings: tuple[str, ...], left: list[str]) -> None:
    _, student = network(*settings)
    before = student.state_dict()
    quantise(student, "cpu")
    after = student.state_dict()
    assert list(plain_weights(after)) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    plain = [name for name, module in student.named_modules() if isinstance(module, nn.Conv2d)]
    assert plain == left
    assert isinstance(student.stem.first, FirstConv)


def test_only_students_are_rounded() -> None:
    with pytest.raises(UsageError, match="quantise=cpu wants a student, got a Teacher"):
        quantise(build_teacher(network()[0]), "cpu")


@pytest.mark.slow
def test_a_segmenter_says_what_its_int8_graph_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On scenes with their own ranges. For TensorRT, where an engine rounds nothing besides.

    Where a value lies in the middle of two steps the last bit decides, and all that follows is another rounding. So
    not every scene is the same to the last digit, but most are.
    """
    weights = write_student(tmp_path / "weights.safetensors", "segment")
    trained = load_trained(weights, "student")
    for module in trained.model.modules():
        if isinstance(module, nn.BatchNorm2d):  # so that residual branches, which start at zero, have their say
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    save_weights(weights, trained.model, trained.config, "student", trained.facts)
    export_onnx(weights, tmp_path / "engine.onnx", STREET, STREET, 2)
    engine = read_engine(tmp_path / "engine.onnx")
    differences = []
    scenes = random_feeds(engine.manifest, 5)
    for index in range(5):
        feeds = {name: array[index : index + 1] for name, array in scenes.items()}
        ranges = measure_ranges(engine.model, [Scene(feeds, cast("Record", None), "noise")])
        int8 = to_int8(engine.model, ranges, "tensorrt", frozenset(copies(engine.model)))
        plain, rounded = logits(load_trained(weights).model, feeds, monkeypatch)
        assert float((rounded - plain).abs().mean()) > 0.1
        differences.append(float((rounded - last_convolution(int8, feeds)).abs().max()))
    assert float(np.median(differences)) < 1e-3


def logits(student: nn.Module, feeds: Feeds, monkeypatch: pytest.MonkeyPatch) -> tuple[Tensor, Tensor]:
    """What a segmenter says to a scene, plain and rounded, once it knows the scene's ranges."""
    scene = normalise_visible(torch.from_numpy(feeds["visible"])), normalise_thermal(torch.from_numpy(feeds["thermal"]))
    with torch.no_grad():
        plain: Tensor = student(*scene).output.logits
        quantise(student, "tensorrt")
        with monkeypatch.context() as patch:
            patch.setattr("mdtrain.quantise.round_input", lambda x, *_: x)
            patch.setattr("mdtrain.quantise.round_weight", lambda weight: weight)
            for module in student.modules():
                module.training = isinstance(module, Int8Conv)
            torch.testing.assert_close(student(*scene).output.logits, plain, rtol=1e-4, atol=1e-4)
        rounded: Tensor = student.eval()(*scene).output.logits
    return plain, rounded


def copies(model: onnx.ModelProto) -> list[str]:
    """Convolutions that only move pixels: an engine must not round the image twice."""
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    return [node.name for node in convolutions if np.isin(weights[node.input[1]], (0, 1)).all()]


def last_convolution(model: onnx.ModelProto, feeds: Feeds) -> Tensor:
    """What it gives where every node runs as it is written: fused kernels round a sum elsewhere."""
    name = [node.output[0] for node in model.graph.node if node.op_type == "Conv"][-1]
    model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    library = import_onnxruntime()
    options = library.SessionOptions()
    options.graph_optimization_level = library.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = library.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run([name], dict(feeds))[0])


def short(*more: str) -> tuple[str, ...]:
    return ("optimiser.iterations=4", "optimiser.warmup=1", "evaluate_every=2", *more)


def finished(tmp_path: Path, *settings: str) -> Path:
    """Weights of a student of two iterations, whose batch norms have seen something."""
    write_mfnet(tmp_path / "data" / "mfnet")
    config = tiny(tmp_path, *settings, "optimiser.iterations=2", "optimiser.batch_size=4", "name=gate")
    return baseline.train(config, tmp_path / "student", "mdtrain train baseline").weights


@pytest.mark.parametrize("settings", [(), SEGMENT], ids=["detect", "segment"])
@pytest.mark.parametrize("taught", [True, False])
def test_it_leaves_an_ordinary_student(settings: tuple[str, ...], taught: bool, tmp_path: Path) -> None:
    start = finished(tmp_path, *settings)
    of_teacher = None
    if taught:
        of_teacher = teacher.train(tiny(tmp_path, *settings), tmp_path / "teacher", "mdtrain train teacher").weights
    run = recipe.train(start, short(), of_teacher, tmp_path / "run", "mdtrain train quantise --start student")
    before, after = load_trained(start, "student"), load_trained(run.weights, "student")
    own, learnt = before.model.state_dict(), after.model.state_dict()
    assert list(learnt) == list(own)
    for name in own:
        statistics = name.rpartition(".")[2].startswith(("running", "num_batches"))
        assert torch.equal(learnt[name], own[name]) is (statistics or (name.startswith("attention") and not taught))
    assert (after.config.name, after.config.quantise, after.config.precision) == ("gate", "cpu", "32-true")
    assert after.config.model == before.config.model
    assert after.facts["command"] == "mdtrain train quantise --start student"
    assert ("teacher_sha256" in after.facts) is taught
    losses = {row["name"] for row in csv.DictReader((run.folder / "metrics.csv").open())}
    assert "minutes" in losses


def test_a_killed_run_continues_to_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ranges are in the checkpoint."""
    start = finished(tmp_path, *SEGMENT)
    whole = recipe.train(start, short(), None, tmp_path / "whole", "mdtrain")
    validate, calls = loop.Session.validate, []

    def killed(session: loop.Session) -> Evaluation:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return validate(session)

    monkeypatch.setattr(loop.Session, "validate", killed)
    with pytest.raises(KeyboardInterrupt):
        recipe.train(start, short(), None, tmp_path / "killed", "mdtrain")
    monkeypatch.undo()
    continued = recipe.train(start, short(), None, tmp_path / "killed", "mdtrain", resume=True)
    ends = [read_checkpoint(run.folder / "checkpoints" / "last.ckpt") for run in (whole, continued)]
    assert any(name.endswith("reach") and value.any() for name, value in ends[0]["average"].items())
    for part in ("model", "average"):
        assert all(torch.equal(value, ends[1][part][name]) for name, value in ends[0][part].items())
    with pytest.raises(UsageError, match="quantise was cpu, is tensorrt"):
        recipe.train(start, short("quantise=tensorrt"), None, tmp_path / "killed", "mdtrain", resume=True)


@pytest.mark.slow
def test_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    start = finished(tmp_path)
    monkeypatch.chdir(tmp_path)
    arguments = ["train", "quantise", "--start", str(start), "--output", "run", "--iterations", "1"]
    assert run_command(mdtrain, "mdtrain", [*arguments, "--dry-run"]) == 0
    assert "Plan of a student" in capfd.readouterr().out
    assert not Path("run").exists()
    assert run_command(mdtrain, "mdtrain", [*arguments, "--target", "tensorrt"]) == 0
    assert load_trained(Path("run", "weights.safetensors")).config.quantise == "tensorrt"
    capfd.readouterr()
    plain = ["train", "baseline", "--output", "other", *flags(*TINY, "quantise=cpu", f"data.root={tmp_path / 'data'}")]
    assert run_command(mdtrain, "mdtrain", plain) == 2
    assert "quantise=cpu fine-tunes a finished student, got none; name it with --start" in capfd.readouterr().err
    assert run_command(mdtrain, "mdtrain", [*plain, "--start", str(start)]) == 0  # the recipes can do it as well


@torch.no_grad()
def spoil(student: Student) -> None:
    """The same function, but each kernel's grid is set by one input, 200 times smaller than before: the weightiest."""
    assert isinstance(student.stem, VGGStem)
    norms = [layer for layer in student.stem.features if isinstance(layer, nn.BatchNorm2d)]
    convs = [layer for layer in student.stem.features if isinstance(layer, nn.Conv2d)]
    for norm, conv in zip(norms[:-1], convs[1:], strict=True):
        channel = int(conv.weight.abs().amax((2, 3)).median(dim=0).values.argmax())
        norm.weight[channel] /= 200
        norm.bias[channel] /= 200
        conv.weight[:, channel] *= 200


@pytest.mark.slow  # and what the spoiling costs hangs on how the processor rounds while it trains
def test_what_int8_had_cost_is_given_back(tmp_path: Path) -> None:
    """A student that finds the persons in FP32 and nearly none of them in INT8, before and after the fine-tuning."""
    pairs = write_msrs(tmp_path / "data" / "msrs", (128, 96))  # `accuracies` judges by those that it learns by heart
    settings = ("model.backbone=vgg16", "data.mosaic_share=0", "data.coarser_share=0")
    schedule = ("optimiser.iterations=100", "optimiser.learning_rate=0.005", "optimiser.batch_size=4")
    run = baseline.train(tiny(tmp_path, *settings, *schedule, "evaluate_every=100"), tmp_path / "run", "mdtrain")
    trained = load_trained(run.weights, "student")
    assert isinstance(trained.model, Student)
    spoil(trained.model)
    spoilt = tmp_path / "spoilt.safetensors"
    save_weights(spoilt, trained.model, trained.config, "student", trained.facts)
    tuned = recipe.train(spoilt, ("optimiser.iterations=160",), None, tmp_path / "tuned", "mdtrain").weights
    single, before = accuracies(spoilt, pairs)
    assert single > 0.9
    assert before < 0.5
    assert accuracies(tuned, pairs)[1] > before + 0.4


def accuracies(weights: Path, pairs: Path) -> tuple[float, float]:
    """AP50 of persons of the engine in single precision, and in INT8 with ranges of the same pairs."""
    path = weights.with_suffix(".onnx")
    export_onnx(weights, path, STREET, STREET, 2)
    engine = read_engine(path)
    scenes = intact(engine.manifest, read_set("msrs", pairs, "train"))
    ranges = measure_ranges(engine.model, scenes)
    single, int8 = (
        box_measures(engine.manifest, scenes, run_model(model, scenes, "test"))["person/ap50"]
        for model in (engine.model, to_int8(engine.model, ranges, "cpu"))
    )
    return single, int8
