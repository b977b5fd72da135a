"""Own categories from labelled pairs to results: a real training, an engine, its conversions, `mdrun`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mdexport.cli import mdexport
from mdexport.pairs import FEWEST
from mdrun.cli import cli
from mdrun.command import run_command
from mdrun.engine import Engine
from mdtrain.cli import mdtrain
from mdtrain.config import load_config
from mdtrain.recipes import baseline
from tests.export.labelled import SHORT
from tests.training.test_recipes import TINY
from tests.training.tree import write_own

OWN = ["forklift", "dog"]


@pytest.mark.slow
def test_from_pairs_to_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every forklift and every dog is found: in training, by the engine, in half precision, by `mdrun`."""
    root, engine, half = write_own(tmp_path / "coco", FEWEST), tmp_path / "own.onnx", tmp_path / "half.onnx"
    named = ("data.sets=[coco]", "data.validation=coco", "data.classes=[forklift,dog]", f"data.root={tmp_path}")
    length = ("optimiser.iterations=100", "evaluate_every=100", "optimiser.batch_size=4")
    config = load_config(None, (*TINY, *SHORT, *length, *named))
    trained = baseline.train(config, tmp_path / "run", "mdtrain train baseline")
    found = [trained.accuracy.scores[f"{name}/ap50"] for name in OWN]
    assert min(found) > 0.9
    folders = ["--visible", str(root / "visible"), "--thermal", str(root / "thermal")]
    onnx = ["onnx", str(trained.weights), *folders, "--pairs", "2", "--output", str(engine)]
    assert run_command(mdexport, "mdexport", onnx) == 0
    fp16 = ["fp16", str(engine), "--pairs", f"coco={root}", "--output", str(half), "--json"]
    assert run_command(mdexport, "mdexport", fp16) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(report["metrics"]) == {"mean/ap50"}
    with Engine.load(half) as loaded:
        assert loaded.manifest.classes == OWN
    assert run_command(mdtrain, "mdtrain", ["eval", "boxes", "--data", str(root), "--engine", str(half), "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)["all"]["classes"]
    assert [scores[name]["ap50"] for name in OWN] == pytest.approx(found, abs=0.05)
    seen = ["--engine", str(half), *folders, "--output", str(tmp_path / "seen")]
    assert run_command(cli, "mdrun", seen) == 0
    lines = (tmp_path / "seen" / "results.jsonl").read_text().splitlines()
    assert len(lines) == 2 * FEWEST
    assert {item["class"] for line in lines for item in json.loads(line)["detections"]} == set(OWN)
