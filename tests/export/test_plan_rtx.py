"""`mdexport plan --target rtx`: real builds by TensorRT for RTX, which needs no GPU for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from mdexport.cli import mdexport
from mdexport.plan.maker import make_plan
from mdexport.plan.options import PlanOptions
from mdrun.backends import open_backend
from mdrun.backends.nvidia.library import LibraryError, library_version
from mdrun.command import run_command
from mdrun.driver import DriverError, find_driver
from mdrun.errors import BackendError, EngineError, OutputError
from mdrun.manifest import ManifestError, read_sidecar
from mdrun.onnx_file import read_manifest
from tests.export.plan_models import SHIPPED, write_conv, write_fp16, write_int8
from tests.runtime.engines import write_quantised

pytest.importorskip("tensorrt_rtx", reason='wants pip install "mdrun[rtx]"', exc_type=ImportError)

RTX = PlanOptions(target="rtx")
MAGIC = b"vtrt"


@pytest.fixture(scope="module")
def students(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("students")
    fp16, int8 = write_fp16(folder / "student_fp16.onnx"), write_int8(folder / "student_int8.onnx")
    return {"fp32": SHIPPED, "fp16": fp16, "int8": int8}


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_student_builds_in_each_precision(precision: str, students: dict[str, Path], tmp_path: Path) -> None:
    output = tmp_path / "student.rtx"
    made = make_plan(students[precision], output, RTX)
    assert (made.count.of, made.count.layers) == ("network", {precision: 46})
    assert output.read_bytes()[:4] == MAGIC
    assert {path.name for path in tmp_path.iterdir()} == {"student.rtx", "student.json"}
    manifest = read_manifest(output)
    assert manifest == made.manifest
    assert manifest.build is not None
    assert manifest.build.compute_capabilities == ["8.0", "8.6", "8.9", "12.0", "12.1"]
    assert manifest.build.layers == {}  # not counted in the engine itself
    assert manifest.build.bytes == output.stat().st_size
    assert manifest.origin == read_manifest(students[precision]).origin
    assert manifest.network_name().encode() in output.read_bytes()


def test_halves_make_a_smaller_engine(students: dict[str, Path], tmp_path: Path) -> None:
    options = PlanOptions(target="rtx", compute_capabilities=("8.6",))
    sizes = {}
    for precision in ("fp32", "fp16"):
        sizes[precision] = make_plan(students[precision], tmp_path / f"{precision}.rtx", options).path.stat().st_size
    assert sizes["fp16"] < 0.6 * sizes["fp32"]


def test_turing_on_request(tmp_path: Path) -> None:
    options = PlanOptions(target="rtx", compute_capabilities=("12.0", "7.5"))
    build = make_plan(write_conv(tmp_path / "a.onnx"), tmp_path / "a.rtx", options).manifest.build
    assert build is not None
    assert build.compute_capabilities == ["7.5", "12.0"]
    assert build.command == (
        "mdexport plan a.onnx --output a.rtx --target rtx --compute-capability 12.0 --compute-capability 7.5"
    )


def test_a_dynamic_batch(tmp_path: Path) -> None:
    graph = write_conv(tmp_path / "a.onnx", batch="batch")
    with pytest.raises(LibraryError, match=r"no optimization profile has been defined.*add --max-batch") as caught:
        make_plan(graph, tmp_path / "a.rtx", RTX)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "a.rtx").exists()
    build = make_plan(graph, tmp_path / "a.rtx", PlanOptions(target="rtx", max_batch=8)).manifest.build
    assert build is not None
    assert build.options == {"max-batch": "8"}


def test_auto_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = write_conv(tmp_path / "a.onnx")
    folder = tmp_path / "engines" / "desktop"
    words = ["plan", str(graph), "--output", str(folder), "--auto-name", "--target", "rtx"]
    assert run_command(mdexport, "mdexport", [*words, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    path = folder / f"conv_fp32_rtx{library_version('rtx')}.rtx"
    assert report["engine"] == str(path)
    assert (report["counted"], report["layers"], report["share"]) == ("network", {"fp32": 1}, 1.0)
    assert report["bytes"] == path.stat().st_size
    assert report["name"] == read_sidecar(path).network_name()
    assert run_command(mdexport, "mdexport", words) == 0  # again, over the older one, with a table
    said = capsys.readouterr()
    assert "1 of 1 convolution and matrix layers" in said.out
    assert not said.err
    assert len(list(folder.iterdir())) == 2


def test_without_a_gpu_mdrun_refuses_it_in_one_line(tmp_path: Path) -> None:
    """And one with another engine's manifest before it asks for a GPU."""
    made = make_plan(write_conv(tmp_path / "a.onnx"), tmp_path / "a.rtx", RTX)
    other = make_plan(write_conv(tmp_path / "b.onnx", height=48), tmp_path / "b.rtx", RTX)
    with pytest.raises(ManifestError, match="come from different exports"):
        open_backend(made.path, other.manifest)
    try:
        find_driver()
    except DriverError:
        with pytest.raises(BackendError, match="and TensorRT for RTX runs on NVIDIA GPUs only; run the"):
            open_backend(made.path, made.manifest)


def test_a_batch_that_the_library_refuses(tmp_path: Path) -> None:
    """More than the command line lets through: its exception is one line."""
    graph = write_conv(tmp_path / "a.onnx", batch="batch")
    with pytest.raises(LibraryError, match=r"did not take batches from 1 to 3000000000: .*setDimensions"):
        make_plan(graph, tmp_path / "a.rtx", PlanOptions(target="rtx", max_batch=3_000_000_000))


def bad_bytes(path: Path) -> Path:
    """A graph whose second node is no protobuf message; the fields around it are whole."""
    model = onnx.load(write_conv(path))
    manifest = model.metadata_props[0].value.replace(f'"{read_manifest(path).origin.graph_sha256}"', "null")
    model.metadata_props[0].value = manifest
    from mdrun.manifest import parse_manifest

    model.graph.name = parse_manifest(manifest, "test").network_name()
    graph = model.graph.SerializeToString() + b"\x0a\x03\xff\xff\xff"
    model.ClearField("graph")
    length = bytes([len(graph) & 0x7F | 0x80, len(graph) >> 7])
    path.write_bytes(model.SerializeToString() + b"\x3a" + length + graph)
    return path


def plain(path: Path) -> Path:
    return write_conv(path)


@pytest.mark.parametrize(
    ("write", "options", "code", "named"),
    [
        (lambda path: write_conv(path, operator="Frobnicate"), [], 3, "node 'the_node', operator Frobnicate"),
        (lambda path: write_conv(path, operator="Frobnicate"), [], 3, 'INVALID_NODE: creator && "Plugin not found'),
        (bad_bytes, [], 3, "MODEL_DESERIALIZE_FAILED: Assertion failed: model->ParseFromCodedStream"),
        (lambda path: write_conv(path, precision="fp16"), [], 3, "0 of 1 convolution and matrix layers of the network"),
        (lambda path: write_conv(path, precision="int8"), [], 3, "quantise it with `mdexport int8`"),
        (lambda path: write_conv(path, precision=None), [], 3, "states no precision"),
        (plain, ["--precision", "fp16"], 3, "is in fp32, --precision wants fp16"),
        (lambda path: write_conv(path, batch="n", height="h"), ["--max-batch", "2"], 3, "wanted fixed sizes but for"),
        (plain, ["--max-batch", "2"], 2, "is fixed; leave it out"),
        (plain, ["--compute-capability", "9.0"], 2, "knows 7.5, 8.0, 8.6, 8.9, 12.0, 12.1"),
        (plain, ["--timing-cache", "times"], 2, "got --timing-cache with --target rtx"),
        (plain, ["--version-compatible"], 2, "got --version-compatible with --target rtx"),
        (plain, ["--hardware-compatible", "ampere-plus"], 2, "got --hardware-compatible with --target rtx"),
        (plain, ["--allow-host-code"], 2, "got --allow-host-code with --target rtx"),
        (
            lambda path: write_quantised(path, np.uint8(128)),
            [],
            3,
            "for processors, with zero points and integer biases",
        ),
        (lambda path: write_quantised(path, np.int8(0)), [], 3, "0 of 0 convolution and matrix layers"),
        (plain, ["--output", "e.plan"], 2, "ends in .rtx for --target rtx"),
        (plain, ["--output", "file/e.rtx"], 6, "file"),
        (plain, ["--output", "folder.rtx"], 6, "is a folder"),
    ],
)
def test_bad_input(
    write: Callable[[Path], Path],
    options: list[str],
    code: int,
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder.rtx").mkdir()
    before = {"a.onnx", "file", "folder.rtx"}
    words = ["plan", str(write(tmp_path / "a.onnx")), "--target", "rtx", "--output", "e.rtx", *options]
    assert run_command(mdexport, "mdexport", words) == code
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert named in line
    assert not said.out
    assert {path.name for path in tmp_path.iterdir()} == before


def test_too_little_workspace_in_the_builder_s_own_words(tmp_path: Path) -> None:
    with pytest.raises(
        LibraryError, match=r"OutOfMemory \(Requested size was \d+ bytes.*; --workspace 1 may be too sm"
    ):
        make_plan(SHIPPED, tmp_path / "a.rtx", PlanOptions(target="rtx", workspace_mib=1))
    make_plan(write_conv(tmp_path / "b.onnx"), tmp_path / "b.rtx", PlanOptions(target="rtx", workspace_mib=1 << 20))


def test_the_share_can_be_set(tmp_path: Path) -> None:
    graph = write_conv(tmp_path / "a.onnx", precision="fp16")
    build = make_plan(graph, tmp_path / "a.rtx", PlanOptions(target="rtx", least_share=0.0)).manifest.build
    assert build is not None
    assert build.options == {"least-share": "0"}


def test_an_onnx_changed_after_export_is_refused(tmp_path: Path) -> None:
    path = write_conv(tmp_path / "a.onnx")
    path.write_bytes(path.read_bytes().replace(b"the_node", b"THE_node"))
    with pytest.raises(EngineError, match="changed or damaged after export"):
        make_plan(path, tmp_path / "a.rtx", RTX)


@pytest.mark.parametrize(
    ("beside", "named"),
    [
        ({"a.plan": "", "a.json": ""}, "belongs to a.plan"),
        ({"a.json": "my notes"}, "is no manifest"),
    ],
)
def test_no_other_file_is_replaced(beside: dict[str, str], named: str, tmp_path: Path) -> None:
    for name, text in beside.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(OutputError, match=named):
        make_plan(write_conv(tmp_path / "b.onnx"), tmp_path / "a.rtx", RTX)
    assert {path.name for path in tmp_path.iterdir()} == {"b.onnx", *beside}
    assert all((tmp_path / name).read_text() == text for name, text in beside.items())


def test_a_full_disk_leaves_the_older_engine(
    tmp_path: Path, small_disk: None, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = write_conv(tmp_path / "a.onnx")
    (tmp_path / "a.rtx").write_bytes(b"older")
    words: list[Any] = ["plan", str(graph), "--target", "rtx", "--output", str(tmp_path / "a.rtx")]
    assert run_command(mdexport, "mdexport", words) == 6
    assert "a.rtx: cannot be written (File too large); choose another --output" in capsys.readouterr().err
    assert (tmp_path / "a.rtx").read_bytes() == b"older"
    assert {path.name for path in tmp_path.iterdir()} == {"a.onnx", "a.rtx"}
