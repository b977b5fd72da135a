"""Tiny real ONNX engines that keep the contract of docs/manifest.md.

`write_blob` finds one warm body by a threshold, so that its box can be computed by hand; `write_constant` gives
whatever boxes a test wants. `write_areas` labels what is warm and what is red; `write_labels` gives whatever label map
a test wants.
`write_classes` tells bright pairs from dark ones and from those with something hot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from mdrun.manifest import METADATA_KEY, InputSpec, Manifest, Origin, OutputSpec, Parity, Thresholds
from mdrun.street.config import LABEL_NAMES

CLASSES = ["person", "bicycle", "car"]
LABELS = list(LABEL_NAMES)
RED_LABEL, WARM_LABEL = LABELS.index("car"), LABELS.index("person")
RED = 200  # a visible pixel whose red is above this belongs to a car
KINDS = ["day", "night", "fire"]
CALM = -1.0  # energy below which a pair is like those of the training
VISIBLE_WH = (96, 72)
THERMAL_WH = (32, 24)
WARM = 200  # a thermal pixel above this belongs to the body
PASSED = Parity("arithmetic by hand", 16, "these tests", {"scores": 0.0}, {"scores": 1e-3}, passed=True)
OPSET = 17
TYPES = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT, "int32": TensorProto.INT32}


def make_manifest(
    name: str = "blob",
    count: int = 2,
    visible_wh: tuple[int, int] = VISIBLE_WH,
    thermal_wh: tuple[int, int] | None = None,
) -> Manifest:
    """Manifest of an engine with `count` boxes; without `thermal_wh` it is visible-only."""
    inputs = {"visible": InputSpec(visible_wh[1], visible_wh[0], "uint8", "NHWC", "RGB")}
    if thermal_wh is not None:
        inputs["thermal"] = InputSpec(thermal_wh[1], thermal_wh[0], "uint8", "NHW", "grey", "agc8")
    return Manifest(
        schema_version=1,
        name=name,
        task="detect",
        inputs=inputs,
        needs=list(inputs),
        outputs={
            "boxes": OutputSpec("float32", [1, count, 4], "xyxy pixels of the visible input"),
            "scores": OutputSpec("float32", [1, count], "in [0, 1], descending"),
            "classes": OutputSpec("int32", [1, count], "index into classes"),
        },
        classes=CLASSES,
        thresholds=Thresholds(report=0.05, display=0.5, nms_iou=0.5, max_detections=100),
        origin=Origin("0" * 64, "tests/runtime/engines.py", ["none"], "Apache-2.0", {"none": 1.0}, 0, "fp32", OPSET),
        parity=PASSED,
    )


def write_blob(
    path: Path, name: str = "blob", thermal_wh: tuple[int, int] = THERMAL_WH, precision: str = "fp32"
) -> Path:
    """An engine that boxes all pixels warmer than `WARM` as one person, score = hottest pixel / 255."""
    manifest = make_manifest(name, thermal_wh=thermal_wh)
    manifest = replace(manifest, origin=replace(manifest.origin, precision=precision))
    scale_x, scale_y = VISIBLE_WH[0] / thermal_wh[0], VISIBLE_WH[1] / thermal_wh[1]
    scales = np.array([scale_x, scale_y, scale_x, scale_y], np.float32)
    constants: dict[str, NDArray[Any]] = {
        "warm": np.array(WARM, np.float32),
        "full": np.array(255, np.float32),
        "ends": np.array([[0, 0, 1, 1]], np.float32),  # the right and lower edge lie behind the last pixel
        "scales": scales,
        "no_box": np.zeros((1, 1, 4), np.float32),
        "no_score": np.zeros((1, 1), np.float32),
        "shape": np.array([1, 1, 4], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["thermal"], ["heat"], to=TensorProto.FLOAT),
        helper.make_node("Greater", ["heat", "warm"], ["mask_bool"]),
        helper.make_node("Cast", ["mask_bool"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["mask"], ["columns"], axes=[1], keepdims=0),
        helper.make_node("ReduceMax", ["mask"], ["rows"], axes=[2], keepdims=0),
        *[
            helper.make_node("ArgMax", [line], [edge], axis=1, keepdims=1, select_last_index=last)
            for line, edge, last in (("columns", "x1", 0), ("rows", "y1", 0), ("columns", "x2", 1), ("rows", "y2", 1))
        ],
        helper.make_node("Concat", ["x1", "y1", "x2", "y2"], ["edges_int"], axis=1),
        helper.make_node("Cast", ["edges_int"], ["edges"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["edges", "ends"], ["outer"]),
        helper.make_node("Mul", ["outer", "scales"], ["scaled"]),
        helper.make_node("Reshape", ["scaled", "shape"], ["box"]),
        helper.make_node("Concat", ["box", "no_box"], ["boxes"], axis=1),
        helper.make_node("ReduceMax", ["heat"], ["hottest"], axes=[1, 2], keepdims=0),
        helper.make_node("ReduceMax", ["mask"], ["any"], axes=[1, 2], keepdims=0),
        helper.make_node("Div", ["hottest", "full"], ["warmth"]),
        helper.make_node("Mul", ["warmth", "any"], ["score_flat"]),
        helper.make_node("Unsqueeze", ["score_flat", "axis"], ["score"]),
        helper.make_node("Concat", ["score", "no_score"], ["scores"], axis=1),
        helper.make_node("Identity", ["persons"], ["classes"]),
    ]
    constants |= {"axis": np.array([1], np.int64), "persons": np.zeros((1, 2), np.int32)}
    return save(path, manifest, nodes, constants)


def make_segment_manifest(name: str = "areas", thermal_wh: tuple[int, int] | None = None) -> Manifest:
    """Manifest of an engine that gives a label map of MFNet's classes; without `thermal_wh` it is visible-only."""
    shape = [1, VISIBLE_WH[1], VISIBLE_WH[0]]
    outputs = {"labels": OutputSpec("int32", shape, "index into classes, per pixel of the visible input")}
    return replace(make_manifest(name, thermal_wh=thermal_wh), task="segment", classes=LABELS, outputs=outputs)


def write_areas(path: Path, name: str = "areas") -> Path:
    """An engine that labels pixels warmer than `WARM` as person, redder than `RED` as car, the rest as nothing."""
    scales = [1, 1, VISIBLE_WH[1] / THERMAL_WH[1], VISIBLE_WH[0] / THERMAL_WH[0]]
    constants: dict[str, NDArray[Any]] = {
        "warm": np.array(WARM, np.float32),
        "red": np.array(RED, np.uint8),
        "channels": np.array([1], np.int64),
        "first": np.array(0, np.int64),
        "scales": np.array(scales, np.float32),
        **{key: np.array(value, np.int32) for key, value in (("car", RED_LABEL), ("person", WARM_LABEL), ("none", 0))},
    }
    nodes = [
        helper.make_node("Cast", ["thermal"], ["heat"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["heat", "channels"], ["heat_map"]),
        helper.make_node(
            "Resize",
            ["heat_map", "", "scales"],
            ["heat_large"],
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        ),
        helper.make_node("Squeeze", ["heat_large", "channels"], ["heat_visible"]),
        helper.make_node("Greater", ["heat_visible", "warm"], ["is_warm"]),
        helper.make_node("Gather", ["visible", "first"], ["redness"], axis=3),
        helper.make_node("Greater", ["redness", "red"], ["is_red"]),
        helper.make_node("Where", ["is_red", "car", "none"], ["cars"]),
        helper.make_node("Where", ["is_warm", "person", "cars"], ["labels"]),
    ]
    return save(path, make_segment_manifest(name, THERMAL_WH), nodes, constants)


def write_labels(path: Path, labels: NDArray[np.int32]) -> Path:
    """A visible-only engine that always gives this label map, `VISIBLE_WH` large."""
    nodes = [helper.make_node("Identity", ["all_labels"], ["labels"])]
    return save(path, make_segment_manifest("constant"), nodes, {"all_labels": labels[None].astype(np.int32)})


def make_classify_manifest(name: str = "classes", count: int = 2) -> Manifest:
    """Manifest of an engine that gives the `count` best of KINDS and an energy; its threshold is CALM."""
    outputs = {
        "scores": OutputSpec("float32", [1, count], "probability, descending"),
        "classes": OutputSpec("int32", [1, count], "index into classes"),
        "energy": OutputSpec("float32", [1], "free energy of the pair; high is strange"),
    }
    manifest = make_manifest(name, thermal_wh=THERMAL_WH)
    limits = replace(manifest.thresholds, report=0.0)
    return replace(manifest, task="classify", classes=KINDS, outputs=outputs, thresholds=limits, energy={"fp32": CALM})


def write_classes(path: Path, name: str = "classes", calm: float = CALM) -> Path:
    """An engine of three logits; `calm` is the threshold of its energy.

    They are (b - 128) / 32 and its negative for the mean b of the visible bytes, and (h - WARM) / 8 for the hottest
    thermal pixel h.
    """
    constants: dict[str, NDArray[Any]] = {
        "middle": np.array(128, np.float32),
        "spread": np.array(32, np.float32),
        "warm": np.array(WARM, np.float32),
        "steps": np.array(8, np.float32),
        "one": np.array([1], np.int64),
        "two": np.array([2], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["visible"], ["light"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["thermal"], ["heat"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["light"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("ReduceMax", ["heat"], ["hottest"], axes=[1, 2], keepdims=0),
        helper.make_node("Sub", ["mean", "middle"], ["brighter"]),
        helper.make_node("Div", ["brighter", "spread"], ["day_flat"]),
        helper.make_node("Neg", ["day_flat"], ["night_flat"]),
        helper.make_node("Sub", ["hottest", "warm"], ["hotter"]),
        helper.make_node("Div", ["hotter", "steps"], ["fire_flat"]),
        *[helper.make_node("Unsqueeze", [f"{kind}_flat", "one"], [kind]) for kind in KINDS],
        helper.make_node("Concat", KINDS, ["logits"], axis=1),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        helper.make_node("TopK", ["probabilities", "two"], ["scores", "places"], axis=1),
        helper.make_node("Cast", ["places"], ["classes"], to=TensorProto.INT32),
        helper.make_node("ReduceLogSumExp", ["logits"], ["sum"], axes=[1], keepdims=0),
        helper.make_node("Neg", ["sum"], ["energy"]),
    ]
    return save(path, replace(make_classify_manifest(name), energy={"fp32": calm}), nodes, constants)


def write_quantised(path: Path, zero: np.uint8 | np.int8) -> Path:
    """A visible-only INT8 engine that finds nothing; its activation has the type of this zero point."""
    manifest = make_manifest("quantised")
    manifest = replace(manifest, origin=replace(manifest.origin, precision="int8"))
    constants: dict[str, NDArray[Any]] = {
        "scale": np.array(1, np.float32),
        "zero": np.array(zero),
        "all_boxes": np.zeros((1, 2, 4), np.float32),
        "all_scores": np.zeros((1, 2), np.float32),
        "all_classes": np.zeros((1, 2), np.int32),
    }
    nodes = [
        helper.make_node("Cast", ["visible"], ["light"], to=TensorProto.FLOAT),
        helper.make_node("QuantizeLinear", ["light", "scale", "zero"], ["bytes"]),
        helper.make_node("DequantizeLinear", ["bytes", "scale", "zero"], ["rounded"]),
        helper.make_node("ReduceMax", ["rounded"], ["brightest"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["brightest", "all_scores"], ["scores"]),
        *[helper.make_node("Identity", [f"all_{name}"], [name]) for name in ("boxes", "classes")],
    ]
    return save(path, manifest, nodes, constants)


def write_constant(
    path: Path,
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    classes: NDArray[np.int32],
    *,
    manifest: Manifest | None = None,
) -> Path:
    """An engine that always gives these boxes (K, 4), scores (K,), classes (K,); visible-only unless told."""
    manifest = manifest or make_manifest("constant", len(scores))
    constants = {
        "all_boxes": boxes[None].astype(np.float32),
        "all_scores": scores[None].astype(np.float32),
        "all_classes": classes[None].astype(np.int32),
    }
    nodes = [helper.make_node("Identity", [f"all_{name}"], [name]) for name in ("boxes", "scores", "classes")]
    return save(path, manifest, nodes, constants)


def save(
    path: Path,
    manifest: Manifest,
    nodes: list[onnx.NodeProto],
    constants: Mapping[str, NDArray[Any]],
    *,
    network: str | None = None,
    embedded: str | None = "",
) -> Path:
    """Write an engine whose graph has the manifest's inputs and outputs.

    Args:
        path: file.
        manifest: what inputs, outputs and metadata say.
        nodes: of the graph.
        constants: initializers.
        network: graph name; None gives the right one.
        embedded: manifest text; "" the right one, None leaves it out.
    """
    inputs = []
    for name, spec in manifest.inputs.items():
        shape = [1, spec.height, spec.width] + ([3] if spec.layout == "NHWC" else [])
        inputs.append(helper.make_tensor_value_info(name, TYPES[spec.dtype], shape))
    outputs = [
        helper.make_tensor_value_info(name, TYPES[spec.dtype], spec.shape) for name, spec in manifest.outputs.items()
    ]
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, network or manifest.network_name(), inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    if embedded is not None:
        helper.set_model_props(model, {METADATA_KEY: embedded or manifest.to_json()})
    onnx.save(model, str(path))
    return path
