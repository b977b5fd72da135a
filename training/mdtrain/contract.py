"""The first half of an engine's manifest: what training knows. Export completes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mdrun.manifest import SCHEMA_VERSION, InputSpec, Manifest, Origin, OutputSpec, Thresholds
from mdtrain.config import Config
from mdtrain.models.weights import hash_weights

TOP_K = 200  # boxes that leave the graph; a crowded KAIST frame has about 30 persons
REPORT_SCORE = 0.05  # below it boxes are noise and only make results long
NMS_IOU = 0.5
TOP_CLASSES = 5  # classes that leave the graph, where there are so many

DATA_TERMS = {
    "msrs": ("MSRS street pairs, train.txt ({labels} labels)", "MSRS (from MFNet): academic use, no licence stated"),
    "roadscene": (
        "RoadScene pairs with FLIR ADAS boxes",
        "RoadScene / FLIR ADAS v1: research use, FLIR user agreement",
    ),
    "kaist": ("KAIST multispectral pedestrians ({kaist_labels} labels)", "KAIST: CC BY-NC-SA 4.0, non-commercial"),
    "flir": ("FLIR-aligned pairs", "FLIR ADAS v1: research use, FLIR user agreement"),
    "llvip": ("LLVIP pairs", "LLVIP: academic use"),
    "mfnet": ("MFNet street pairs", "MFNet: academic use, no licence stated"),
    "coco": ("own pairs with COCO annotations", "your own pairs: your terms"),
    "folders": ("own pairs in a folder a class", "your own pairs: your terms"),
}
OWN_SETS = {"coco", "folders"}


def draft_manifest(config: Config, weights: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Manifest:
    """Manifest of a student before export: no precision, operator set or parity yet.

    Args:
        config: of the run.
        weights: state dict, hashed into the manifest.
        facts: `command`, `accuracy`, `display_score`, `energy_threshold` of segmenters and classifiers
            and, of distilled students, `teacher_sha256` of the finished run.
    """
    width, height = config.model.visible
    inputs = {"visible": InputSpec(height, width, "uint8", "NHWC", "RGB")}
    if config.inputs == "both":
        width, height = config.model.thermal
        inputs["thermal"] = InputSpec(height, width, "uint8", "NHW", "grey", normalisation=config.data.normalisation)
    data, licence = data_terms(config)
    report = 0.0 if config.task == "classify" else REPORT_SCORE  # the best classes are few: all are reported
    return Manifest(
        schema_version=SCHEMA_VERSION,
        name=config.name,
        task=config.task,
        inputs=inputs,
        needs=sorted(inputs, reverse=True),
        outputs=_outputs(config),
        classes=config.class_names,
        energy=None if (limit := facts.get("energy_threshold")) is None else {"fp32": float(limit)},
        thresholds=Thresholds(report, float(facts["display_score"]), NMS_IOU, 100),
        origin=Origin(
            checkpoint_sha256=hash_weights(weights),
            command=str(facts["command"]),
            data=data,
            licence=licence,
            accuracy=dict(facts["accuracy"]),
            seed=config.seed,
            teacher_sha256=facts.get("teacher_sha256"),
        ),
    )


def _outputs(config: Config) -> dict[str, OutputSpec]:
    """What an engine of the task gives."""
    if config.task == "segment":
        width, height = config.model.visible
        meaning = "index into classes, per pixel of the visible input"
        return {
            "labels": OutputSpec("int32", [1, height, width], meaning),
            "energy": OutputSpec("float32", [1], "free energy of the pair, mean over the map; high is strange"),
        }
    if config.task == "classify":
        count = min(TOP_CLASSES, len(config.class_names))
        return {
            "scores": OutputSpec("float32", [1, count], "probability, descending"),
            "classes": OutputSpec("int32", [1, count], "index into classes"),
            "energy": OutputSpec("float32", [1], "free energy of the pair; high is strange"),
        }
    return {
        "boxes": OutputSpec("float32", [1, TOP_K, 4], "xyxy pixels of the visible input"),
        "scores": OutputSpec("float32", [1, TOP_K], "probability, descending"),
        "classes": OutputSpec("int32", [1, TOP_K], "index into classes"),
    }


def data_terms(config: Config) -> tuple[list[str], str]:
    """Training sets, and the terms they put on the weights."""
    data = config.data
    labels: dict[str, str] = {"labels": data.labels, "kaist_labels": data.kaist_labels}
    if config.task == "classify":
        labels = dict.fromkeys(labels, "class")
    sets = [DATA_TERMS[name][0].format_map(labels) for name in data.sets]
    terms = [DATA_TERMS[name][1] for name in data.sets]
    if data.street is not None:
        sets.append("synthetic street scenes of this project (mdtrain street)")
    if set(data.sets) <= OWN_SETS:
        return sets, "; ".join(terms) or "Apache-2.0"
    return sets, "research use only: " + "; ".join(terms)
