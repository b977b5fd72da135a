"""`mdexport check`: engines of one network, what ran and what did not, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from mdexport import check
from mdexport.bundle import write_bundle
from mdexport.check import check_engines, find_engines
from mdexport.cli import mdexport
from mdexport.engine_file import read_engine, stamp, write_engine
from mdexport.fp16 import convert_half
from mdexport.int8 import Calibration, calibrate, convert_int8
from mdexport.pairs import PairSet, Scene, parse_pairs
from mdexport.picture import CAPTION, HEADER, draw_check
from mdexport.proof import SPOT_SCENES, Ready
from mdrun import models
from mdrun.backends import LIBRARIES, open_backend
from mdrun.backends.base import Backend, Outputs
from mdrun.command import run_command
from mdrun.errors import BackendError, EngineError, UsageError
from mdrun.manifest import Build, Manifest
from mdrun.onnx_file import read_manifest
from mdrun.verified import find_doubt
from tests.export.graphs import shift_output
from tests.export.labelled import Made

BUILD = Build("rtx", "1.7.1.116", ["8.9"], None, "linux-x86_64", "0" * 64, {}, "mdexport plan")


@pytest.fixture(scope="module")
def engines(ready: Ready, detector: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the detector in every precision, and a plan; nobody writes there."""
    folder = tmp_path_factory.mktemp("engines")
    shutil.copy(detector.engine, folder)
    convert_half(ready, folder / "tiny_fp16.onnx", "fp16")
    convert_half(ready, folder / "tiny_bf16.onnx", "bf16")
    calibrated = calibrate(ready, Calibration(parse_pairs(str(detector.pairs))).read(ready.engine.manifest))
    convert_int8(ready, folder / "tiny_int8.onnx", calibrated, "cpu")
    write_plan(folder / "tiny_fp16_rtx.rtx", folder / "tiny_fp16.onnx")
    return folder


def write_plan(path: Path, source: Path) -> None:
    """What looks like an engine of TensorRT for RTX."""
    path.write_bytes(b"vtrt and so on")
    manifest = dataclasses.replace(read_manifest(source), build=BUILD)
    path.with_suffix(".json").write_text(manifest.to_json())


def write_negated(source: Path, path: Path, accepted: str | None = None) -> Path:
    """The same network with the sign of all its kernels changed, stamped as if nothing was wrong with it."""
    engine = read_engine(source)
    for tensor in engine.model.graph.initializer:
        if len(tensor.dims) == 4:
            tensor.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(tensor), tensor.name))
    assert engine.manifest.parity is not None
    parity = dataclasses.replace(engine.manifest.parity, accepted=accepted)
    write_engine(engine.model, stamp(engine.model, dataclasses.replace(engine.manifest, parity=parity)), path)
    return path


def pairs_of(made: Made) -> PairSet:
    return parse_pairs(str(made.pairs))


def test_every_engine_that_can_run_is_compared(engines: Path, detector: Made) -> None:
    checked = check_engines(find_engines([engines]), pairs_of(detector))
    by_name = {verdict.name: verdict for verdict in checked.report.verdicts}
    assert list(by_name) == ["tiny.onnx", "tiny_bf16.onnx", "tiny_fp16.onnx", "tiny_fp16_rtx.rtx", "tiny_int8.onnx"]
    plan = by_name.pop("tiny_fp16_rtx.rtx")
    assert "the plan was not run yet" in str(plan.doubt)
    if plan.backend is None:  # no GPU here, or none that it was built for
        assert (plan.parity, plan.median_ms, plan.fails) == (None, None, False)
        assert "TensorRT for RTX runs on NVIDIA GPUs only" in plan.reason or "build it again here" in plan.reason
    for name, verdict in by_name.items():
        assert verdict.parity is not None, verdict.reason
        assert verdict.parity.passed
        assert not verdict.fails
        assert verdict.backend in (("openvino",) if name == "tiny_bf16.onnx" else LIBRARIES)  # int8: by the processor
        assert verdict.median_ms is not None
        assert verdict.median_ms > 0
        assert verdict.megabytes == (engines / name).stat().st_size / 1e6
    single = by_name["tiny.onnx"].parity
    assert single is not None
    assert not any(single.max_abs.values())  # itself
    assert checked.report.reference == "tiny.onnx fp32"
    assert checked.report.scenes == len(checked.scenes) == 28
    assert list(checked.outputs) == ["tiny.onnx fp32", *by_name]
    assert json.loads(checked.report.to_json())["verdicts"][0]["precision"] == "fp32"


def test_against_the_checkpoint_no_fp32_file_is_wanted(engines: Path, detector: Made) -> None:
    pairs = pairs_of(detector)
    checked = check_engines([engines / "tiny_int8.onnx"], pairs, weights=detector.weights)
    (verdict,) = checked.report.verdicts
    assert checked.report.reference == "the checkpoint in PyTorch"
    assert verdict.parity is not None
    assert verdict.parity.passed
    with pytest.raises(UsageError, match=r"got no FP32 engine among tiny_int8\.onnx, wanted something to compare with"):
        check_engines([engines / "tiny_int8.onnx"], pairs)


def test_a_segmenter_against_its_checkpoint(segmenter: Made) -> None:
    checked = check_engines([segmenter.engine], pairs_of(segmenter), weights=segmenter.weights)
    (verdict,) = checked.report.verdicts
    assert verdict.parity is not None
    assert verdict.parity.passed
    assert verdict.parity.mean_abs["labels"] < 1e-4


def test_engines_of_another_network_are_refused(engines: Path, detector: Made, segmenter: Made) -> None:
    with pytest.raises(UsageError, match=r"tiny\.onnx: is of another checkpoint than tiny\.onnx, wanted one network"):
        check_engines([engines / "tiny.onnx", segmenter.engine], pairs_of(detector))
    with pytest.raises(UsageError, match=r"safetensors: not the checkpoint that tiny\.onnx was made of"):
        check_engines([engines / "tiny.onnx"], pairs_of(detector), weights=segmenter.weights)
    with pytest.raises(EngineError, match="no such file of weights"):
        check_engines([engines / "tiny.onnx"], pairs_of(detector), weights=engines / "none.safetensors")


def test_a_tampered_engine_is_refused(engines: Path, detector: Made, tmp_path: Path) -> None:
    for name in ("tiny.onnx", "tiny_fp16.onnx"):  # as the reference, and as one to compare
        path = tmp_path / name
        model = onnx.load(engines / name)
        tensor = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
        tensor.raw_data = bytes(len(tensor.raw_data))
        onnx.save(model, path)
        others = [engines / "tiny.onnx"] if name != "tiny.onnx" else []
        with pytest.raises(EngineError, match="weights or graph were changed or damaged after export"):
            check_engines([*others, path], pairs_of(detector))


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("other.rtx", b"vtrt tiny@0123456789abcdef", "engine and manifest come from different exports"),
        (
            "renamed.plan",
            b"vtrt",
            r"TensorRT for RTX by its manifest, and not by its name, wanted .* \.rtx",
        ),
    ],
)
def test_an_engine_that_its_manifest_does_not_speak_of_is_refused_before_the_work(
    name: str, content: bytes, told: str, detector: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_late(*_: object) -> None:
        pytest.fail("found after the work began")

    monkeypatch.setattr(check, "gate_scenes", too_late)
    engine = tmp_path / name
    write_plan(engine, detector.engine)
    engine.write_bytes(content)
    with pytest.raises(EngineError, match=rf"^{re.escape(str(engine))}: .*{told}"):
        check_engines([detector.engine, engine], pairs_of(detector))
    with pytest.raises(EngineError, match=rf"^{re.escape(str(engine))}: .*{told}"):  # the name that the user gave
        write_bundle([detector.engine, engine], tmp_path / "bundle", pairs_of(detector))
    assert not (tmp_path / "bundle").exists()


def test_only_a_missing_library_or_gpu_leaves_an_engine_out(
    engines: Path, detector: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    error: EngineError = BackendError("no library")

    def refusing(path: Path, manifest: Manifest, *, backend: str) -> Backend:
        if path.name == "tiny_fp16.onnx":
            raise error
        return open_backend(path, manifest, backend=backend)

    monkeypatch.setattr(check, "open_backend", refusing)
    paths = [engines / "tiny.onnx", engines / "tiny_fp16.onnx"]
    for left_out in (BackendError, EngineError):
        report = check_engines(paths, pairs_of(detector), left_out=left_out).report
        assert [(verdict.backend is None, verdict.reason) for verdict in report.verdicts][1] == (True, str(error))
        error = EngineError("refused")
    with pytest.raises(EngineError, match="refused"):
        check_engines(paths, pairs_of(detector))


@pytest.mark.parametrize("library", LIBRARIES)
def test_engines_run_in_the_library_that_was_asked_for(
    library: str, engines: Path, detector: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    """A plan has a library of its own, and is left out."""
    files = [str(engines / name) for name in ("tiny.onnx", "tiny_int8.onnx", "tiny_fp16_rtx.rtx")]
    arguments = ["check", *files, "--pairs", str(detector.pairs), "--backend", library, "--json"]
    assert run_command(mdexport, "mdexport", arguments) == 0
    single, integers, plan = json.loads(capsys.readouterr().out)["verdicts"]
    assert (single["backend"], integers["backend"], plan["backend"]) == (library, library, None)
    assert single["parity"]["passed"]
    assert integers["parity"]["passed"]
    assert plan["reason"] == f"backend is '{library}', wanted tensorrt-rtx for such a file; or leave it out"


def test_a_library_that_runs_nothing_here_is_told(
    engines: Path, detector: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(path: Path, manifest: Manifest, *, backend: str) -> Backend:
        if backend == "openvino":
            raise BackendError(f"{path}: no library")
        return open_backend(path, manifest, backend=backend)

    monkeypatch.setattr(check, "open_backend", refusing)
    with pytest.raises(BackendError, match=r"^tiny\.onnx: not run, and no other engine either: no library$"):
        check_engines([engines / "tiny.onnx"], pairs_of(detector), backend="openvino")


def test_a_shipped_engine_goes_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = {model.name: model.path for model in models.shipped()}
    assert find_engines([Path(name) for name in shipped]) == list(shipped.values())
    with pytest.raises(EngineError, match="engine 'md-r19' is neither a file nor one that ships"):
        find_engines([Path("md-r19")])


def test_pairs_on_which_the_reference_finds_nothing_right_prove_nothing(
    detector: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It follows itself and passes; that is told, and is no proof."""
    blind = write_negated(detector.engine, tmp_path / "blind.onnx")
    arguments = ["check", str(blind), "--pairs", str(detector.pairs)]
    assert run_command(mdexport, "mdexport", [*arguments, "--json"]) == 0
    (verdict,) = json.loads(capsys.readouterr().out)["verdicts"]
    assert verdict["parity"]["passed"] is True
    assert verdict["doubt"].startswith("what the reference finds is wrong on these pairs (msrs val, fusion labels)")
    assert run_command(mdexport, "mdexport", arguments) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "so they prove nothing; is the network trained?" in shown
    assert "passed" not in shown
    half = tmp_path / "half.onnx"
    assert run_command(mdexport, "mdexport", ["fp16", *arguments[1:], "--output", str(half)]) == 0
    assert "not verified: what the reference finds is wrong" in capsys.readouterr().out
    assert "so they prove nothing" in str(find_doubt(read_manifest(half)))


def test_an_engine_is_no_better_proven_than_what_it_was_compared_with(
    engines: Path, detector: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    single = read_engine(engines / "tiny.onnx")
    assert single.manifest.parity is not None
    few = dataclasses.replace(single.manifest, parity=dataclasses.replace(single.manifest.parity, pairs=2))
    write_engine(single.model, few, tmp_path / "tiny.onnx")
    files = [tmp_path / "tiny.onnx", engines / "tiny_int8.onnx"]
    (_, alone) = check_engines(files, pairs_of(detector)).report.verdicts
    assert "what it was compared with, tiny.onnx, is not verified itself: only 2 pairs" in str(alone.doubt)
    (single_now, with_checkpoint) = check_engines(files, pairs_of(detector), weights=detector.weights).report.verdicts
    assert (single_now.doubt, with_checkpoint.doubt) == (None, None)
    assert run_command(mdexport, "mdexport", ["check", *map(str, files), "--pairs", str(detector.pairs)]) == 0
    assert "not verified" in capsys.readouterr().out


def test_a_folder_without_engines_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UsageError, match=r"holds no engine \(\.onnx, \.plan, \.engine, \.rtx\)"):
        find_engines([tmp_path])


def test_an_engine_that_does_not_follow_fails_unless_accepted(
    engines: Path, detector: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    single = engines / "tiny.onnx"
    for accepted, code in ((None, 3), ("a known loss", 0)):
        other = write_negated(single, tmp_path / "other.onnx", accepted)
        arguments = ["check", str(single), str(other), "--pairs", str(detector.pairs), "--json"]
        assert run_command(mdexport, "mdexport", arguments) == code
        said = capsys.readouterr()
        verdicts = {verdict["name"]: verdict for verdict in json.loads(said.out)["verdicts"]}
        assert verdicts["tiny.onnx"]["parity"]["passed"] is True
        assert verdicts["other.onnx"]["parity"]["passed"] is False
        assert verdicts["other.onnx"]["accepted"] == accepted
        assert verdicts["tiny.onnx"]["doubt"] is None
        assert verdicts["other.onnx"]["doubt"].startswith("its parity check did not pass")
        if code:
            (line,) = said.err.splitlines()
            assert "other.onnx: does not follow tiny.onnx fp32" in line
        else:
            assert not said.err


def test_command_line_with_a_picture(
    engines: Path, detector: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    picture = tmp_path / "new" / "check.jpg"
    files = [str(engines / name) for name in ("tiny.onnx", "tiny_int8.onnx", "tiny_fp16_rtx.rtx")]
    arguments = ["check", *files, "--pairs", str(detector.pairs), "--picture", str(picture)]
    assert run_command(mdexport, "mdexport", arguments) == 0
    shown = capsys.readouterr().out
    for words in ("tiny_int8.onnx", "onnxruntime", "person/ap50", "found again", "passed", "not run"):
        assert words in shown
    assert "tiny_fp16_rtx.rtx was not run: " in shown
    assert [path.name for path in picture.parent.iterdir()] == ["check.jpg"]


@pytest.mark.parametrize("words", [["check"], ["bundle", "--output", "bundle"]])
def test_a_device_without_torch_checks_its_engines(
    words: list[str], engines: Path, detector: Made, tmp_path: Path
) -> None:
    """Nor with what only trainings want: a Jetson judges the plan that it has built."""
    absent = "sys.modules |= dict.fromkeys(('torch', 'safetensors', 'lightning_fabric', 'matplotlib', 'onnxscript'))"
    files = [str(engines / name) for name in ("tiny.onnx", "tiny_int8.onnx")]
    words = [*words, *files, "--pairs", str(detector.pairs)]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {absent}; from mdexport.cli import main; main()", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "passed" in done.stdout


@pytest.mark.parametrize("negated", [False, True])
def test_the_result_of_a_plan_goes_into_its_manifest(
    negated: bool,
    engines: Path,
    detector: Made,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No GPU here: an ONNX file computes in the plan's place."""
    for name in ("tiny_fp16.onnx", "tiny_fp16_rtx.rtx", "tiny_fp16_rtx.json"):
        shutil.copy(engines / name, tmp_path)
    plan = tmp_path / "tiny_fp16_rtx.rtx"
    stand_in = write_negated(detector.engine, tmp_path / "other.onnx") if negated else detector.engine

    def opened(path: Path, manifest: Manifest, *, backend: str) -> Backend:
        return open_backend(stand_in if path == plan else path, manifest, backend=backend)

    arguments = ["check", str(engines / "tiny.onnx"), str(plan), "--pairs", str(detector.pairs), "--record"]
    assert run_command(mdexport, "mdexport", arguments) == 0
    assert "--record: no plan was run, so no manifest was changed" in capsys.readouterr().err
    assert run_command(mdexport, "mdexport", [*arguments[:-1], "--accept", "a demo"]) == 2
    assert "got --accept without --record" in capsys.readouterr().err
    monkeypatch.setattr(check, "open_backend", opened)
    before = read_manifest(plan)
    assert "the plan was not run yet" in str(find_doubt(before))
    assert run_command(mdexport, "mdexport", arguments) == (3 if negated else 0)
    assert f"{plan}: its manifest has the result now" in capsys.readouterr().out
    after = read_manifest(plan)
    assert after.digest() == before.digest()
    assert after.build is not None
    assert after.build.parity is not None
    assert after.build.parity.passed is not negated
    assert (find_doubt(after, plan) is None) is not negated
    if negated:
        assert run_command(mdexport, "mdexport", [*arguments, "--accept", "a demo"]) == 0
        assert "accepted: a demo" in " ".join(capsys.readouterr().out.split())
        assert "exported with --accept 'a demo'" in str(find_doubt(read_manifest(plan), plan))
        assert run_command(mdexport, "mdexport", arguments) == 0  # as its manifest says now
        stand_in = detector.engine
        assert run_command(mdexport, "mdexport", arguments) == 0
        assert find_doubt(read_manifest(plan), plan) is None  # it passes, so nothing is accepted
    plan.write_bytes(b"vtrt and so forth")  # as another build of the same command
    assert "another build of it was run" in str(find_doubt(read_manifest(plan), plan))
    (tmp_path / "old").mkdir()
    for name in ("tiny_fp16_rtx.rtx", "tiny_fp16_rtx.json"):
        shutil.copy(engines / name, tmp_path / "old")
    arguments.insert(1, str(tmp_path / "old" / "tiny_fp16_rtx.rtx"))
    assert run_command(mdexport, "mdexport", arguments) == 2
    assert "tiny_fp16_rtx.rtx: two files have that name" in capsys.readouterr().err


def test_a_plan_gets_the_threshold_of_its_own_energies(
    segmenter: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ONNX file whose energies lie five higher computes in the plan's place."""
    plan, shifted = tmp_path / "tiny.rtx", tmp_path / "shifted.onnx"
    write_plan(plan, segmenter.engine)
    single = read_engine(segmenter.engine)
    before = single.manifest
    write_engine(shift_output(single.model, "energy", 5), stamp(single.model, before), shifted)

    def opened(path: Path, manifest: Manifest, *, backend: str) -> Backend:
        return open_backend(*((shifted, read_manifest(shifted)) if path == plan else (path, manifest)), backend=backend)

    monkeypatch.setattr(check, "open_backend", opened)
    report = check_engines([segmenter.engine, plan], pairs_of(segmenter)).report
    assert check.record([segmenter.engine, plan], report) == [plan]
    build = read_manifest(plan).build
    first, of_plan = report.verdicts
    assert build is not None
    assert first.energy_threshold is not None
    assert build.energy_threshold == of_plan.energy_threshold == pytest.approx(first.energy_threshold + 5, abs=1e-4)


def test_what_a_graph_said_before_is_believed_where_the_file_repeats_it(
    ready: Ready, engines: Path, detector: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same verdict as without; a file that says something else than its graph did is run on every scene."""
    paths, runs = [engines / "tiny.onnx"], list[int]()
    infer = check.infer

    def counted(backend: Backend, scenes: list[Scene], title: str, *, together: bool) -> tuple[list[Outputs], float]:
        runs.append(len(scenes))
        return infer(backend, scenes, title, together=together)

    monkeypatch.setattr(check, "infer", counted)
    alone, helped = (check_engines(paths, pairs_of(detector), seen=seen) for seen in (None, ready.seen))
    count = len(ready.scenes)
    spots = SPOT_SCENES
    assert spots < count
    assert runs == [count, count, spots, spots]  # as the reference, and as an engine
    assert helped.report.verdicts[0].parity == alone.report.verdicts[0].parity
    for repeated in (0, 1):  # scenes of which it says what its graph did: one is not enough
        wrong = {
            key: [*outputs[:repeated], *({**one, "scores": one["scores"] / 2} for one in outputs[repeated:])]
            for key, outputs in ready.seen.items()
        }
        runs.clear()
        doubted = check_engines(paths, pairs_of(detector), seen=wrong)
        assert doubted.report.verdicts[0].parity == alone.report.verdicts[0].parity
        assert runs == [spots, count] * 2


def test_the_picture_shows_day_night_and_every_failing_camera(engines: Path, detector: Made, tmp_path: Path) -> None:
    checked = check_engines([engines / "tiny.onnx", engines / "tiny_fp16.onnx"], pairs_of(detector))
    draw_check(checked, tmp_path / "check.jpg")
    picture = cv2.imread(str(tmp_path / "check.jpg"))
    assert picture is not None
    columns, rows = 3, 5  # reference and two engines; day, night, black thermal, black visible, frozen thermal
    assert picture.shape[1] % columns == 0
    assert (picture.shape[0] - HEADER) % rows == 0
    assert (picture.shape[0] - HEADER) // rows > CAPTION
    left, middle = (picture[:, at : at + picture.shape[1] // columns] for at in (0, picture.shape[1] // columns))
    below = slice(HEADER, None)
    assert np.abs(left[below].astype(int) - middle[below]).mean() < 1  # the engine that is the reference


def test_a_segmenter_is_drawn_too(segmenter: Made, tmp_path: Path) -> None:
    draw_check(check_engines([segmenter.engine], pairs_of(segmenter)), tmp_path / "check.jpg")
    assert (tmp_path / "check.jpg").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["{engine}"], 2, "Missing option '--pairs'"),
        (["--pairs", "{pairs}"], 2, "Missing argument 'ENGINES...'"),
        (["missing.onnx", "--pairs", "{pairs}"], 3, "missing.onnx: does not exist"),
        (["missing.plan", "--pairs", "{pairs}"], 3, "missing.plan: does not exist"),
        (
            ["{engine}", "--pairs", "{pairs}", "--backend", "onnx"],
            2,
            "backend is 'onnx', wanted one of auto, onnxruntime",
        ),
        (
            ["{engine}", "--pairs", "{pairs}", "--backend", "tensorrt"],
            2,
            "tiny.onnx: backend is 'tensorrt', wanted onnx",
        ),
        (["empty", "--pairs", "{pairs}"], 2, "empty: holds no engine"),
        (["{engine}", "--pairs", "nowhere"], 2, "nowhere: no such folder"),
        (["{engine}", "--pairs", "{pairs}", "--list", "test"], 4, "test.txt"),
        (["{engine}", "--pairs", "{pairs}", "--picture", "empty"], 6, "empty: is a folder"),
        (["{engine}", "--pairs", "{pairs}", "--picture", "/proc/none/check.jpg"], 6, "/proc/none"),
    ],
)
def test_bad_input(
    arguments: list[str],
    code: int,
    named: str,
    detector: Made,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    names = {"engine": str(detector.engine), "pairs": str(detector.pairs)}
    assert run_command(mdexport, "mdexport", ["check", *(argument.format_map(names) for argument in arguments)]) == code
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert named in line
    assert not said.out
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]
