"""The command: what it prints, what it writes, and one line for every mistake."""

from __future__ import annotations

import errno
import importlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import pytest

import mdrun
from mdrun import __version__
from mdrun.cli import cli
from mdrun.command import run_command
from mdrun.files import OutputFolder
from mdrun.pairing import PairLimits
from mdrun.signals import StopRequest
from tests.runtime.engines import make_manifest, save, write_blob
from tests.runtime.fake_gpu import describe_build
from tests.runtime.test_pipeline import write_folders


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a good engine, good sources and several broken ones; no test changes it."""
    root = tmp_path_factory.mktemp("bench")
    write_folders(root)
    write_folders(root / "long", 8, 8)
    write_folders(root / "raw16", bits=16)
    for name, size in (("sizes", (20, 30)), ("other_depth", None)):
        _, thermal = write_folders(root / name)
        odd = np.zeros((24, 32), np.uint16) if size is None else np.zeros(size, np.uint8)
        cv2.imwrite(str(thermal / "0002.png"), odd)
    (root / "empty").mkdir()
    (root / "cut.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + b"\0" * 100)
    whole = write_blob(root / "blob.onnx").read_bytes()
    (root / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    (root / "noise.onnx").write_bytes(bytes(range(256)) * 4)
    (root / "student.plan").write_bytes(b"plan")
    (root / "sidecar.plan").write_bytes(b"plan")
    built = replace(make_manifest(), build=describe_build())
    (root / "sidecar.json").write_text(built.to_json(), encoding="utf-8")
    save(root / "bare.onnx", make_manifest(), [], {}, embedded=None)
    save(root / "classify.onnx", replace(make_manifest(), task="classify"), [], {})
    save(root / "segment.onnx", replace(make_manifest(), task="segment"), [], {})
    save(root / "hollow.onnx", make_manifest(), [], {})
    return root


Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Call:
    """Run the command in an empty folder; `@name` stands for a file of the bench. Gives exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = run_command(cli, "mdrun", [argument.replace("@", f"{bench}/") for argument in arguments])
        return code, *capfd.readouterr()

    return run


GOOD = ("--engine", "@blob.onnx", "--visible", "@visible", "--thermal", "@thermal")


def swap(flag: str, value: str) -> tuple[str, ...]:
    """The good call with one value changed."""
    place = GOOD.index(flag) + 1
    return (*GOOD[:place], value, *GOOD[place + 1 :])


def test_a_run_writes_its_files_and_a_summary(call: Call, tmp_path: Path) -> None:
    code, out, err = call(*GOOD)
    assert (code, err) == (0, "")
    folder = tmp_path / "runs" / "blob"  # the default output
    names = {"results.jsonl", "overlay.mp4", "overlay.png", "summary.json"}
    assert {path.name for path in folder.iterdir()} == names
    assert len((folder / "results.jsonl").read_text(encoding="utf-8").splitlines()) == 6
    for words in ("captured", "results", "dropped", "measured 6", "p50", "p95", "p99", "preprocess", *names):
        assert words in out
    assert "\x1b" not in out  # no colours where there is no terminal


def test_as_a_process(bench: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mdrun", *(word.replace("@", f"{bench}/") for word in GOOD)]
    command += ["--output", "out", "--limit", "4", "--no-overlay", "--threads", "1"]
    search = os.environ | {"PYTHONPATH": str(Path(mdrun.__file__).parents[1])}  # also where the tests' own is relative
    done = subprocess.run(command, cwd=tmp_path, env=search, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["results.jsonl", "summary.json"]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert summary["captured"]["visible"] == summary["results"] == 4


STREET = "test://street?seed=1&width=320&height=240&duration=60"
TWICE = """
import os, signal, sys, threading
from pathlib import Path
from mdrun.cli import main

def interrupt():
    out = Path(sys.argv[-1])
    while not list(out.glob(".results.*.part.jsonl")):
        pass
    for delay in (0.2, float(os.environ["DELAY"])):
        threading.Event().wait(delay)
        os.kill(os.getpid(), int(os.environ["SIGNAL"]))

threading.Thread(target=interrupt, daemon=True).start()
main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
@pytest.mark.parametrize("delay", [0.0, *(pytest.param(later, marks=pytest.mark.slow) for later in (0.01, 0.03))])
def test_a_second_signal_ends_at_once_and_leaves_nothing(
    bench: Path, tmp_path: Path, number: signal.Signals, delay: float
) -> None:
    """Wherever it comes: in the engine, in a lock, while files are being finished; it may also come too late."""
    arguments = ["--engine", f"{bench}/blob.onnx", "--visible", STREET, "--thermal", STREET, "--output", "out"]
    search = os.environ | {"PYTHONPATH": str(Path(mdrun.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", TWICE, *arguments],
        cwd=tmp_path,
        env=search | {"SIGNAL": str(int(number)), "DELAY": str(delay)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    left = sorted(path.name for path in (tmp_path / "out").iterdir()) if (tmp_path / "out").exists() else []
    assert left in ([], ["overlay.mp4", "overlay.png", "results.jsonl", "summary.json"])
    if not left:
        assert (done.returncode, done.stderr) == (128 + number, "mdrun: error: interrupted\n")
    else:  # too late: the first had finished the files, and the process may already be on its way out
        assert done.returncode in (128 + number, -number)


def test_files_that_get_their_names_are_not_interrupted() -> None:
    """A second signal between two renames would leave half of a run's files."""
    cleaned = []
    with StopRequest(lambda: cleaned.append(1)) as stop:
        stop.hold = True
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
    assert (stop.signal, cleaned) == (signal.SIGTERM, [])


def test_two_runs_cannot_share_a_folder(call: Call, tmp_path: Path) -> None:
    other = OutputFolder(tmp_path / "out")
    other.create()
    other.lock()
    code, _, err = call(*GOOD, "--output", "out")
    assert (code, len(err.splitlines())) == (6, 1)
    assert "another run writes there" in err
    other.unlock()
    assert call(*GOOD, "--output", "out")[0] == 0
    assert not [path.name for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("name", ["results.jsonl", "overlay.mp4", "overlay.png", "summary.json"])
@pytest.mark.parametrize("more", [(), ("--no-overlay",)])
def test_a_folder_in_the_way_of_a_file(call: Call, tmp_path: Path, name: str, more: tuple[str, ...]) -> None:
    (tmp_path / "out" / name).mkdir(parents=True)
    code, _, err = call(*GOOD, "--output", "out", *more)
    assert (code, len(err.splitlines())) == (6, 1)
    assert f"{name}: a folder is in the way" in err
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]


def test_output_that_cannot_be_meant(call: Call, bench: Path, tmp_path: Path) -> None:
    code, _, err = call(*GOOD, "--output", "")
    assert (code, "--output" in err, list(tmp_path.iterdir())) == (2, True, [])
    code, _, err = call(*GOOD, "--output", "@visible")
    assert (code, "name another folder" in err) == (2, True)


def test_a_mistake_of_ours_is_one_line(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def broken() -> None:
        raise ZeroDivisionError("by zero")

    assert run_command(broken, "mdrun", []) == 70
    (line,) = capfd.readouterr().err.splitlines()
    assert "ZeroDivisionError: by zero; MDRUN_DEBUG=1" in line
    monkeypatch.setenv("MDRUN_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        run_command(broken, "mdrun", [])


@pytest.mark.parametrize(("program", "extra"), [("mdtrain", "mdrun[train]"), ("mdexport", "mdrun[export]")])
def test_a_package_that_is_not_installed(capfd: pytest.CaptureFixture[str], program: str, extra: str) -> None:
    @click.command()
    def needs() -> None:
        importlib.import_module("surely_not_installed")

    assert run_command(needs, program, []) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert f'{program} wants surely_not_installed, which is not installed; pip install "{extra}"' in line


def test_a_terminal_that_knows_ascii_only(tmp_path: Path) -> None:
    search = os.environ | {"PYTHONPATH": str(Path(mdrun.__file__).parents[1]), "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-m", "mdrun", "models"], env=search, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"md-r18-slim" in done.stdout


@pytest.mark.parametrize("flags", [(), ("--backend", "openvino")])
def test_the_summary_says_which_library_ran(call: Call, tmp_path: Path, flags: tuple[str, ...]) -> None:
    library = flags[1] if flags else "onnxruntime"
    code, out, err = call(*GOOD, "--no-overlay", *flags)
    assert (code, err) == (0, "")
    assert f"engine library {library} on cpu" in " ".join(out.split())
    summary = json.loads((tmp_path / "runs" / "blob" / "summary.json").read_text(encoding="utf-8"))
    assert (summary["backend"], summary["device"]) == (library, "cpu")


def test_the_engine_library_keeps_no_diary(bench: Path, tmp_path: Path) -> None:
    """ONNX Runtime from 1.32 on writes a device id and a queue of events into the user's cache."""
    command = [sys.executable, "-m", "mdrun", *(word.replace("@", f"{bench}/") for word in GOOD), "--output", "out"]
    search = {**os.environ, "PYTHONPATH": str(Path(mdrun.__file__).parents[1]), "HOME": str(tmp_path / "home")}
    search.pop("ORT_DISABLE_TELEMETRY", None)
    search.pop("XDG_CACHE_HOME", None)
    (tmp_path / "home").mkdir()
    done = subprocess.run(command, cwd=tmp_path, env=search, capture_output=True, check=False)
    assert done.returncode == 0
    assert not [path for path in (tmp_path / "home").rglob("*") if "onnxruntime" in path.name]


def test_thresholds(call: Call, tmp_path: Path) -> None:
    """The body has the score 0.94."""
    call(*GOOD, "--no-overlay", "--output", "a", "--threshold", "0.95")
    call(*GOOD, "--no-overlay", "--output", "b", "--display-threshold", "0.95")
    found = [(tmp_path / name / "results.jsonl").read_text(encoding="utf-8").count("person") for name in "ab"]
    assert found == [0, 6]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        # command line: 2
        (("--frobnicate",), 2, "No such option"),
        (("frobnicate",), 2, "No such command"),
        (("--visible",), 2, "requires an argument"),
        (("--engine", "@blob.onnx"), 2, "--visible is missing"),
        (("--thermal", "@thermal"), 2, "--visible is missing"),
        (GOOD[:4], 2, "--thermal is missing"),
        ((*GOOD, "--threshold", "1.5"), 2, "1.5"),
        ((*GOOD, "--threshold", "nan"), 2, "nan"),
        (("--threshold", "0"), 2, "--visible is missing"),  # nought is a value
        ((*GOOD, "--limit", "0"), 2, "0"),
        ((*GOOD, "--max-age", "-1"), 2, "-1"),
        ((*GOOD, "--max-skew", "300"), 2, "skew"),  # above the default age
        ((*GOOD, "--max-age", "inf"), 2, "inf"),
        ((*GOOD, "info", "@blob.onnx"), 2, "does not go with"),
        ((*GOOD, "--backend", "ncnn"), 2, "backend is 'ncnn', wanted one of auto, onnxruntime, openvino"),
        ((*GOOD, "--backend", ""), 2, "backend is ''"),
        (swap("--visible", "ftp://host/video"), 2, "ftp"),  # unknown scheme
        (swap("--visible", "test://beach"), 2, "beach"),
        (swap("--visible", "@visible?fsp=30"), 2, "fsp"),
        (("info",), 2, "Missing argument"),
        # engine: 3
        (swap("--engine", "@none.onnx"), 3, "does not exist"),
        (swap("--engine", "nameless"), 3, "neither a file nor one that ships"),
        (swap("--engine", "@visible"), 3, "is a folder"),
        (swap("--engine", "@cut.onnx"), 3, "not a complete ONNX file"),
        (swap("--engine", "@noise.onnx"), 3, "not a complete ONNX file"),
        (swap("--engine", "@bare.onnx"), 3, "holds no manifest"),
        (swap("--engine", "@classify.onnx"), 3, "wanted scores float32 and classes int32"),
        (swap("--engine", "@segment.onnx"), 3, "wanted labels int32"),
        (swap("--engine", "@hollow.onnx"), 3, "ONNX Runtime refuses it"),
        (swap("--engine", "@student.plan"), 3, "no manifest beside it"),
        (swap("--engine", "@sidecar.plan"), 3, "sidecar.plan: "),  # no driver here, or no plan
        (("info", "@bare.onnx"), 3, "holds no manifest"),
        (("info", "nameless"), 3, "neither a file nor one that ships"),
        # sources: 4
        (swap("--visible", "@nowhere"), 4, "nowhere"),
        (swap("--thermal", "@empty"), 4, "empty"),
        (swap("--visible", "@cut.mp4"), 4, "cut.mp4"),
        (swap("--visible", "@blob.onnx"), 4, "blob.onnx"),  # not a video
        # data: 5
        (swap("--thermal", "@long/thermal"), 5, "6 visible and 8 thermal"),  # other number
        (swap("--thermal", "@raw16/thermal"), 5, "raw counts"),
        (swap("--thermal", "@sizes/thermal"), 5, "0002.png"),  # size changes on the way
        (swap("--thermal", "@other_depth/thermal"), 5, "0002.png"),
        (("--engine", "@blob.onnx", "--visible", "@thermal", "--thermal", "@visible"), 5, "swapped"),
        # output: 6
        ((*GOOD, "--output", "@blob.onnx"), 6, "choose another --output"),
        ((*GOOD, "--output", "/proc/nothing"), 6, "choose another --output"),
    ],
)
def test_bad_input_is_one_line_and_no_file(
    call: Call, tmp_path: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    got, out, err = call(*arguments)
    assert got == code, err
    assert re.fullmatch(r"mdrun: error: [^\n]+\n", err), err
    assert words in err
    assert out == ""
    assert list(tmp_path.iterdir()) == []


def test_info(call: Call, bench: Path) -> None:
    code, out, _ = call("info", "@blob.onnx", "--json")
    assert code == 0
    assert json.loads(out)["inputs"]["thermal"] == {
        "height": 24,
        "width": 32,
        "dtype": "uint8",
        "layout": "NHW",
        "colour_order": "grey",
        "normalisation": "agc8",
    }
    code, out, _ = call("info", "@sidecar.plan")
    assert code == 0
    assert "person, bicycle, car" in out


def test_info_tells_a_file_that_is_not_the_one_of_its_manifest(call: Call, bench: Path, tmp_path: Path) -> None:
    manifest = make_manifest("student")
    exported = replace(manifest, origin=replace(manifest.origin, graph_sha256="0" * 64))
    save(tmp_path / "changed.onnx", exported, [], {})
    (tmp_path / "other.rtx").write_bytes(b"vtrt\0student@0123456789abcdef\0")
    built = replace(manifest, build=describe_build(target="rtx"))
    (tmp_path / "other.json").write_text(built.to_json(), encoding="utf-8")
    for name, words in (("changed.onnx", "were changed or damaged after export"), ("other.rtx", "different exports")):
        code, out, err = call("info", name)
        assert code == 3
        assert re.search(r"verified +no: the file is not the one that this manifest speaks of", out)
        assert re.fullmatch(rf"mdrun: error: {name}: [^\n]*{words}[^\n]*\n", err)
        code, out, _ = call("info", name, "--json")
        assert (code, json.loads(out)["name"]) == (3, "student")


def test_info_needs_no_engine_library(bench: Path) -> None:
    code = (
        "import sys; from mdrun.cli import cli; from mdrun.command import run_command\n"
        "code = run_command(cli, 'mdrun', ['info', sys.argv[1], '--json'])\n"
        "print(code, 'onnxruntime' in sys.modules, 'cv2' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(bench / "blob.onnx")], capture_output=True, text=True, check=True
    )
    assert done.stderr == "0 False False\n"


@pytest.mark.parametrize("count", [0, 1, 2])
def test_models(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    for index in range(count):
        write_blob(tmp_path / f"blob{index}.onnx", f"blob{index}")
    monkeypatch.setattr("mdrun.models.FOLDER", tmp_path)
    code, out, err = call("models", "--json")
    assert (code, err) == (0, "")
    models: list[dict[str, Any]] = json.loads(out)
    assert [model["name"] for model in models] == [f"blob{index}" for index in range(count)]
    for model in models:
        assert Path(model["path"]).is_file()
        assert {"task", "classes", "needs", "inputs", "accuracy", "licence"} <= model.keys()
    code, out, _ = call("models")
    assert code == 0
    assert ("blob0" in out) == (count > 0)
    code, out, err = call(*GOOD[2:], "--no-overlay", "--limit", "1", "--output", "out")  # without --engine
    assert code == (0 if count == 1 else 2)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, 6),
        (errno.EROFS, 6),
        (errno.EACCES, 1),  # reading or writing, nobody can tell
        (errno.ENOENT, 1),
    ],
)
def test_errors_of_the_system(capfd: pytest.CaptureFixture[str], number: int, code: int) -> None:
    @click.command()
    def command() -> None:
        raise OSError(number, os.strerror(number), "some.file")

    assert run_command(command, "mdrun", []) == code
    assert re.fullmatch(r"mdrun: error: [^\n]+some\.file[^\n]*\n", capfd.readouterr().err)


def test_version_and_help(call: Call) -> None:
    assert call("--version") == (0, f"mdrun {__version__}\n", "")
    bare, helped = call(), call("--help")
    assert bare[0] == helped[0] == 0
    assert bare[1].split() == helped[1].split()
    assert f"default: {PairLimits().skew_ms:g}" in " ".join(helped[1].split())
    assert f"default: {PairLimits().age_ms:g}" in " ".join(helped[1].split())
    assert helped[1].count("    mdrun --") == 4  # real calls


def _children_s() -> float:
    """CPU seconds of finished child processes: unlike wall time no neighbour on the machine can change it."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv[1:] = ['--help']; from mdrun.cli import main\ntry: main()\nfinally: print(*sys.modules)"
    )
    began = _children_s()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert _children_s() - began < 0.5
    loaded = set(done.stdout.splitlines()[-1].split())
    assert not {"numpy", "cv2", "av", "onnxruntime", "openvino", "rich", "torch"} & loaded
