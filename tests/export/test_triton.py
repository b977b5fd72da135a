"""Model repositories for Triton, read back with Triton's own messages; the served files run with what they say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from google.protobuf import text_format
from onnx import TensorProto, helper
from tritonclient.grpc import InferInput
from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig, ModelInstanceGroup
from tritonclient.utils import triton_to_np_dtype

from mdexport.cli import mdexport
from mdexport.triton_config import check_tensors, preferred_sizes
from mdrun.classify import ClassifyPostprocess
from mdrun.command import run_command
from mdrun.errors import EngineError
from mdrun.files import file_sha256
from mdrun.manifest import Build, Manifest, OutputSpec, parse_manifest
from mdrun.onnx_file import read_manifest
from tests.runtime.engines import (
    CLASSES,
    PASSED,
    make_manifest,
    make_segment_manifest,
    save,
    write_areas,
    write_blob,
    write_classes,
    write_quantised,
)

Call = Callable[..., tuple[int, str, str]]


def name_batch(path: Path, *, only: str | None = None) -> Path:
    """Give the first dimension of a graph's inputs and outputs (or of `only` one) the name that export gives it."""
    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        if only in {None, value.name}:
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(model, path)
    return path


def write_strange(path: Path) -> Path:
    """A visible-only engine that labels pixels by their red, and gives the mean of all bytes as energy."""
    manifest = make_segment_manifest("strange")
    outputs = manifest.outputs | {"energy": OutputSpec("float32", [1], "free energy of the pair; high is strange")}
    nodes = [
        helper.make_node("Gather", ["visible", "first"], ["red"], axis=3),
        helper.make_node("Cast", ["red"], ["labels"], to=TensorProto.INT32),
        helper.make_node("Cast", ["visible"], ["light"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["light"], ["energy"], axes=[1, 2, 3], keepdims=0),
    ]
    return save(path, replace(manifest, outputs=outputs, energy={"fp32": 0.0}), nodes, {"first": np.array(0)})


def write_plan(path: Path, target: str = "tensorrt", size: int = 4, options: dict[str, str] | None = None) -> Path:
    build = Build(
        target, "10.13.0", ["8.7"], "Orin", "linux-aarch64", "0" * 64, options or {}, "mdexport plan", bytes=size
    )
    path.write_bytes(b"plan")
    path.with_suffix(".json").write_text(replace(make_manifest(path.stem), build=build).to_json(), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Engines of every kind; no test changes it."""
    root = tmp_path_factory.mktemp("bench")
    write_blob(root / "blob.onnx")
    (root / "other").mkdir()
    write_areas(root / "other" / "blob.onnx")
    name_batch(write_areas(root / "areas.onnx"))
    name_batch(write_areas(root / "half.onnx"), only="visible")
    write_plan(root / "plan.plan")
    write_plan(root / "many.plan", options={"max-batch": "6"})
    write_plan(root / "rtx.plan", "rtx")
    write_plan(root / "cut.plan", size=5)
    name_batch(write_classes(root / "classes.onnx"))
    write_classes(root / "single.onnx")
    name_batch(write_strange(root / "strange.onnx"))
    write_blob(root / "bf16.onnx", precision="bf16")
    write_quantised(root / "processors.onnx", np.uint8(0))
    write_quantised(root / "signed.onnx", np.int8(0))
    return root


@pytest.fixture
def call(bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Call:
    """Run `mdexport triton … --output models` in an empty folder; `@name` stands for a file of the bench."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        words = [argument.replace("@", f"{bench}/") for argument in arguments]
        code = run_command(mdexport, "mdexport", ["triton", *words, "--output", "models"])
        return code, *capfd.readouterr()

    return run


def read_config(name: str) -> Any:
    return text_format.Parse((Path("models") / name / "config.pbtxt").read_text(encoding="utf-8"), ModelConfig())


def dims(tensors: Any) -> dict[str, tuple[str, list[int]]]:
    return {tensor.name: (DataType.Name(tensor.data_type), list(tensor.dims)) for tensor in tensors}


def files() -> list[str]:
    return sorted(path.as_posix() for path in Path().rglob("*") if path.is_file())


def table(out: str) -> list[list[str]]:
    """Rows of the printed table, one a model."""
    title, _, head, *_ = out.splitlines()
    assert title == "models: a model repository for Triton"
    columns = [cell.strip() for cell in head.strip("┃").split("┃")]
    assert columns == ["model", "version", "platform", "most pairs at once", "instances", "device"]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in out.splitlines() if line[0] == "│"]


def test_one_pair_at_a_time(call: Call, bench: Path) -> None:
    code, out, err = call("@blob.onnx")
    assert (code, err) == (0, "")
    assert table(out) == [["blob", "1", "onnxruntime_onnx", "1", "1", "cpu"]]
    names = ["1/manifest.json", "1/model.onnx", "config.pbtxt", "labels.txt"]
    assert files() == [f"models/blob/{name}" for name in names]
    config = read_config("blob")
    assert (config.name, config.platform, config.max_batch_size) == ("blob", "onnxruntime_onnx", 0)
    assert dims(config.input) == {"visible": ("TYPE_UINT8", [1, 72, 96, 3]), "thermal": ("TYPE_UINT8", [1, 24, 32])}
    assert dims(config.output) == {
        "boxes": ("TYPE_FP32", [1, 2, 4]),
        "scores": ("TYPE_FP32", [1, 2]),
        "classes": ("TYPE_INT32", [1, 2]),
    }
    (group,) = config.instance_group
    assert (group.count, ModelInstanceGroup.Kind.Name(group.kind)) == (1, "KIND_CPU")
    assert not config.HasField("dynamic_batching")
    manifest = read_manifest(bench / "blob.onnx")
    assert config.parameters["mdrun.network"].string_value == manifest.network_name()
    assert parse_manifest(Path("models/blob/1/manifest.json").read_text(encoding="utf-8"), "copy") == manifest
    assert Path("models/blob/1/model.onnx").read_bytes() == (bench / "blob.onnx").read_bytes()
    assert Path("models/blob/labels.txt").read_text(encoding="utf-8").splitlines() == CLASSES


def test_json(call: Call) -> None:
    code, said, _ = call("@areas.onnx", "--max-batch", "6", "--json")
    assert code == 0
    served = {"model": "models/areas", "version": 1, "platform": "onnxruntime_onnx", "max_batch_size": 6}
    assert json.loads(said) == [served]


def test_many_pairs_at_once(call: Call) -> None:
    options = ("--instances", "3", "--device", "gpu", "--max-batch", "6", "--queue-delay-us", "500")
    code, out, _ = call("@areas.onnx", *options)
    assert code == 0
    assert table(out) == [["areas", "1", "onnxruntime_onnx", "6", "3", "gpu"]]
    config = read_config("areas")
    assert dims(config.input) == {"visible": ("TYPE_UINT8", [72, 96, 3]), "thermal": ("TYPE_UINT8", [24, 32])}
    assert dims(config.output) == {"labels": ("TYPE_INT32", [72, 96])}
    assert config.max_batch_size == 6
    assert list(config.dynamic_batching.preferred_batch_size) == [2, 4, 6]
    assert config.dynamic_batching.max_queue_delay_microseconds == 500
    (group,) = config.instance_group
    assert (group.count, ModelInstanceGroup.Kind.Name(group.kind)) == (3, "KIND_GPU")


def test_an_output_of_one_number_a_pair_has_a_dimension(call: Call) -> None:
    """Triton refuses outputs without one; where the batch is in the shape, none is added."""
    assert call("@classes.onnx", "@strange.onnx", "@single.onnx")[0] == 0
    for name, reshaped in (("classes", True), ("strange", True), ("single", False)):
        config = read_config(name)
        assert dims(config.output)["energy"] == ("TYPE_FP32", [1])
        (energy,) = (tensor for tensor in config.output if tensor.name == "energy")
        assert (energy.HasField("reshape"), list(energy.reshape.shape)) == (reshaped, [])
        assert not any(tensor.HasField("reshape") for tensor in config.output if tensor.name != "energy")


@pytest.mark.parametrize(
    "tensor",
    [
        {"name": "energy", "data_type": DataType.Value("TYPE_FP32")},
        {"name": "energy", "dims": [1]},
        {"data_type": DataType.Value("TYPE_FP32"), "dims": [1]},
        {"name": "energy", "data_type": DataType.Value("TYPE_FP32"), "dims": [2, 0]},
    ],
)
@pytest.mark.parametrize("side", ["input", "output"])
def test_what_triton_would_refuse_is_seen(side: str, tensor: dict[str, Any]) -> None:
    config = ModelConfig()
    getattr(config, side).add(**tensor)
    with pytest.raises(EngineError, match="Triton would refuse it"):
        check_tensors(config, Path("a.onnx"))


def test_what_is_served_with_a_warning(call: Call, bench: Path) -> None:
    """One line a remark, on stderr, so that `--json` stays JSON."""
    accepted = replace(PASSED, passed=False, accepted="a demo")
    manifest = replace(parse_manifest((bench / "plan.json").read_text(encoding="utf-8"), "plan"), parity=accepted)
    Path("plan.plan").write_bytes(b"plan")
    Path("plan.json").write_text(manifest.to_json(), encoding="utf-8")
    code, out, err = call("plan.plan", "--json")
    assert (code, len(json.loads(out))) == (0, 1)
    assert re.fullmatch(r"mdexport: warning: plan\.plan: not verified: [^\n]+ --accept 'a demo'\n", err)
    assert manifest.build is not None
    compatible = replace(
        manifest.build, options={"version-compatible": "yes"}, parity=PASSED, sha256=file_sha256(Path("plan.plan"))
    )
    Path("plan.json").write_text(replace(manifest, build=compatible, parity=PASSED).to_json(), encoding="utf-8")
    err = call("plan.plan")[2]
    assert re.fullmatch(
        r"mdexport: warning: plan\.plan: [^\n]+ --backend-config=tensorrt,version-compatible=true\n", err
    )
    code, _, err = call("@processors.onnx", "@signed.onnx", "--device", "gpu")
    assert code == 0
    assert re.fullmatch(r"mdexport: warning: [^\n]+/processors\.onnx: an INT8 file for processors[^\n]+\n", err)
    assert call("@processors.onnx")[2] == ""


@pytest.mark.parametrize(("name", "batch"), [("blob", None), ("areas", 3), ("classes", 3), ("strange", 3)])
def test_the_served_file_takes_and_gives_what_the_configuration_says(call: Call, name: str, batch: int | None) -> None:
    call(f"@{name}.onnx")
    config = read_config(name)
    lead = [] if batch is None else [batch]
    feeds = {}
    for tensor in config.input:
        kind = DataType.Name(tensor.data_type).removeprefix("TYPE_")
        feeds[tensor.name] = np.zeros([*lead, *tensor.dims], triton_to_np_dtype(kind))
        InferInput(tensor.name, feeds[tensor.name].shape, kind).set_data_from_numpy(feeds[tensor.name])  # as a client
    session = onnxruntime.InferenceSession(f"models/{name}/1/model.onnx", providers=["CPUExecutionProvider"])
    for tensor, got in zip(config.output, session.run([tensor.name for tensor in config.output], feeds), strict=True):
        own = tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims  # as the engine gives it
        assert list(got.shape) == [*lead, *own]
        assert got.size == np.prod([*lead, *tensor.dims])  # as the server gives it
        kind = DataType.Name(tensor.data_type).removeprefix("TYPE_").replace("FP", "FLOAT")
        assert str(got.dtype).upper() == kind


def test_the_client_of_the_documentation_reads_the_energy(call: Call) -> None:
    call("@classes.onnx")
    manifest = read_manifest(Path("models/classes/1/model.onnx"))
    shapes = {tensor.name: [1, *tensor.dims] for tensor in read_config("classes").output}  # as the server gives them
    answer = {name: np.zeros(shape, manifest.outputs[name].dtype) for name, shape in shapes.items()}
    line = "outputs = {name: answer.as_numpy(name).reshape(output.shape) for name, output in manifest.outputs.items()}"
    assert line in Path(__file__).parents[2].joinpath("docs", "triton.md").read_text(encoding="utf-8").splitlines()
    outputs = {name: answer[name].reshape(output.shape) for name, output in manifest.outputs.items()}
    assert ClassifyPostprocess(manifest)(outputs, (96, 72)).energy == 0.0


def test_plans_run_on_the_gpu(call: Call) -> None:
    code, out, _ = call("@plan.plan", "@many.plan")
    assert code == 0
    assert table(out) == [
        ["plan", "1", "tensorrt_plan", "1", "1", "gpu"],
        ["many", "1", "tensorrt_plan", "6", "1", "gpu"],
    ]
    for name, most in (("plan", 0), ("many", 6)):
        config = read_config(name)
        assert (config.platform, config.max_batch_size) == ("tensorrt_plan", most)
        assert ModelInstanceGroup.Kind.Name(config.instance_group[0].kind) == "KIND_GPU"
        assert Path(f"models/{name}/1/model.plan").read_bytes() == b"plan"


@pytest.mark.parametrize(("most", "sizes"), [(1, [1]), (2, [2]), (5, [2, 4, 5]), (8, [2, 4, 8]), (9, [2, 4, 8, 9])])
def test_preferred_sizes(most: int, sizes: list[int]) -> None:
    assert preferred_sizes(most) == sizes


def test_versions_of_a_model(call: Call) -> None:
    for version, instances in (("1", "1"), ("2", "1"), ("2", "4")):  # a version that is there is written again
        assert call("@blob.onnx", "--model-version", version, "--instances", instances)[0] == 0
    assert [name for name in files() if "model.onnx" in name] == [
        "models/blob/1/model.onnx",
        "models/blob/2/model.onnx",
    ]
    assert read_config("blob").instance_group[0].count == 4
    assert call("@areas.onnx")[0] == 0  # other models stay
    before = files()
    code, _, err = call("@other/blob.onnx", "--model-version", "3")
    assert code == 2
    assert "version 1, 2 in it has another output and classes, and all versions share one configuration" in err
    assert files() == before
    assert call("@blob.onnx", "--model-version", "1")[0] == 0
    assert files() == before


def test_a_folder_that_is_no_model_stays(call: Call) -> None:
    Path("models/blob").mkdir(parents=True)
    Path("models/blob/notes.txt").write_text("mine")
    code, _, err = call("@areas.onnx", "@blob.onnx")
    assert code == 2
    assert "models/blob: is there and no model of `mdexport triton`" in err
    assert files() == ["models/blob/notes.txt"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "Missing argument"),
        (("@blob.onnx", "--model-version", "0"), 2, "0"),
        (("@blob.onnx", "@other/blob.onnx"), 2, "two engines of the name blob"),
        (
            ("@blob.onnx", "--max-batch", "4"),
            2,
            "takes one pair at a time; leave it out, or export with `mdexport onnx",
        ),
        (("@many.plan", "--max-batch", "7"), 2, "got --max-batch 7, it was built for batches up to 6"),
        (("@plan.plan", "--max-batch", "2"), 2, "one pair at a time"),
        (("@plan.plan", "--device", "cpu"), 2, "a plan runs on a GPU"),
        (("@blob.onnx", "--model-version", "9223372036854775808"), 2, "not in the range"),
        (("@areas.onnx", "--max-batch", "2147483648"), 2, "not in the range"),
        (("@areas.onnx", "--instances", "2147483648"), 2, "not in the range"),
        (("@areas.onnx", "--queue-delay-us", "18446744073709551616"), 2, "not in the range"),
        (("@none.onnx",), 3, "does not exist"),
        (("@bf16.onnx",), 3, "an ONNX file in BF16, and Triton runs ONNX files with ONNX Runtime, which cannot"),
        (("@cut.plan",), 3, "has 4 bytes, and was built with 5: it is not whole"),
        (("@areas.onnx", "@none.plan"), 3, "none.plan"),  # nothing is left of the first
        (("@rtx.plan",), 3, "build one with `--target tensorrt`"),
        (("@half.onnx",), 3, "only visible have a dynamic batch"),
    ],
)
def test_bad_input_is_one_line_and_no_file(call: Call, arguments: tuple[str, ...], code: int, words: str) -> None:
    got, out, err = call(*arguments)
    assert (got, out) == (code, "")
    assert re.fullmatch(r"mdexport: error: [^\n]+\n", err), err
    assert words in err
    assert not list(Path().iterdir())


def test_without_the_client_package(bench: Path, tmp_path: Path) -> None:
    """In a fresh process, with the import really failing."""
    code = (
        "import sys; sys.modules['tritonclient'] = None\n"
        "from mdexport.cli import mdexport\n"
        "from mdrun.command import run_command\n"
        "sys.exit(run_command(mdexport, 'mdexport', ['triton', *sys.argv[1:]]))"
    )
    command = [sys.executable, "-c", code, str(bench / "blob.onnx"), "--output", "models"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert 'pip install "mdrun[triton]"' in done.stderr
    assert not list(tmp_path.iterdir())


def test_the_manifest_of_a_plan_travels_along(call: Call, bench: Path) -> None:
    call("@plan.plan")
    copy: Manifest = parse_manifest(Path("models/plan/1/manifest.json").read_text(encoding="utf-8"), "copy")
    assert copy == read_manifest(bench / "plan.plan")
