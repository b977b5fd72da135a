"""`mdtrain eval msrs`: real files through the command, what it prints and how it fails."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from mdrun.manifest import METADATA_KEY, InputSpec, Manifest, Origin, OutputSpec, Thresholds
from tests.training.evaluating import Eval, refused

WIDTH, HEIGHT = 64, 48
PERSON = (8.0, 12.0, 16.0, 36.0)  # as labels of the tree below say
CAR = (32.0, 24.0, 56.0, 36.0)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Eval:
    return Eval(capsys)


def test_help_loads_nothing_heavy() -> None:
    code = "import sys, mdtrain.commands.evaluate; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert not {"torch", "cv2", "numpy", "pycocotools", "rich.table"} & set(loaded)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A set in the MSRS layout: 00001D with a person and a car, one hot spot in thermal; 00002N empty and cold."""
    root = tmp_path / "msrs"
    for folder in ("vi", "ir", "labels/fusion"):
        (root / folder).mkdir(parents=True)
    lines = []
    for label, (x1, y1, x2, y2) in ((0, PERSON), (2, CAR)):
        fractions = ((x1 + x2) / 2 / WIDTH, (y1 + y2) / 2 / HEIGHT, (x2 - x1) / WIDTH, (y2 - y1) / HEIGHT)
        lines.append(f"{label} " + " ".join(map(str, fractions)))
    hot = np.zeros((HEIGHT, WIDTH), np.uint8)
    hot[16:20, 8:12] = 255
    for name, thermal, text in (("00001D", hot, "\n".join(lines)), ("00002N", hot * 0, "")):
        cv2.imwrite(str(root / "vi" / f"{name}.jpg"), np.full((HEIGHT, WIDTH, 3), (80, 90, 100), np.uint8))
        cv2.imwrite(str(root / "ir" / f"{name}.jpg"), thermal, [cv2.IMWRITE_JPEG_QUALITY, 100])
        (root / "labels" / "fusion" / f"{name}.txt").write_text(text)
    (root / "val.txt").write_text("00001D\n00002N\n")
    return root


def hottest_manifest(classes: list[str]) -> Manifest:
    """Of the engine below: thermal at a quarter of the visible size."""
    return Manifest(
        schema_version=1,
        name="hottest",
        task="detect",
        inputs={
            "visible": InputSpec(HEIGHT, WIDTH, "uint8", "NHWC", "RGB"),
            "thermal": InputSpec(HEIGHT // 4, WIDTH // 4, "uint8", "NHW", "grey", "agc8"),
        },
        needs=["visible", "thermal"],
        outputs={
            "boxes": OutputSpec("float32", [1, 2, 4], "xyxy pixels of the visible input"),
            "scores": OutputSpec("float32", [1, 2], "confidence"),
            "classes": OutputSpec("int32", [1, 2], "index into classes"),
        },
        classes=classes,
        thresholds=Thresholds(report=0.02, display=0.5, nms_iou=0.5, max_detections=10),
        origin=Origin("0" * 64, "test", ["none"], "Apache-2.0", {}, 0),
    )


def write_engine(path: Path, classes: list[str]) -> Path:
    """A real engine: a car and a person box, classes 0 and 1, both scored by the hottest thermal pixel / 255."""
    manifest = hottest_manifest(classes)
    nodes = [
        helper.make_node("Cast", ["thermal"], ["t"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["t"], ["hottest"], keepdims=0),
        helper.make_node("Div", ["hottest", "white"], ["score"]),
        helper.make_node("Expand", ["score", "shape"], ["scores"]),
        helper.make_node("Identity", ["fixed_boxes"], ["boxes"]),
        helper.make_node("Identity", ["fixed_classes"], ["classes"]),
    ]
    constants: dict[str, NDArray[Any]] = {
        "white": np.array(255, np.float32),
        "shape": np.array([1, 2], np.int64),
        "fixed_boxes": np.array([[CAR, PERSON]], np.float32),
        "fixed_classes": np.array([[0, 1]], np.int32),
    }
    inputs = [
        helper.make_tensor_value_info("visible", TensorProto.UINT8, [1, HEIGHT, WIDTH, 3]),
        helper.make_tensor_value_info("thermal", TensorProto.UINT8, [1, HEIGHT // 4, WIDTH // 4]),
    ]
    types = {"boxes": TensorProto.FLOAT, "scores": TensorProto.FLOAT, "classes": TensorProto.INT32}
    outputs = [helper.make_tensor_value_info(n, types[n], spec.shape) for n, spec in manifest.outputs.items()]
    initial = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, manifest.network_name(), inputs, outputs, initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, {METADATA_KEY: manifest.to_json()})
    onnx.save(model, str(path))
    return path


def line(name: str, *found: tuple[str, float, tuple[float, ...]]) -> dict[str, Any]:
    """One result line as `mdrun` writes it."""
    return {
        "schema_version": 1,
        "visible": {"provenance": "measured", "source": "cam0", "name": name, "frame": 0},
        "task": "detect",
        "detections": [{"class": c, "score": s, "box_xyxy": list(box)} for c, s, box in found],
    }


def write_lines(path: Path, *lines: object) -> Path:
    path.write_text("".join((entry if isinstance(entry, str) else json.dumps(entry)) + "\n" for entry in lines))
    return path


def test_msrs_engine(run: Eval, tree: Path, tmp_path: Path) -> None:
    """The engine numbers its classes in another order than the set."""
    engine = write_engine(tmp_path / "hottest.onnx", ["car", "person", "bicycle"])
    outcome = run("msrs", "--data", tree, "--engine", engine, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    scores = outcome.json
    assert (scores["split"], scores["labels"]) == ("val", "fusion")
    assert [scores[group]["images"] for group in ("all", "day", "night")] == [2, 1, 1]
    assert [scores[group]["ap50"] for group in ("all", "day", "night")] == [pytest.approx(1), pytest.approx(1), None]
    assert [scores["all"]["classes"][name]["objects"] for name in ("person", "bicycle", "car")] == [1, 0, 1]
    assert scores["all"]["classes"]["person"]["best_f1"]["threshold"] > 0.8


def test_msrs_smaller_thermal_camera(run: Eval, tree: Path, tmp_path: Path) -> None:
    """At 4x3 the hot spot of 4x4 pixels is spread over a cell of 16x16: a sixteenth of its heat is left."""
    engine = write_engine(tmp_path / "hottest.onnx", ["car", "person"])
    scores = run("msrs", "--data", tree, "--engine", engine, "--thermal-size", "4x3", "--json").json
    assert scores["all"]["classes"]["person"]["best_f1"]["threshold"] == pytest.approx(1 / 16, abs=0.02)


def test_msrs_results(run: Eval, tree: Path, tmp_path: Path) -> None:
    """Persons found, a false car surer than the true one; other images and other classes are left out."""
    results = write_lines(
        tmp_path / "results.jsonl",
        line("00002N.jpg", ("car", 0.9, CAR)),
        line("00001D.png", ("person", 0.7, PERSON), ("car", 0.6, CAR), ("dog", 0.9, CAR)),
        line("00009D.jpg", ("person", 0.9, CAR)),
        line("00009D.jpg"),
        "",
    )
    scores = run("msrs", "--data", tree, "--results", results, "--json").json
    assert scores["all"]["classes"]["person"]["ap50"] == pytest.approx(1)
    assert scores["all"]["classes"]["car"]["ap50"] == pytest.approx(0.5)
    assert scores["day"]["classes"]["car"]["ap50"] == pytest.approx(1)
    assert scores["night"]["classes"]["car"] == {"objects": 0, "ap50": None, "ap": None, "best_f1": None}


def test_msrs_engine_and_its_results_agree(run: Eval, tree: Path, tmp_path: Path) -> None:
    engine = write_engine(tmp_path / "hottest.onnx", ["car", "person", "bicycle"])
    by_engine = run("msrs", "--data", tree, "--engine", engine, "--json").json
    score = by_engine["all"]["classes"]["person"]["best_f1"]["threshold"]
    found = line("00001D.jpg", ("person", score, PERSON), ("car", score, CAR))
    results = write_lines(tmp_path / "results.jsonl", found, line("00002N.jpg"))
    assert run("msrs", "--data", tree, "--results", results, "--json").json == by_engine


def test_msrs_table(run: Eval, tree: Path, tmp_path: Path) -> None:
    results = write_lines(tmp_path / "results.jsonl", line("00001D.jpg", ("person", 0.7, PERSON)), line("00002N.jpg"))
    outcome = run("msrs", "--data", tree, "--results", results)
    assert outcome.code == 0
    for word in ("person", "bicycle", "car", "mean", "1.000", "0.500", "0.700"):
        assert word in outcome.out
    assert f"{results} on msrs val, fusion labels" in outcome.out.replace("\n", "")


@pytest.mark.parametrize(("options", "camera"), [((), "as stored"), (("--thermal-size", "16x12"), "at 16x12")])
def test_msrs_table_names_engine_and_camera(
    run: Eval, tree: Path, tmp_path: Path, options: tuple[str, ...], camera: str
) -> None:
    engine = write_engine(tmp_path / "hottest.onnx", ["car", "person"])
    outcome = run("msrs", "--data", tree, "--engine", engine, *options)
    assert outcome.out.startswith(f"hottest on msrs val, fusion labels, thermal {camera}\n")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([line("00001D.jpg")], "no line for 1 of 2 images (00002N)"),
        ([line("00001D.jpg"), line("00001D.jpg")], "second result for 00001D, the first is line 1"),
        (["{"], "line 1: not JSON"),
        (["[]"], "wanted an object"),
        ([{**line("00001D.jpg"), "schema_version": 2}], "schema_version is 2, wanted 1"),
        ([{**line("00001D.jpg"), "visible": {"name": None}}], "visible: name is None, wanted a text"),
        ([{**line("00001D.jpg"), "detections": None}], "detections is None, wanted a list"),
        ([line("00001D.jpg", ("person", float("nan"), PERSON))], "detections[0]: score is nan"),
        ([line("00001D.jpg", ("person", 0.5, PERSON[:3]))], "wanted four finite numbers x1, y1, x2, y2"),
    ],
)
def test_msrs_bad_results(run: Eval, tree: Path, tmp_path: Path, lines: list[object], said: str) -> None:
    results = write_lines(tmp_path / "results.jsonl", *lines)
    refused(run("msrs", "--data", tree, "--results", results, "--json"), 5, said)


def test_msrs_damaged_images(run: Eval, tree: Path, tmp_path: Path) -> None:
    engine = write_engine(tmp_path / "hottest.onnx", ["car", "person"])
    data = ("msrs", "--data", tree, "--engine", engine)
    path = tree / "vi" / "00002N.jpg"
    path.write_bytes(path.read_bytes()[:-20])
    refused(run(*data), 4, "00002N.jpg", "truncated")
    path.unlink()
    refused(run(*data), 4, "00002N.jpg", "missing")
    (tree / "val.txt").write_text("")
    refused(run(*data), 4, "names no pairs")


@pytest.mark.parametrize("size", ["100000x100000", "65x49"])
def test_a_cheaper_camera_has_no_more_pixels(run: Eval, tree: Path, tmp_path: Path, size: str) -> None:
    call = ("msrs", "--data", tree, "--engine", write_engine(tmp_path / "hottest.onnx", ["car", "person"]))
    refused(run(*call, "--thermal-size", size), 2, f"--thermal-size is {size}, wanted", "at most the 64x48 pixels")
    assert run(*call, "--thermal-size", "64x48").code == 0


def test_what_a_training_leaves_is_no_engine(run: Eval, tree: Path, tmp_path: Path) -> None:
    weights, checkpoint = tmp_path / "weights.safetensors", tmp_path / "last.ckpt"
    save_file({"weight": np.zeros(9, np.float32)}, weights)
    with zipfile.ZipFile(checkpoint, "w") as file:  # as torch.save does
        file.writestr("archive/data.pkl", b"\x80\x02.")
    data = ("msrs", "--data", tree, "--engine")
    refused(run(*data, weights), 3, "weights of a training (safetensors), wanted an engine", f"mdexport onnx {weights}")
    refused(run(*data, checkpoint), 3, "a checkpoint or another file of torch.save", "mdexport onnx RUN/weights")


def test_msrs_bad_input(run: Eval, tree: Path, tmp_path: Path) -> None:
    engine = write_engine(tmp_path / "hottest.onnx", ["dog", "cat"])
    data = ("msrs", "--data", tree)
    refused(run(*data), 2, "neither of --engine and --results")
    refused(run(*data, "--engine", engine, "--results", engine), 2, "both of --engine and --results")
    refused(run(*data, "--results", engine, "--thermal-size", "4x3"), 2, "--thermal-size with --results")
    for size in ("160", "0x5", "160x", "axb", "-1x2", "9" * 5000 + "x2"):
        refused(run(*data, "--engine", engine, f"--thermal-size={size}"), 2, "such as 160x128")
    refused(run(*data, "--engine", engine), 3, "its classes are dog, cat")
    refused(run(*data, "--engine", tmp_path / "none.onnx"), 3, "none.onnx")
    refused(run(*data, "--results", tmp_path / "none.jsonl"), 4, "is not there")
    refused(run(*data, "--split", "test", "--engine", engine), 4, "test.txt")
    refused(run("msrs", "--data", tmp_path / "nowhere", "--engine", engine), 4, "nowhere")
    (tree / "labels" / "fusion" / "00002N.txt").write_text("7 0.5 0.5 0.1 0.1")
    engine = write_engine(tmp_path / "hottest.onnx", ["car", "person"])
    refused(run(*data, "--engine", engine), 5, "class", "7", "wanted 0 to 2")


@pytest.mark.realdata
def test_msrs_labels_as_results_are_perfect(run: Eval, real_data: Path, tmp_path: Path) -> None:
    """The validation labels themselves, written as results, score one on every class by day and by night."""
    from mdtrain.data.records import CLASSES
    from mdtrain.data.sets.msrs import read_msrs

    root = real_data / "rgbt" / "msrs"
    lines = []
    for record in read_msrs(root, "val"):
        height, width = record.visible.shape[:2]
        boxes = record.boxes * np.array([width, height, width, height])
        found = [
            (CLASSES[label], 0.9, tuple(box))
            for box, label in zip(boxes.tolist(), record.classes.tolist(), strict=True)
        ]
        lines.append(line(f"{record.name}.jpg", *found))
    scores = run("msrs", "--data", root, "--results", write_lines(tmp_path / "r.jsonl", *lines), "--json").json
    assert scores["all"]["images"] == scores["day"]["images"] + scores["night"]["images"] == 60
    for group in ("all", "day", "night"):
        assert scores[group]["ap"] == pytest.approx(1)
