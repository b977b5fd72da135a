"""Categories of boxes that a user names: in the readers, in a training, and where others are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mdrun.command import run_command
from mdrun.errors import DataError, EngineError, MdrunError, UsageError
from mdtrain.build import load_trained, spec_of
from mdtrain.cli import mdtrain
from mdtrain.config import Config, load_config
from mdtrain.contract import draft_manifest
from mdtrain.data.categories import are_categories, index_of, indices_of
from mdtrain.data.problems import all_findings
from mdtrain.data.records import CLASSES
from mdtrain.data.sets import SetName, read_set
from mdtrain.loop import Start
from mdtrain.metrics.robustness import skewed_scenes
from mdtrain.models.detector import DetectorSpec
from mdtrain.recipes import baseline, distill, teacher
from mdtrain.report import read_runs
from mdtrain.sweep import Row, Variant, write_table
from mdtrain.tasks import make_task
from tests.runtime.engines import make_manifest, write_constant
from tests.training.evaluating import Eval, refused
from tests.training.test_recipes import TINY, tiny
from tests.training.tree import (
    write_coco,
    write_flir,
    write_kaist,
    write_llvip,
    write_msrs,
    write_own,
    write_roadscene,
)

OWN = ["forklift", "dog"]
WRITERS: dict[str, Callable[[Path], Path]] = {
    "msrs": write_msrs,
    "kaist": write_kaist,
    "flir": write_flir,
    "llvip": write_llvip,
    "roadscene": write_roadscene,
    "coco": write_coco,
}


def own(tmp_path: Path, *more: str, classes: str = "[forklift,dog]") -> Config:
    """A tiny training on own pairs with own categories."""
    if not (tmp_path / "data" / "coco").exists():
        write_own(tmp_path / "data" / "coco")
    named = ("data.sets=[coco]", "data.validation=coco", f"data.classes={classes}", f"data.root={tmp_path / 'data'}")
    return load_config(None, (*TINY, *named, *more))


@pytest.mark.parametrize(
    ("name", "categories", "index"),
    [
        ("Forklift", ["dog", "forklift"], 1),
        ("forklifts", ["dog", "Forklift"], 1),  # plural, another case
        ("people", ["dog", "person"], 1),
        ("people", ["dog"], None),  # another word for what is not wanted
        ("people", ["person", "people"], 1),  # its own name goes first
        ("cyclist", ["person", "bicycle"], 1),
        ("cyclists", ["bicycle", "cyclist"], 1),
        ("bikes", ["bicycle"], 0),
        ("bicycle", ["bike"], None),  # other words stand for the known names, not the other way round
        ("", ["dog"], None),
    ],
)
def test_a_name_stands_for_a_category(name: str, categories: list[str], index: int | None) -> None:
    assert index_of(name, categories) == index
    assert indices_of([name], categories).tolist() == [-1 if index is None else index]


@pytest.mark.parametrize(
    ("names", "fit"),
    [
        ([], True),
        (["dog"], True),
        (["hard hat", "dog"], True),
        (["dog", "Dog"], False),
        (["dog", ""], False),
        ([" dog"], False),
        (["a,b"], False),
        (["a/b"], False),
    ],
)
def test_names_that_can_be_told_apart(names: list[str], fit: bool) -> None:
    assert are_categories(names) is fit


def test_no_names_are_person_bicycle_car() -> None:
    """Of the boxes that are read; a classifier's classes are no boxes, and label maps have theirs."""
    default, named = load_config(None), load_config(None, ("data.classes=[dog]",))
    assert (default.data.classes, default.categories, default.class_names) == ([], list(CLASSES), list(CLASSES))
    assert (named.categories, named.class_names) == (["dog"], ["dog"])
    pairs = load_config(None, ("task=classify", "data.classes=[day,night]", "data.mosaic_share=0"))
    assert (pairs.categories, pairs.class_names) == (list(CLASSES), ["day", "night"])
    spec = spec_of(named)
    assert isinstance(spec, DetectorSpec)
    assert spec.classes == 1


@pytest.mark.parametrize("classes", ["[dog,Dog]", "['a,b']", "[' dog']"])
def test_names_that_no_file_could_tell_apart_are_refused(classes: str) -> None:
    with pytest.raises(UsageError, match=r"data\.classes .* wanted different names, whatever their case"):
        load_config(None, (f"data.classes={classes}",))


@pytest.mark.parametrize(
    ("name", "categories", "classes", "left_out"),
    [
        ("msrs", ["person"], [0], {}),
        ("msrs", ["car", "Person"], [1], {}),
        ("msrs", ["dog"], [], {"person": 4}),  # one in each of four pairs
        ("kaist", ["dog", "person"], [1], {}),
        ("kaist", ["cyclist"], [], {"person": 1}),
        ("flir", ["dog", "car"], [1, 0], {}),
        ("flir", ["dog"], [0], {"car": 1}),
        ("llvip", ["dog", "person"], [1, 0], {}),
        ("llvip", ["car"], [], {"person": 1, "dog": 1}),
        ("roadscene", ["car"], [0], {"person": 1, "dog": 1}),
        ("roadscene", ["dog"], [0], {"person": 1, "car": 1}),  # of another pair
        ("coco", ["tree"], [0], {"pedestrian": 2}),
        ("coco", ["tree", "pedestrian"], [1, 0], {"crowds": 1}),
    ],
)
def test_sets_give_boxes_of_the_categories(
    name: SetName, categories: list[str], classes: list[int], left_out: dict[str, int], tmp_path: Path
) -> None:
    WRITERS[name](tmp_path)
    with all_findings() as found:
        records = read_set(name, tmp_path, "train", categories=categories)
    assert not found.problems
    assert records[0].classes.tolist() == classes
    assert records[0].boxes.shape == (len(classes), 4)
    assert found.left_out == left_out


def test_scenes_show_what_the_street_knows() -> None:
    ((every,),) = skewed_scenes(1, (0,)).values()
    ((cars,),) = skewed_scenes(1, (0,), categories=["dog", "car"]).values()
    np.testing.assert_array_equal(cars.boxes, every.boxes[every.classes == CLASSES.index("car")])
    assert set(cars.classes.tolist()) == {1}


def test_a_training_of_own_categories(tmp_path: Path) -> None:
    """Rows, measures and manifest have them, in their order; what no pair to judge on shows has no number."""
    document = json.loads((write_own(tmp_path / "data" / "coco") / "val.json").read_text())
    document["annotations"] = document["annotations"][::2]
    (tmp_path / "data" / "coco" / "val.json").write_text(json.dumps(document))
    config = own(tmp_path)
    task = make_task(config)
    assert task.rows == tuple(OWN)
    assert task.measures == ("forklift/ap50", "forklift/day/ap50", "forklift/night/ap50", "dog/ap50")
    result = baseline.train(config, tmp_path / "run", "mdtrain train baseline")
    assert set(result.accuracy.scores) == {f"{name}{when}/ap50" for name in OWN for when in ("", "/day", "/night")}
    assert np.isnan(result.accuracy.scores["dog/ap50"])
    trained = load_trained(result.weights, "student")
    assert set(trained.facts["accuracy"]) == {"coco_val/forklift/ap50"}
    assert draft_manifest(trained.config, trained.model.state_dict(), trained.facts).classes == OWN


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        ("[forklift,person,dog]", r"no training pair has a box of person, which data\.classes names; add pairs"),
        (
            "[crane]",
            r"train\.json: none of its categories is learnt: it has forklift, dogs, people, wanted some of crane",
        ),
    ],
)
def test_a_category_without_a_box_is_refused(classes: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        baseline.train(own(tmp_path, classes=classes), tmp_path / "run", "mdtrain")


def test_a_plan_finds_it_too(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_own(tmp_path / "data" / "coco")
    words = ["train", "baseline", "--data", str(tmp_path / "data"), "--output", str(tmp_path / "run"), "--dry-run"]
    words += ["--set", "data.sets=[coco]", "--set", "data.validation=coco"]
    assert run_command(mdtrain, "mdtrain", [*words, "--set", "data.classes=[dog,person]"]) == 5
    assert "no training pair has a box of person" in capfd.readouterr().err


def test_a_set_without_any_of_them_is_refused(tmp_path: Path) -> None:
    write_msrs(tmp_path / "data" / "msrs")
    with pytest.raises(DataError, match="has a box of forklift, dog, which task=detect learns from; leave the set out"):
        baseline.train(own(tmp_path, "data.sets=[coco,msrs]"), tmp_path / "run", "mdtrain")


def test_weights_of_other_categories_are_refused(tmp_path: Path) -> None:
    """As many, so that every tensor would fit: as a teacher, as a start, in a run that goes on."""
    short, other = "optimiser.iterations=1", "[dog,forklift]"
    weights = teacher.train(own(tmp_path, short), tmp_path / "teacher", "mdtrain").weights
    with pytest.raises(
        UsageError, match=r"\['dog', 'forklift'\], its teacher \['forklift', 'dog'\]; give both the same"
    ):
        distill.train(own(tmp_path, short, classes=other), weights, tmp_path / "student", "mdtrain")
    with pytest.raises(
        UsageError, match=r"data\.classes=\['person', 'bicycle', 'car'\], its teacher \['forklift', 'dog'"
    ):
        distill.train(tiny(tmp_path, short), weights, tmp_path / "student", "mdtrain")
    with pytest.raises(EngineError, match="detects forklift, dog, wanted weights for dog, forklift; give both"):
        teacher.train(own(tmp_path, short, classes=other), tmp_path / "next", "mdtrain", Start(weights))
    with pytest.raises(UsageError, match=r"data\.classes was \['forklift', 'dog'\], is \['dog', 'forklift'\]"):
        teacher.train(own(tmp_path, short, classes=other), tmp_path / "teacher", "mdtrain", Start(resume=True))
    distill.train(own(tmp_path, short), weights, tmp_path / "student", "mdtrain")


def test_runs_of_earlier_versions_start_those_that_name_the_default(tmp_path: Path) -> None:
    finished = baseline.train(tiny(tmp_path, "optimiser.iterations=1"), tmp_path / "run", "mdtrain").weights
    assert "classes: []" in (tmp_path / "run" / "config.yaml").read_text()
    named = tiny(tmp_path, "optimiser.iterations=1", "data.classes=[person,bicycle,car]")
    with pytest.raises(DataError, match="no training pair has a box of bicycle"):  # the weights fit, the pairs do not
        baseline.train(named, tmp_path / "next", "mdtrain", Start(finished))


def test_the_check_of_a_set_counts_them(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root, sheet = write_own(tmp_path / "coco"), tmp_path / "sheet.png"
    check = ["data", "check", str(root), "--json", "--sheet", str(sheet), "--classes"]
    assert run_command(mdtrain, "mdtrain", [*check, "dog"]) == 0
    report = json.loads(capfd.readouterr().out)
    assert (report["objects"], report["left_out"]) == ({"dog": 4}, {"forklift": 4})
    assert sheet.is_file()
    assert run_command(mdtrain, "mdtrain", [*check, "dog,forklift"]) == 0
    assert json.loads(capfd.readouterr().out)["left_out"] == {}
    assert run_command(mdtrain, "mdtrain", [*check, "dog,Dog"]) == 2
    assert "--classes" in capfd.readouterr().err
    assert run_command(mdtrain, "mdtrain", [*check, "crane"]) == 5
    assert "name your own with --set data.classes=[…] (mdtrain data check: --classes)" in capfd.readouterr().err


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Eval:
    return Eval(capsys)


def test_an_engine_is_judged_by_its_own_categories(run: Eval, tmp_path: Path) -> None:
    """It finds the first pair's dog and forklift, in the order of its manifest; the street shows neither."""
    root = write_own(tmp_path / "coco")
    record = read_set("coco", root, "val", categories=OWN)[0]
    boxes = record.boxes * np.array([64, 48] * 2, np.float32)
    scores, classes = np.array([0.9, 0.8], np.float32), record.classes.astype(np.int32)
    manifest = replace(make_manifest("own"), classes=OWN)
    engine = write_constant(tmp_path / "own.onnx", boxes, scores, classes, manifest=manifest)
    call = ("--data", root, "--engine", engine)
    outcome = run("boxes", *call, "--json", "--errors", tmp_path / "errors")
    assert (outcome.code, outcome.err) == (0, "")
    assert list(outcome.json["all"]["classes"]) == OWN
    assert outcome.json["all"]["classes"]["dog"]["objects"] == 4
    assert list(outcome.json["errors"]["thresholds"]) == OWN
    assert "dog_missed" in (tmp_path / "errors" / "errors.csv").read_text()
    lost = run("robustness", *call, "--scenes", "1", "--plot", tmp_path / "loss.png", "--json")
    assert lost.code == 0, lost.err
    assert "scenes show person, bicycle, car only" in lost.err
    assert {one["group"] for one in lost.json} == {"blackout", "misalignment"}
    table = " ".join(run("robustness", *call, "--scenes", "1").out.split())
    assert "condition ┃ forklift ┃ by day ┃ by night ┃ dog" in table
    msrs = write_msrs(tmp_path / "msrs")
    refused(run("boxes", "--data", msrs, "--engine", engine), 3, "its classes are forklift, dog, of which no pair")
    refused(run("msrs", "--data", msrs, "--engine", engine, "--classes", "dog"), 2, "got --classes with --engine")


def test_results_are_judged_by_named_categories(run: Eval, tmp_path: Path) -> None:
    root = write_msrs(tmp_path / "msrs")
    lines = [
        {"schema_version": 1, "visible": {"name": f"{name}.jpg"}, "detections": []} for name in ("00005D", "00006N")
    ]
    (tmp_path / "results.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    outcome = run("msrs", "--data", root, "--results", tmp_path / "results.jsonl", "--classes", "dog, person", "--json")
    classes = outcome.json["all"]["classes"]
    assert {name: of_class["objects"] for name, of_class in classes.items()} == {"dog": 0, "person": 2}


def test_the_report_leaves_out_runs_of_other_categories(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Sweeps and teachers; the table of a sweep of the default categories has no word of them."""
    runs, config = tmp_path / "runs", own(tmp_path, "optimiser.iterations=1", classes="[dog]")
    row = Row(Variant("S-F-A", "distill"), [{"dog/ap50": 0.5}], "coco_val")
    write_table([row], make_task(config), "Ablation", runs / "own")
    assert json.loads((runs / "own" / "results.json").read_text())["classes"] == ["dog"]
    teacher.train(config, runs / "teacher", "mdtrain")
    with pytest.raises(MdrunError, match=r"no results\.json of a sweep"):
        read_runs(runs)
    told = capfd.readouterr().err
    assert told.count("left out, it detects dog, the tables want person, bicycle, car") == 2
    default = make_task(load_config(None))
    write_table([Row(Variant("A", "distill"), [{"person/ap50": 0.5}])], default, "Ablation", runs / "default")
    assert "classes" not in json.loads((runs / "default" / "results.json").read_text())
    assert set(read_runs(runs)) == {("detect", "A")}
