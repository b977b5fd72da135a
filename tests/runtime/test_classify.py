"""Classes of whole pairs: from an engine's outputs to results, files, rigs and pages."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mdrun import Engine
from mdrun.classify import ClassifyPostprocess
from mdrun.cli import cli
from mdrun.command import run_command
from mdrun.errors import EngineError, UsageError
from mdrun.frames import Classification, Verdict
from mdrun.manifest import OutputSpec
from mdrun.observe.metrics import metrics_text
from mdrun.pipeline import RunOptions
from mdrun.postprocess import counted
from mdrun.rig.config import RigConfig
from mdrun.rig.run import make_context, run_rigs
from mdrun.rig.session import Session
from mdrun.sinks.lines import context_line
from mdrun.sinks.scene import Look, count_caption
from mdrun.sinks.uri import build_sink, parse_output
from mdrun.web.address import WebAddress
from mdrun.web.describe import describe_shot
from mdrun.web.view import RigView, Shot
from tests.runtime.engines import KINDS, THERMAL_WH, VISIBLE_WH, make_classify_manifest, write_blob, write_classes
from tests.runtime.test_pipeline import check_account, run_pair, write_folders
from tests.runtime.test_statistics import make_result

DAY, NIGHT, FIRE = range(3)
SCORES = OutputSpec("float32", [1, 2], "probability")
CLASSES = OutputSpec("int32", [1, 2], "index")
ENERGY = OutputSpec("float32", [1], "energy")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An engine, and six dim pairs with a hot body; no test changes it."""
    root = tmp_path_factory.mktemp("classify")
    write_folders(root)
    write_classes(root / "classes.onnx")
    return root


def expected(light: float, heat: float) -> tuple[NDArray[np.float64], float]:
    """Probabilities and energy by hand."""
    logits = np.array([(light - 128) / 32, (128 - light) / 32, (heat - 200) / 8])
    total = math.log(np.exp(logits).sum())
    return np.exp(logits - total), -total


def read(scores: list[float], classes: list[int], threshold: float | None = None) -> Classification:
    outputs = {"scores": np.array([scores], np.float32), "classes": np.array([classes], np.int32)}
    manifest = make_classify_manifest()
    specs = {name: spec for name, spec in manifest.outputs.items() if name != "energy"}
    return ClassifyPostprocess(replace(manifest, outputs=specs), threshold)(outputs, (8, 6))


def test_classes_come_as_the_graph_ranks_them() -> None:
    found = read([0.7, 0.3], [NIGHT, FIRE])
    assert found.classes.tolist() == [NIGHT, FIRE]
    np.testing.assert_allclose(found.scores, [0.7, 0.3])
    assert (found.energy, len(found)) == (None, 2)
    assert found.classes.dtype == np.int64


def test_the_threshold_is_the_lowest_score_reported() -> None:
    assert read([0.75, 0.25], [DAY, NIGHT], 0.25).classes.tolist() == [DAY, NIGHT]
    assert read([0.75, 0.25], [DAY, NIGHT], 0.26).classes.tolist() == [DAY]
    assert len(read([0.75, 0.25], [DAY, NIGHT], 0.9)) == 0


@given(
    st.lists(st.floats(width=32), min_size=2, max_size=2),
    st.lists(st.integers(-(2**31), 2**31 - 1), min_size=2, max_size=2),
)
def test_what_comes_out_is_always_sound(scores: list[float], classes: list[int]) -> None:
    """No NaN, no class that is none: they are left out."""
    found = read(scores, classes)
    assert np.isin(found.classes, range(len(KINDS))).all()
    assert (found.scores >= 0).all()


@pytest.mark.parametrize(
    "outputs",
    [
        {},
        {"scores": SCORES},
        {"scores": SCORES, "classes": replace(CLASSES, shape=[1, 3])},
        {"scores": SCORES, "classes": replace(CLASSES, dtype="int64")},
        {"scores": SCORES, "classes": CLASSES, "energy": replace(ENERGY, shape=[1, 1])},
        {"scores": SCORES, "classes": CLASSES, "logits": ENERGY},
        {"scores": replace(SCORES, shape=[1, 4]), "classes": replace(CLASSES, shape=[1, 4]), "energy": ENERGY},
    ],
)
def test_other_outputs_are_refused(outputs: dict[str, OutputSpec]) -> None:
    with pytest.raises(EngineError, match=r"wanted scores float32 and classes int32 \[1, K\], K from 1 to 3") as caught:
        ClassifyPostprocess(replace(make_classify_manifest(), outputs=outputs))
    assert "\n" not in str(caught.value)


def test_what_is_no_classification() -> None:
    with pytest.raises(ValueError, match=r"wants scores \(N,\) and classes \(N,\)"):
        Classification(np.zeros(2, np.float32), np.zeros(3, np.int64))


def test_the_engine_gives_softmax_and_energy(bench: Path) -> None:
    visible = np.full((50, 70, 3), 40, np.uint8)  # any size
    thermal = np.full((THERMAL_WH[1], THERMAL_WH[0]), 190, np.uint8)
    scores, energy = expected(40, 190)
    with Engine.load(bench / "classes.onnx") as engine:
        found = engine.classify(visible, thermal)
        with pytest.raises(
            EngineError, match=r"task is 'classify', and Engine.infer gives boxes; call Engine.classify"
        ):
            engine.infer(visible, thermal)
    assert found.classes.tolist() == [NIGHT, FIRE]
    np.testing.assert_allclose(found.scores, scores[[NIGHT, FIRE]], rtol=1e-5)
    assert found.energy == pytest.approx(energy, rel=1e-5)
    with (
        Engine.load(write_blob(bench / "blob.onnx")) as engine,
        pytest.raises(EngineError, match=r"call Engine\.infer"),
    ):
        engine.classify(visible, thermal)


def test_only_the_best_class_counts_and_only_where_it_is_sure() -> None:
    both = replace(make_result(), detections=None, classification=read([0.6, 0.4], [NIGHT, DAY]))
    assert [counted(both, display) for display in (0.1, 0.6, 0.7)] == [[NIGHT], [NIGHT], []]
    assert counted(replace(both, classification=read([], [])), 0.0) == []
    look = Look("classes", KINDS, 0.5, thermal_used=True, task="classify")
    assert count_caption(both, look) == "night 0.60"
    assert count_caption(both, replace(look, display=0.7)) == "nothing found"
    assert count_caption(replace(both, display=0.3), look) == "night 0.60 · day 0.40"


def test_files_of_a_run(bench: Path, tmp_path: Path) -> None:
    engine, out = bench / "classes.onnx", tmp_path / "out"
    report, lines = run_pair(engine, str(bench / "visible"), str(bench / "thermal"), out, RunOptions())
    check_account(report, lines)
    assert {path.name for path in out.iterdir()} == {"results.jsonl", "overlay.mp4", "overlay.png", "summary.json"}
    assert report.summary["objects"] == {"day": 0, "night": 0, "fire": 6}
    assert report.summary["areas"] is None
    scores, energy = expected((90 + 60 + 30) / 3, 240)
    first = lines[0]
    assert (first["task"], first["detections"], first["label_map"], first["areas"]) == ("classify", None, None, None)
    assert [row["class"] for row in first["classification"]] == ["fire", "night"]
    assert first["classification"][0]["score"] == pytest.approx(scores[FIRE], abs=1e-4)
    assert first["energy"] == pytest.approx(energy, rel=1e-4)


def call(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = run_command(cli, "mdrun", list(arguments))
    return code, *capfd.readouterr()


def test_the_command_with_its_thresholds(bench: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    sources = ["--visible", str(bench / "visible"), "--thermal", str(bench / "thermal")]
    limits = ["--threshold", "0.5", "--display-threshold", "0.999", "--no-overlay"]
    code, out, err = call(
        capfd, "--engine", str(bench / "classes.onnx"), *sources, *limits, "--output", str(tmp_path / "out")
    )
    assert (code, err) == (0, "")
    assert "fire 0" in out  # 0.98 is below the display threshold
    lines = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert [len(line["classification"]) for line in lines] == [1] * 6


def test_info_and_models_name_the_classes(
    bench: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = call(capfd, "info", str(bench / "classes.onnx"))
    assert (code, "classify" in out, "NMS" in out, "report 0, display 0.5" in out) == (0, True, False, True)
    write_classes(tmp_path / "classes.onnx")
    monkeypatch.setattr("mdrun.models.FOLDER", tmp_path)
    code, out, _ = call(capfd, "models")
    assert (code, "tells apart" in out, "day, night, fire" in out) == (0, True, True)


def rig(bench: Path, engines: list[str], **keys: Any) -> RigConfig:
    cameras = {
        name: {"source": f"{bench}/{role}?fps=10", "role": role}
        for name, role in (("cam0", "visible"), ("cam1", "thermal"))
    }
    ladder = {"engines": engines, "threads": 1, **keys.pop("ladder", {})}
    data = {"rig": "bench", "cameras": cameras, "ladder": ladder, "drift": {"enabled": False}}
    return RigConfig.model_validate(data | keys)


def test_a_rig_counts_and_describes_classes_and_tracks_nothing(bench: Path) -> None:
    with Session(rig(bench, [str(bench / "classes.onnx")])) as session:
        results = list(session)
        context = make_context(session)
        text = metrics_text([session.monitor]).decode()
        session.check()
    assert len(results) == 6
    assert {result.verdict for result in results} == {Verdict.PASS}
    assert all(result.track_ids is None and not result.events for result in results)
    assert session.monitor.snapshot()["objects"] == {"fire": 6}
    assert 'mdrun_objects_total{class="fire",rig="bench"} 6.0' in text
    assert 'mdrun_ood_gated_total{rig="bench",verdict="pass"} 6.0' in text
    assert 'mdrun_energy_bucket{le="+Inf",rig="bench"} 6.0' in text
    line = context_line(results[0], context)
    assert (line["classification"][0]["class"], line["verdict"]) == ("fire", "pass")
    shot = describe_shot(
        Shot(1, results[0], 0.0), RigView(context, WebAddress.from_uri(parse_output("http://127.0.0.1:0")))
    )
    assert (shot["boxes"], shot["areas"]) == ([], [])
    assert [row["class"] for row in shot["classes"]] == ["fire", "night"]
    assert shot["classes"][0]["colour"] == "#{:02x}{:02x}{:02x}".format(*context.look.colour(FIRE))
    with pytest.raises(UsageError, match="COCO holds boxes, and the task of classes is classify; wanted jsonl:FILE"):
        build_sink("coco:x.json", context, Path())


@pytest.mark.parametrize(("strange", "verdict", "rungs"), [("flag", "flag", {0}), ("fallback", "fallback", {1})])
def test_the_gate_judges_each_pair(bench: Path, tmp_path: Path, strange: str, verdict: str, rungs: set[int]) -> None:
    """A pair above the threshold is marked, or the next engine of the ladder looks at it."""
    anxious = write_classes(tmp_path / "anxious.onnx", "anxious", calm=-1000.0)
    config = rig(bench, [str(anxious), str(bench / "classes.onnx")], ladder={"strange": strange})
    with Session(config) as session:
        results = list(session)
    assert {result.verdict for result in results} == {Verdict(verdict)}
    assert {result.rung for result in results} == rungs
    assert {len(result.classification or ()) for result in results} == {2}


def test_outputs_of_a_rig(bench: Path, tmp_path: Path) -> None:
    outputs = [f"jsonl:{tmp_path}/lines.jsonl", f"video:{tmp_path}/overlay.mp4"]
    reports, code = run_rigs([rig(bench, [str(bench / "classes.onnx")], outputs=outputs)])
    assert (code, reports[0].summary["objects"]) == (0, {"fire": 6})
    lines = [json.loads(line) for line in (tmp_path / "lines.jsonl").read_text().splitlines()]
    assert [line["classification"][0]["class"] for line in lines] == ["fire"] * 6
    assert (tmp_path / "overlay.mp4").stat().st_size > 0


def test_engines_of_other_classes_cannot_stand_in(bench: Path, tmp_path: Path) -> None:
    blob = write_blob(tmp_path / "blob.onnx")
    with pytest.raises(EngineError, match="wanted engines of one task with the same classes"):
        Session(rig(bench, [str(bench / "classes.onnx"), str(blob)]))


def test_the_size_of_the_frame_says_nothing() -> None:
    """The same classes for any frame: nothing of a classification is in pixels."""
    outputs = {"scores": np.array([[0.9, 0.1]], np.float32), "classes": np.array([[0, 1]], np.int32)}
    outputs["energy"] = np.array([-2.5], np.float32)
    found = [ClassifyPostprocess(make_classify_manifest())(outputs, size) for size in (VISIBLE_WH, (1, 1))]
    assert {one.energy for one in found} == {-2.5}
    np.testing.assert_array_equal(found[0].scores, found[1].scores)
