"""`mdexport all`: every engine of a checkpoint in one folder, and what cannot be made."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest
from onnx import TensorProto, numpy_helper

from mdexport import chain, check, gate
from mdexport.bundle import PARITY
from mdexport.cli import mdexport
from mdexport.int8 import Calibration, CalibrationScenes
from mdexport.plan.options import PlanOptions
from mdexport.proof import Ready
from mdrun.backends import open_backend
from mdrun.backends.base import Backend
from mdrun.backends.nvidia.library import LibraryError
from mdrun.command import run_command
from mdrun.errors import BackendError, DataError, EngineError, IncompleteError, UsageError
from mdrun.manifest import Manifest
from mdrun.onnx_file import read_manifest
from tests.export.labelled import Made
from tests.export.students import write_student
from tests.export.test_bundle import PROOF, names_in
from tests.export.test_check import write_negated, write_plan


@pytest.mark.parametrize(
    ("name", "stem"), [("../evil", "..-evil"), ("a/b", "a-b"), ("parity", "parity_"), ("x" * 300, "x" * 60)]
)
def test_any_name_of_a_student_is_a_file_in_the_bundle(name: str, stem: str) -> None:
    assert chain._stem(name) == stem


def test_everything_from_a_checkpoint(
    detector: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The one command of the page's first line; engines of TensorRT for RTX where it is installed."""
    rtx = find_spec("tensorrt_rtx") is not None
    monkeypatch.setattr(chain, "_builders", lambda: ["rtx"] if rtx else [])
    output = tmp_path / "student"
    arguments = ["all", str(detector.weights), "--calibration", str(detector.pairs), "--out", str(output), "--json"]
    assert run_command(mdexport, "mdexport", arguments) == 0
    said = capsys.readouterr()
    report = json.loads(said.out)
    engines = {path.name for path in output.iterdir() if path.suffix != ".json"} - PROOF
    stems = {"tiny", "tiny_fp16", "tiny_int8", "tiny_int8_tensorrt"}
    assert {name for name in engines if name.endswith(".onnx")} == {f"{stem}.onnx" for stem in stems}
    assert names_in(output) == engines | {f"{Path(name).name.rpartition('.')[0]}.json" for name in engines} | PROOF
    plans = {verdict["name"] for verdict in report["verdicts"] if verdict["reason"]}
    assert plans == {name for name in engines if name.endswith(".rtx")}
    assert len(plans) == 2 * rtx
    assert {v["name"] for v in report["verdicts"] if v["parity"] and v["parity"]["passed"]} == engines - plans
    assert report["reference"] == "the checkpoint in PyTorch"
    assert "tiny_int8.onnx: passed" in said.err
    targets = [read_manifest(output / f"{stem}.onnx").origin.calibration for stem in sorted(stems)]
    assert [(text or "").rpartition(" ")[2] for text in targets] == ["", "", "cpu", "tensorrt"]


@pytest.mark.slow
def test_everything_for_many_pairs_at_once(
    detector: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rtx = find_spec("tensorrt_rtx") is not None
    monkeypatch.setattr(chain, "_builders", lambda: ["rtx"] if rtx else [])
    assert run_all(detector, tmp_path / "student", "--max-batch", "4") == 0
    for stem in ("tiny", "tiny_fp16", "tiny_int8", "tiny_int8_tensorrt"):
        graph = onnx.load(tmp_path / "student" / f"{stem}.onnx").graph
        sizes = [value.type.tensor_type.shape.dim[0].dim_param for value in (*graph.input, *graph.output)]
        assert set(sizes) == {"batch"}
    plans = [read_manifest(path).build for path in (tmp_path / "student").glob("*.rtx")]
    assert [build is not None and build.options.get("max-batch") for build in plans] == ["4"] * (2 * rtx)


@pytest.fixture
def exported(detector: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """The FP32 engine as it was exported once already."""

    def export(_: Path, trained: object, student: object, output: Path, *more: object, dynamic_batch: bool) -> Manifest:
        assert not dynamic_batch
        return read_manifest(Path(shutil.copy(detector.engine, output)))

    monkeypatch.setattr(chain, "export_student", export)
    monkeypatch.setattr(chain, "_builders", list)


def run_all(detector: Made, output: Path, *more: str) -> int:
    arguments = ["all", str(detector.weights), "--calibration", str(detector.pairs), "--out", str(output)]
    return run_command(mdexport, "mdexport", [*arguments, *more])


@pytest.mark.slow
@pytest.mark.usefixtures("exported")
def test_a_precision_that_does_not_pass_is_left_out_unless_accepted(
    detector: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mdexport.int8.MOST_KEPT", 0)
    monkeypatch.setitem(gate.LEAST_MATCHED, "int8", 1.1)
    output = tmp_path / "student"
    assert run_all(detector, output) == IncompleteError.exit_code
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert "student: written without tiny_int8.onnx, tiny_int8_tensorrt.onnx; parity.json there says why" in line
    assert "tiny_int8.onnx is missing: does not follow tiny.onnx: " in said.out
    assert names_in(tmp_path) == {"student"}
    assert names_in(output) == {"tiny.onnx", "tiny.json", "tiny_fp16.onnx", "tiny_fp16.json"} | PROOF
    report = json.loads((output / PARITY).read_text())
    assert [missing["name"] for missing in report["missing"]] == ["tiny_int8.onnx", "tiny_int8_tensorrt.onnx"]
    assert all("least 110%" in missing["reason"] for missing in report["missing"])
    assert all(verdict["parity"]["passed"] for verdict in report["verdicts"])
    assert run_all(detector, output, "--accept", "a demo") == 0
    shown = capsys.readouterr().out
    assert "tiny_fp16.onnx: passed" in shown
    assert "tiny_int8.onnx: not verified: its parity check did not pass" in shown
    assert json.loads((output / PARITY).read_text())["missing"] == []
    parity = read_manifest(output / "tiny_int8.onnx").parity
    assert parity is not None
    assert parity.accepted == "a demo"
    fp16 = read_manifest(output / "tiny_fp16.onnx").parity
    assert fp16 is not None
    assert fp16.accepted is None


@pytest.mark.parametrize(
    ("dropout", "flags", "degraded"),
    [
        (0.0, [], False),
        (0.2, [], True),  # it was trained to bear a covered lens, and will be asked to
        (0.2, ["--no-degraded"], False),
        (0.0, ["--degraded"], True),
    ],
)
def test_what_was_trained_with_failing_cameras_is_calibrated_with_them(
    dropout: float,
    flags: list[str],
    degraded: bool,
    detector: Made,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As the configuration in the checkpoint says; the command ends where the calibration is known."""

    def read(calibration: Calibration, manifest: Manifest) -> CalibrationScenes:
        scenes = real(calibration, manifest)
        raise UsageError(f"calibrates on {scenes.described}, {len(scenes.scenes)} scenes")

    real = Calibration.read
    monkeypatch.setattr(Calibration, "read", read)
    weights = write_student(tmp_path / "weights.safetensors", "detect", f"data.modality_dropout={dropout}")
    arguments = ["all", str(weights), "--calibration", str(detector.pairs), "--out", str(tmp_path / "student")]
    assert run_command(mdexport, "mdexport", [*arguments, *flags]) == UsageError.exit_code
    said = capsys.readouterr().err
    assert ("some also with a failing camera, 28 scenes" in said) == degraded
    assert ("(8 by day, 8 by night), 16 scenes" in said) != degraded


def test_pairs_that_calibrate_do_not_judge(
    detector: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def too_late(*_: object, **__: object) -> None:
        pytest.fail("found after the work began")

    monkeypatch.setattr(chain, "export_student", too_late)
    assert run_all(detector, tmp_path / "student", "--calibration-list", "val") == DataError.exit_code
    (line,) = capsys.readouterr().err.splitlines()
    assert "16 of the 16 pairs that judge (msrs val, fusion labels) calibrate as well" in line
    assert names_in(tmp_path) == set()


@pytest.mark.slow
@pytest.mark.usefixtures("exported")
def test_weights_of_7_bits_are_for_processors(detector: Made, tmp_path: Path) -> None:
    output = tmp_path / "student"
    assert run_all(detector, output, "--reduce-range") == 0
    largest = {}
    for name in ("tiny_int8", "tiny_int8_tensorrt"):
        path = output / f"{name}.onnx"
        weights = [
            numpy_helper.to_array(w) for w in onnx.load(path).graph.initializer if w.data_type == TensorProto.INT8
        ]
        largest[name] = max(int(abs(weight.astype(int)).max()) for weight in weights if weight.ndim == 4)
        described = read_manifest(path).origin.calibration
        assert ("weights of 7 bits" in str(described)) == (name == "tiny_int8")
    assert largest == {"tiny_int8": 64, "tiny_int8_tensorrt": 127}


@pytest.mark.slow
@pytest.mark.usefixtures("exported")
def test_a_plan_that_does_not_build_is_left_out(
    detector: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of two; reasons do not name the folder that the bundle had while it was filled."""

    def build(source: Path, output: Path, options: PlanOptions, *, name_it: bool) -> SimpleNamespace:
        if "int8" in source.name:
            raise LibraryError(f"{source}: TensorRT for RTX cannot build it: no kernel; export it again")
        write_plan(output / "tiny_fp16_rtx1.0.rtx", source)
        return SimpleNamespace(path=output / "tiny_fp16_rtx1.0.rtx")

    monkeypatch.setattr(chain, "_builders", lambda: ["rtx"])
    monkeypatch.setattr(chain, "make_plan", build)
    output = tmp_path / "student"
    assert run_all(detector, output, "--json") == IncompleteError.exit_code
    said = capsys.readouterr()
    report = json.loads(said.out)
    reason = "tiny_int8_tensorrt.onnx: TensorRT for RTX cannot build it: no kernel; export it again"
    assert report["missing"] == [{"name": "tiny_int8_tensorrt.rtx", "reason": reason}]
    assert report == json.loads((output / PARITY).read_text())
    assert f"tiny_int8_tensorrt.rtx: missing: {reason}" in said.err.splitlines()
    assert "written without tiny_int8_tensorrt.rtx;" in said.err.splitlines()[-1]
    onnx = {f"tiny{name}" for name in ("", "_fp16", "_int8", "_int8_tensorrt")}
    files = {f"{stem}{suffix}" for stem in onnx for suffix in (".onnx", ".json")}
    assert names_in(output) == files | {"tiny_fp16_rtx1.0.rtx", "tiny_fp16_rtx1.0.json"} | PROOF
    assert names_in(tmp_path) == {"student"}


@pytest.mark.usefixtures("exported")
def test_an_engine_that_its_library_refuses_is_left_out(
    detector: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As TensorRT does on its GPU with a plan that does not load; what no library here could run stays."""

    def copy(ready: Ready, path: Path, *_: object, **__: object) -> Manifest:
        return read_manifest(Path(shutil.copy(detector.engine, path)))

    def build(source: Path, output: Path, options: PlanOptions, *, name_it: bool) -> SimpleNamespace:
        write_plan(output / f"{source.stem}.rtx", source)
        return SimpleNamespace(path=output / f"{source.stem}.rtx")

    def opened(path: Path, manifest: Manifest, *, backend: str) -> Backend:
        if path.name == "tiny_fp32.rtx":
            raise EngineError(f"{path}: the network is another than its manifest says; build it again")
        if path.suffix == ".rtx":
            raise BackendError(f"{path}: no CUDA driver here")
        return open_backend(path, manifest, backend=backend)

    for name, function in {"convert_half": copy, "convert_int8": copy, "make_plan": build}.items():
        monkeypatch.setattr(chain, name, function)
    monkeypatch.setattr(chain, "_builders", lambda: ["rtx"])
    monkeypatch.setattr(check, "open_backend", opened)
    output = tmp_path / "student"
    assert run_all(detector, output) == IncompleteError.exit_code
    report = json.loads((output / PARITY).read_text())
    reason = "the network is another than its manifest says; build it again"
    assert report["missing"] == [{"name": "tiny_fp32.rtx", "reason": reason}]
    files = {f"tiny{name}" for name in ("", "_fp32", "_int8", "_int8_tensorrt")}
    wanted = {f"{stem}{suffix}" for stem in files for suffix in (".onnx", ".json")}
    assert names_in(output) == wanted | {"tiny_int8_tensorrt.rtx"} | PROOF


@pytest.mark.usefixtures("exported")
def test_what_is_made_of_a_missing_engine_is_missing_too(
    detector: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half does not pass its gate; INT8 for TensorRT passes its own, and not the check against the checkpoint."""

    def refuse(*_: object, **__: object) -> Manifest:
        raise gate.GateError("tiny_fp16.onnx: does not follow tiny.onnx: it lost its sight")

    def negate(ready: Ready, path: Path, calibrated: object, target: str, *_: object, **__: object) -> Manifest:
        source = detector.engine
        return read_manifest(write_negated(source, path) if target == "tensorrt" else Path(shutil.copy(source, path)))

    def build(source: Path, output: Path, options: PlanOptions, *, name_it: bool) -> SimpleNamespace:
        write_plan(output / f"{source.stem}.rtx", source)
        return SimpleNamespace(path=output / f"{source.stem}.rtx")

    for name, function in {"convert_half": refuse, "convert_int8": negate, "make_plan": build}.items():
        monkeypatch.setattr(chain, name, function)
    monkeypatch.setattr(chain, "_builders", lambda: ["rtx"])
    output = tmp_path / "student"
    assert run_all(detector, output, "--json") == IncompleteError.exit_code
    report = json.loads(capsys.readouterr().out)
    reasons = {missing["name"]: missing["reason"] for missing in report["missing"]}
    assert reasons == {
        "tiny_fp16.onnx": "does not follow tiny.onnx: it lost its sight",
        "tiny_fp16.rtx": "tiny_fp16.onnx is missing, of which it is made",
        "tiny_int8_tensorrt.onnx": "does not follow the checkpoint in PyTorch on msrs val, fusion labels",
        "tiny_int8_tensorrt.rtx": "tiny_int8_tensorrt.onnx is missing, of which it is made",
    }
    passed = {verdict["name"]: verdict["parity"]["passed"] for verdict in report["verdicts"] if verdict["parity"]}
    assert passed == {"tiny.onnx": True, "tiny_int8.onnx": True, "tiny_int8_tensorrt.onnx": False}
    assert names_in(output) == {"tiny.onnx", "tiny.json", "tiny_int8.onnx", "tiny_int8.json"} | PROOF


def test_without_the_fp32_engine_there_is_nothing(
    detector: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def export(*_: object, **__: object) -> Manifest:
        raise gate.GateError("the exported graph differs from the checkpoint")

    monkeypatch.setattr(chain, "export_student", export)
    assert run_all(detector, tmp_path / "student") == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert "the exported graph differs from the checkpoint" in line
    assert names_in(tmp_path) == set()
