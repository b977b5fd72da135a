"""`mdexport bundle` and `mdexport all`: one folder, whole or not there."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from mdexport import bundle, chain, check, gate
from mdexport.bundle import PARITY, PICTURE, write_bundle
from mdexport.cli import mdexport
from mdexport.engine_file import read_engine, write_engine
from mdexport.fp16 import convert_half
from mdexport.pairs import PairSet, parse_pairs
from mdexport.places import locked
from mdexport.proof import Ready
from mdrun.backends import open_backend
from mdrun.backends.base import Backend
from mdrun.command import run_command
from mdrun.engine import Engine
from mdrun.errors import OutputError, UsageError
from mdrun.files import file_sha256
from mdrun.manifest import Manifest, parse_manifest
from mdrun.onnx_file import check_graph, read_manifest
from mdrun.verified import find_doubt
from mdtrain.outputs import result_folder
from tests.export.labelled import Made
from tests.export.test_check import write_negated, write_plan

PROOF = {PARITY, PICTURE}


@pytest.fixture(scope="module")
def engines(ready: Ready, detector: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two engines of one network, and a plan that has the name of one of them; nobody writes there."""
    folder = tmp_path_factory.mktemp("engines")
    shutil.copy(detector.engine, folder)
    convert_half(ready, folder / "tiny_fp16.onnx", "fp16")
    write_plan(folder / "tiny_fp16.rtx", folder / "tiny_fp16.onnx")
    return folder


def pairs_of(made: Made) -> PairSet:
    return parse_pairs(str(made.pairs))


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_bundle_holds_engines_manifests_and_proof(engines: Path, detector: Made, tmp_path: Path) -> None:
    output = tmp_path / "new" / "student"
    report = write_bundle([engines / "tiny.onnx", engines / "tiny_fp16.onnx"], output, pairs_of(detector))
    assert names_in(output) == {"tiny.onnx", "tiny.json", "tiny_fp16.onnx", "tiny_fp16.json"} | PROOF
    assert names_in(output.parent) == {"student"}
    for name in ("tiny", "tiny_fp16"):
        manifest = parse_manifest((output / f"{name}.json").read_text(), name)
        assert manifest == read_manifest(output / f"{name}.onnx")
        check_graph(output / f"{name}.onnx", manifest)
    assert json.loads((output / PARITY).read_text()) == json.loads(report.to_json())
    assert [verdict.name for verdict in report.verdicts] == ["tiny.onnx", "tiny_fp16.onnx"]
    with Engine.load(output / "tiny_fp16.onnx", require_verified=True) as engine:
        assert engine.manifest.origin.precision == "fp16"


def test_a_plan_keeps_its_own_manifest(engines: Path, detector: Made, tmp_path: Path) -> None:
    """`student_fp16.onnx` and `student_fp16.rtx` share the name of the file beside them; the ONNX file needs none."""
    files = [engines / name for name in ("tiny.onnx", "tiny_fp16.onnx", "tiny_fp16.rtx")]
    write_bundle(files, tmp_path / "student", pairs_of(detector))
    manifest = read_manifest(tmp_path / "student" / "tiny_fp16.rtx")
    assert manifest == read_manifest(engines / "tiny_fp16.rtx")
    assert manifest.build is not None


def test_what_was_found_of_a_plan_is_in_its_manifest(
    engines: Path, detector: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No GPU here: an ONNX file computes in the plan's place. The plan that was copied stays as it is."""

    def opened(path: Path, manifest: Manifest, *, backend: str) -> Backend:
        return open_backend(engines / "tiny_fp16.onnx" if path.suffix == ".rtx" else path, manifest, backend=backend)

    monkeypatch.setattr(check, "open_backend", opened)
    before, output = read_manifest(engines / "tiny_fp16.rtx"), tmp_path / "student"
    report = write_bundle([engines / "tiny.onnx", engines / "tiny_fp16.rtx"], output, pairs_of(detector))
    plan = output / "tiny_fp16.rtx"
    manifest = read_manifest(plan)
    assert manifest.build is not None
    assert manifest.build.parity == report.verdicts[1].parity is not None
    assert manifest.build.sha256 == file_sha256(plan)
    assert manifest.digest() == before.digest()
    assert find_doubt(manifest, plan) is None
    assert read_manifest(engines / "tiny_fp16.rtx") == before


def test_a_failing_check_leaves_nothing(engines: Path, detector: Made, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    broken = write_negated(engines / "tiny.onnx", tmp_path / "source" / "broken.onnx")
    output = tmp_path / "new" / "student"
    with pytest.raises(gate.GateError, match=r"broken\.onnx: does not follow tiny\.onnx fp32 on msrs val"):
        write_bundle([engines / "tiny.onnx", broken], output, pairs_of(detector))
    assert names_in(tmp_path) == {"source"}


def test_a_failing_check_is_reported_as_json(
    engines: Path, detector: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = write_negated(engines / "tiny.onnx", tmp_path / "broken.onnx")
    arguments = [str(engines / "tiny.onnx"), str(broken), "--pairs", str(detector.pairs)]
    output = ["--output", str(tmp_path / "student"), "--json"]
    assert run_command(mdexport, "mdexport", ["bundle", *arguments, *output]) == 3
    said = capsys.readouterr()
    verdicts = {verdict["name"]: verdict for verdict in json.loads(said.out)["verdicts"]}
    assert (verdicts["tiny.onnx"]["doubt"], verdicts["broken.onnx"]["parity"]["passed"]) == (None, False)
    assert "broken.onnx: does not follow tiny.onnx fp32" in said.err
    assert names_in(tmp_path) == {"broken.onnx"}


def test_an_engine_called_as_the_report_is_refused(engines: Path, detector: Made, tmp_path: Path) -> None:
    """Its manifest would be replaced by the report of the bundle."""
    shutil.copy(engines / "tiny.onnx", tmp_path / "parity.onnx")
    with pytest.raises(UsageError, match=r"parity\.onnx: its manifest would be parity\.json"):
        write_bundle([tmp_path / "parity.onnx"], tmp_path / "student", pairs_of(detector))
    assert names_in(tmp_path) == {"parity.onnx"}


def test_errors_name_no_folder_that_is_gone(engines: Path, detector: Made, tmp_path: Path) -> None:
    engine = read_engine(engines / "tiny.onnx")
    origin = dataclasses.replace(engine.manifest.origin, checkpoint_sha256="0" * 64)
    write_engine(engine.model, dataclasses.replace(engine.manifest, origin=origin), tmp_path / "other.onnx")
    with pytest.raises(UsageError, match=r"^other\.onnx: is of another checkpoint"):
        write_bundle([engines / "tiny.onnx", tmp_path / "other.onnx"], tmp_path / "student", pairs_of(detector))


def test_an_older_bundle_is_replaced_or_left(engines: Path, detector: Made, tmp_path: Path) -> None:
    output, pairs = tmp_path / "student", pairs_of(detector)
    write_bundle([engines / "tiny.onnx", engines / "tiny_fp16.onnx"], output, pairs)
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    broken = write_negated(engines / "tiny.onnx", tmp_path / "broken.onnx")
    with pytest.raises(gate.GateError):
        write_bundle([engines / "tiny.onnx", broken], output, pairs)
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before
    write_bundle([output / "tiny.onnx"], output, pairs)  # of its own files
    assert names_in(output) == {"tiny.onnx", "tiny.json"} | PROOF
    assert names_in(tmp_path) == {"student", "broken.onnx"}


@pytest.mark.parametrize(
    ("output", "named"),
    [
        ("runs", "runs: is there and holds precious.txt, which is of no bundle"),  # would delete what is in it
        ("bundle", "bundle: is there and holds seen, which is of no bundle"),
        ("foreign", "foreign: is there and holds parity.json, which is of no bundle"),
        (".", ".: is there and holds bundle, file, foreign, …, which is of no bundle"),
        ("file", "file: is a file, wanted the name of a folder"),
        ("file/student", "file: cannot write a folder there"),
        ("/proc/none/student", "/proc/none"),
    ],
)
def test_a_place_that_is_no_bundle_is_left_alone(
    output: str,
    named: str,
    detector: Made,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def too_late(*_: object) -> None:
        pytest.fail("found after the work began")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bundle, "check_engines", too_late)
    monkeypatch.setattr(chain, "load_student", too_late)
    Path("runs").mkdir()
    Path("runs", "precious.txt").touch()
    Path("file").touch()
    made = {name: Path("bundle", name) for name in ("tiny.onnx", "tiny.json", "parity.jpg", "parity.json", "seen")}
    for folder in ("bundle", "foreign"):
        Path(folder).mkdir()
    for path in made.values():
        path.touch()
    made["parity.json"].write_text(json.dumps({"verdicts": [{"name": "tiny.onnx"}]}), encoding="utf-8")
    Path("foreign", "parity.json").write_text("{}", encoding="utf-8")
    before = sorted(tmp_path.rglob("*"))
    packed = ["bundle", str(detector.engine), "--pairs", str(detector.pairs), "--output", output]
    whole = ["all", str(detector.weights), "--calibration", str(detector.pairs), "--out", output]
    for arguments in (packed, whole):
        assert run_command(mdexport, "mdexport", arguments) == 6
        (line,) = capsys.readouterr().err.splitlines()
        assert named in line
    assert sorted(tmp_path.rglob("*")) == before


def test_what_came_into_a_bundle_meanwhile_stays(tmp_path: Path) -> None:
    with bundle.bundle_folder(tmp_path / "student") as folder:
        (folder / "tiny.onnx").touch()
        (folder / PARITY).write_text(json.dumps({"verdicts": [{"name": "tiny.onnx"}]}), encoding="utf-8")
    mine = tmp_path / "student" / "mine.txt"
    with (
        pytest.raises(OutputError, match=r"student: is there and holds mine\.txt"),
        bundle.bundle_folder(tmp_path / "student") as folder,
    ):
        mine.write_text(f"beside {folder.name}", encoding="utf-8")
    assert names_in(tmp_path / "student") == {"tiny.onnx", PARITY, "mine.txt"}
    assert names_in(tmp_path) == {"student"}


@pytest.mark.parametrize("name", ["", ".", "/", None, 3])
def test_a_report_of_another_program_makes_no_bundle(name: object, tmp_path: Path) -> None:
    (tmp_path / PARITY).write_text(json.dumps({"verdicts": [{"name": name}]}), encoding="utf-8")
    with pytest.raises(OutputError, match=r"holds parity\.json, which is of no bundle"), bundle.bundle_folder(tmp_path):
        pytest.fail("it is filled")


@pytest.mark.parametrize("command", ["bundle", "fp16", "triton"])
def test_two_commands_in_one_place_are_told(
    command: str, detector: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both would say that their result is there, and one of them would be wrong."""
    output = tmp_path / ("a.onnx" if command == "fp16" else "a")
    pairs = [] if command == "triton" else ["--pairs", str(detector.pairs)]
    with result_folder(output if command == "triton" else tmp_path), locked(output, inside=command == "triton"):
        code = run_command(mdexport, "mdexport", [command, str(detector.engine), *pairs, "--output", str(output)])
        assert code == OutputError.exit_code
        (line,) = capsys.readouterr().err.splitlines()
        assert f"{output}: another run writes there; choose another --output" in line
    assert names_in(tmp_path) == set()


def test_an_empty_folder_may_be_filled(engines: Path, detector: Made, tmp_path: Path) -> None:
    (tmp_path / "student").mkdir()
    write_bundle([engines / "tiny.onnx"], tmp_path / "student", pairs_of(detector))
    assert names_in(tmp_path / "student") == {"tiny.onnx", "tiny.json"} | PROOF


def test_two_files_of_one_name_are_refused(
    engines: Path, detector: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other").mkdir()
    other = shutil.copy(engines / "tiny.onnx", tmp_path / "other")
    arguments = ["bundle", str(engines / "tiny.onnx"), str(other), "--pairs", str(detector.pairs)]
    assert run_command(mdexport, "mdexport", [*arguments, "--output", str(tmp_path / "student")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "other/tiny.onnx: another file of the bundle has that name" in line
    assert names_in(tmp_path) == {"other"}


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["bundle", "--pairs", "{pairs}", "--output", "student"], 2, "Missing argument 'ENGINES...'"),
        (["bundle", "{engine}", "--output", "student"], 2, "Missing option '--pairs'"),
        (["bundle", "missing.onnx", "--pairs", "{pairs}", "--output", "student"], 3, "missing.onnx: does not exist"),
        (["bundle", "{engine}", "--pairs", "nowhere", "--output", "student"], 2, "nowhere: no such folder"),
        (["all", "{weights}", "--out", "student"], 2, "got nothing to calibrate on"),
        (["all", "missing.safetensors", "--calibration", "{pairs}", "--out", "student"], 3, "missing.safetensors"),
        (
            ["all", "{engine}", "--calibration", "{pairs}", "--out", "student"],
            3,
            "tiny.onnx: an engine, wanted",
        ),
        (["all", "{weights}", "--calibration", "{pairs}", "--list", "test", "--out", "student"], 4, "test.txt"),
        (["all", "{weights}", "--calibration", "msrs=few", "--out", "student"], 2, "got 8 pairs, wanted at least 16"),
        (["all", "{weights}", "--calibration", "msrs=unpaired", "--out", "student"], 4, "00004N.jpg is missing"),
        (["all", "{weights}", "--calibration", "msrs=wide", "--out", "student"], 5, "wanted one field of view"),
        (["all", "{weights}", "--calibration", "{pairs}", "--pairs", "msrs=few", "--out", "student"], 2, "got 8 pairs"),
    ],
)
def test_bad_input(
    arguments: list[str],
    code: int,
    named: str,
    detector: Made,
    bad_pairs: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def too_late(*_: object, **__: object) -> None:
        pytest.fail("found after the work began")

    monkeypatch.chdir(bad_pairs)
    monkeypatch.setattr(chain, "export_student", too_late)
    before = names_in(bad_pairs)
    names = {"engine": str(detector.engine), "pairs": str(detector.pairs), "weights": str(detector.weights)}
    assert run_command(mdexport, "mdexport", [argument.format_map(names) for argument in arguments]) == code
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert named in line
    assert names_in(bad_pairs) == before
