"""The parity gate: the same scenes through an engine and through what it was made from.

Outputs are compared over all scenes, also those with a failing camera; accuracy is measured on the intact ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mdexport.pairs import INTACT, Scene
from mdrun.backends.base import Outputs
from mdrun.boxes import iou_matrix
from mdrun.errors import EngineError
from mdrun.frames import Detections
from mdrun.manifest import Change, Manifest, Parity
from mdrun.postprocess import Postprocess
from mdrun.segment import SegmentPostprocess
from mdrun.verified import find_doubt
from mdtrain.config import MEANS
from mdtrain.data.categories import index_of
from mdtrain.data.records import LABEL_CLASSES, Record
from mdtrain.metrics.classes import NONE, class_scores
from mdtrain.metrics.coco import Found
from mdtrain.metrics.energy import energy_threshold, separation
from mdtrain.metrics.kaist import plain_miss_rate
from mdtrain.metrics.pairs import pair_scores, truth_of
from mdtrain.metrics.segmentation import confusion, rtfnet_scores

AUROC, TNR95 = "energy/auroc", "energy/tnr95"  # TNR95 = 1 - FPR95: higher is better, as for every measure
OVERALL = "overall/accuracy"  # of engines that classify
DETECTION_RATE = "person/detection_rate"  # 1 - log-average miss rate
CLEAR = 0.01  # of a score above the report threshold: what rounding alone takes below it is not lost
MATCHED_IOU = 0.5  # a detection is found again where a box of its class overlaps it so far
# Largest loss of each measure and least share of detections found again, by precision.
LOSS = {"fp32": 0.001, "fp16": 0.003, "bf16": 0.003, "int8": 0.01}
# Nine points of a curve, the first at one false box in a hundred images: a few boxes of 60 pairs move it by a point.
DETECTION_RATE_LOSS = {"fp32": 0.001, "fp16": 0.01, "bf16": 0.01, "int8": 0.03}
# Of an engine that classifies: 64 pairs judge, and one of them weighs 0.016.
ACCURACY_LOSS = {"fp32": 0.001, "fp16": 0.003, "bf16": 0.003, "int8": 0.02}
LEAST_MATCHED = {"fp32": 0.995, "fp16": 0.98, "bf16": 0.98, "int8": 0.9}  # one minus it: the largest share of INVENTED
AUROC_LOSS = {"fp32": 0.002, "fp16": 0.01, "bf16": 0.01, "int8": 0.05}  # of the energy, or gain: it follows, no better
INVENTED = "invented"  # share of the engine's detections that the reference does not have
# Mean differences that the same sums in another order make (measured, half precision against its twin: a seventh).
NEAR = {
    "fp32": {"scores": 1e-3, "boxes_px": 0.5, "energy": 0.02},  # TF32 of a GPU rounds as FP16 does
    "fp16": {"scores": 1e-3, "boxes_px": 0.1, "energy": 0.02},
    "bf16": {"scores": 5e-3, "boxes_px": 0.3, "energy": 0.2},
}
MOST_LABELS = {"fp32": 1e-4, "fp16": 0.01, "bf16": 0.02, "int8": 0.1}  # mean share of pixels with another class


class GateError(EngineError):
    """An engine that does not follow what it was made from.

    Attributes:
        report: what was found, as `--json` prints it.
    """

    def __init__(self, message: str, report: str = "") -> None:
        super().__init__(message)
        self.report = report


class Differences(NamedTuple):
    """Differences of one engine from its reference, over all scenes.

    Attributes:
        largest: by quantity.
        mean: by quantity; of detections also the share that is INVENTED.
        matched: share of the reference's detections found again, or of pairs of the same class; None for label maps,
            and where there were none.
    """

    largest: dict[str, float]
    mean: dict[str, float]
    matched: float | None


def judge(
    manifest: Manifest,
    scenes: Sequence[Scene],
    reference: Sequence[Outputs],
    got: Sequence[Outputs],
    precision: str,
    names: tuple[str, str],
    computed_by: str | None = None,
) -> Parity:
    """Compare outputs, scene by scene, and measure both on the labels.

    Args:
        manifest: of both engines.
        scenes: what both saw.
        reference: outputs of the reference.
        got: outputs of the engine.
        precision: of the engine; picks the limits.
        names: of the reference and of the data, for the report.
        computed_by: what has run the engine, as `mdexport.computed` says it.
    """
    compare, measure = JUDGES[manifest.task]
    differences = compare(manifest, reference, got)
    before, after = (measure(manifest, scenes, outputs) for outputs in (reference, got))
    metrics = {name: Change(before[name], after[name]) for name in before}
    limits = _limits(manifest.task, precision, metrics)
    if precision == "fp32":
        limits |= _near(differences, precision)
    return Parity(
        reference=names[0],
        pairs=len(scenes),
        data=names[1],
        max_abs=_finite(differences.largest),
        limits=limits,
        passed=_passes(differences, metrics, limits),
        mean_abs=_finite(differences.mean),
        matched=differences.matched,
        metrics=metrics,
        computed_by=computed_by,
    )


def doubt_of_reference(name: str, manifest: Manifest) -> str | None:
    """Why a report proves nothing: the engine of this name that is compared with is not verified itself."""
    doubt = find_doubt(manifest)
    return None if doubt is None else f"what it was compared with, {name}, is not verified itself: {doubt}"


def follows(manifest: Manifest, reference: Sequence[Outputs], got: Sequence[Outputs], precision: str) -> bool:
    """Whether outputs are those of the reference but for the order of the sums; labels are not asked."""
    compare, _ = JUDGES[manifest.task]
    differences = compare(manifest, reference, got)
    if manifest.task == "detect" and differences.matched is None:  # nothing was found, so nothing was compared
        return False
    return _passes(differences, {}, _limits(manifest.task, precision, ()) | _near(differences, precision))


def _near(differences: Differences, precision: str) -> dict[str, float]:
    return {name: limit for name, limit in NEAR[precision].items() if name in differences.mean}


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    """For reports: JSON knows neither infinity nor NaN."""
    return {name: value if math.isfinite(value) else 1e9 for name, value in values.items()}


def _limits(task: str, precision: str, metrics: Collection[str]) -> dict[str, float]:
    """What may be lost, by measure; what has no limit is only reported."""
    loss = ACCURACY_LOSS if task == "classify" else LOSS
    limits = {name: loss[precision] for name in metrics if not name.startswith("energy/")}
    own = {AUROC: AUROC_LOSS, DETECTION_RATE: DETECTION_RATE_LOSS}
    limits |= {name: table[precision] for name, table in own.items() if name in metrics}
    if task == "segment":
        return limits | {"labels": MOST_LABELS[precision]}
    limits |= {"matched": LEAST_MATCHED[precision]}
    return limits | ({INVENTED: round(1 - LEAST_MATCHED[precision], 3)} if task == "detect" else {})


def _passes(differences: Differences, metrics: Mapping[str, Change], limits: Mapping[str, float]) -> bool:
    losses = {name: change.reference - change.engine for name, change in metrics.items()} | differences.mean
    if AUROC in losses:  # an energy that turned round tells scenes apart as well as before
        losses[AUROC] = abs(losses[AUROC])
    return (
        all(math.isfinite(value) for value in differences.largest.values())
        and all(losses[name] <= limit for name, limit in limits.items() if name in losses)
        and (differences.matched is None or differences.matched >= limits["matched"])
    )


def box_differences(manifest: Manifest, reference: Sequence[Outputs], got: Sequence[Outputs]) -> Differences:
    """Detections above the display threshold, and clearly above that of results, against those of the engine.

    At the network's size.

    A detection is found again where the engine has one of its class that overlaps it by MATCHED_IOU, above the report
    threshold; of those found, scores and corners are compared. One of the engine's is invented where the reference
    has none such: accuracy is measured on intact scenes alone, and a failing camera must not make persons.
    """
    wanted_scores = Postprocess(manifest, max(manifest.thresholds.display, manifest.thresholds.report + CLEAR))
    all_scores = Postprocess(manifest, None)
    size = (manifest.inputs["visible"].width, manifest.inputs["visible"].height)
    scores: list[float] = []
    corners: list[float] = []
    missed = 0
    invented: list[bool] = []
    for before, after in zip(reference, got, strict=True):
        if not all(np.isfinite(after[name]).all() for name in ("boxes", "scores")):
            return Differences(dict.fromkeys(("scores", "boxes_px"), math.inf), {INVENTED: 1.0}, 0.0)
        back = _pairs(wanted_scores(after, size), all_scores(before, size))
        invented += [partner is None for _, _, partner in back]
        found = all_scores(after, size)
        for box, score, partner in _pairs(wanted_scores(before, size), found):
            if partner is None:
                missed += 1
                continue
            scores.append(abs(score - float(found.scores[partner])))
            corners.append(float(np.abs(box - found.boxes_xyxy[partner]).max()))
    total = len(scores) + missed
    largest = {"scores": max(scores, default=0.0), "boxes_px": max(corners, default=0.0)}
    mean = {
        "scores": float(np.mean(scores or [0.0])),
        "boxes_px": float(np.mean(corners or [0.0])),
        INVENTED: float(np.mean(invented or [False])),
    }
    return Differences(largest, mean, len(scores) / total if total else None)


def _pairs(wanted: Detections, found: Detections) -> list[tuple[NDArray[np.float32], float, int | None]]:
    """Every wanted box and score with the index of the best overlapping detection of its class, each used once."""
    overlaps = iou_matrix(wanted.boxes_xyxy, found.boxes_xyxy)
    overlaps[wanted.classes[:, None] != found.classes[None]] = 0
    pairs: list[tuple[NDArray[np.float32], float, int | None]] = []
    for index, row in enumerate(overlaps):
        partner = int(row.argmax()) if row.size and row.max() >= MATCHED_IOU else None
        if partner is not None:
            overlaps[:, partner] = 0
        pairs.append((wanted.boxes_xyxy[index], float(wanted.scores[index]), partner))
    return pairs


def label_differences(manifest: Manifest, reference: Sequence[Outputs], got: Sequence[Outputs]) -> Differences:  # noqa: ARG001  # same call as box_differences
    """Share of a scene's pixels with another class, and the shift of its energy."""
    pairs = list(zip(reference, got, strict=True))
    found = {"labels": [float((a["labels"] != b["labels"]).mean()) for a, b in pairs]}
    if "energy" in reference[0]:
        found["energy"] = [float(np.abs(a["energy"] - b["energy"]).max()) for a, b in pairs]
    largest = {name: math.inf if np.isnan(values).any() else max(values) for name, values in found.items()}
    return Differences(largest, {name: float(np.mean(values)) for name, values in found.items()}, None)


def class_differences(manifest: Manifest, reference: Sequence[Outputs], got: Sequence[Outputs]) -> Differences:  # noqa: ARG001  # same call as box_differences
    """How often the best class is the same, by how much its score differs, and the shift of the energy."""
    pairs = list(zip(reference, got, strict=True))
    same = [int(a["classes"][0, 0]) == int(b["classes"][0, 0]) for a, b in pairs]
    found = {"scores": [_score_difference(a, b) for a, b in pairs]}
    if "energy" in reference[0]:
        found["energy"] = [float(np.abs(a["energy"] - b["energy"]).max()) for a, b in pairs]
    largest = {name: math.inf if np.isnan(values).any() else max(values) for name, values in found.items()}
    return Differences(largest, {name: float(np.mean(values)) for name, values in found.items()}, float(np.mean(same)))


def _score_difference(before: Outputs, after: Outputs) -> float:
    """Of the reference's best class; one that the engine does not rank has the score of its last rank at most."""
    place = np.flatnonzero(after["classes"][0] == before["classes"][0, 0])
    rank = int(place[0]) if place.size else -1
    return abs(float(before["scores"][0, 0]) - float(after["scores"][0, rank]))


def box_measures(manifest: Manifest, scenes: Sequence[Scene], outputs: Sequence[Outputs]) -> dict[str, float]:
    """AP50 and detection rate of persons, where they are a class, and the mean AP50 over all: intact scenes."""
    postprocess = Postprocess(manifest, None)
    records, found = [], []
    for scene, output in zip(scenes, outputs, strict=True):
        if scene.condition == INTACT:
            height, width = scene.record.visible.shape[:2]
            scores = np.nan_to_num(output["scores"], posinf=0, neginf=0)  # what is no number is no detection
            detections = postprocess(output | {"scores": scores}, (width, height))
            records.append(scene.record)
            found.append(Found(detections.boxes_xyxy, detections.scores, detections.classes))
    of_all, person = pair_scores(records, found, manifest.classes)["all"], index_of("person", manifest.classes)
    measures = {"mean/ap50": of_all["ap50"]}
    if person is not None:
        measures = {"person/ap50": of_all["classes"][manifest.classes[person]]["ap50"]} | measures
        missed = _miss_rate(records, found, person)
        measures[DETECTION_RATE] = None if missed is None else 1 - missed
    return {name: value for name, value in measures.items() if value is not None}


def _miss_rate(records: Sequence[Record], found: Sequence[Found], person: int) -> float | None:
    """Log-average miss rate of persons, as the paper judges."""
    truths = [truth_of(record) for record in records]
    persons = [truth.boxes_xyxy[truth.classes == person] for truth in truths]
    of_persons = [(one.boxes_xyxy[mine], one.scores[mine]) for one in found for mine in [one.classes == person]]
    return plain_miss_rate(persons, of_persons)


def label_measures(manifest: Manifest, scenes: Sequence[Scene], outputs: Sequence[Outputs]) -> dict[str, float]:
    """Mean class accuracy (RTFNet's definition) and mean IoU on the intact scenes, and what the energy is worth.

    That is how well it tells the intact scenes from those with a failing camera.
    """
    postprocess = SegmentPostprocess(manifest)
    matrix = np.zeros((len(LABEL_CLASSES),) * 2, np.int64)
    for scene, output in zip(scenes, outputs, strict=True):
        truth = scene.record.label_map
        if scene.condition == INTACT and truth is not None:
            found = postprocess(output, (truth.shape[1], truth.shape[0]))
            matrix += confusion(truth, found.label_map, len(LABEL_CLASSES))
    scores = rtfnet_scores(matrix)
    return {"mean/accuracy": scores.mean_accuracy, "mean/iou": scores.mean_iou} | energy_measures(scenes, outputs)


def class_measures(manifest: Manifest, scenes: Sequence[Scene], outputs: Sequence[Outputs]) -> dict[str, float]:
    """Accuracy on the intact scenes, over the pairs and as the mean over the classes, and what the energy is worth."""
    known = manifest.classes
    judged = [
        (known.index(str(scene.record.class_name)), _class_of(output, len(known)))
        for scene, output in zip(scenes, outputs, strict=True)
        if scene.condition == INTACT and scene.record.class_name in known
    ]
    scores = class_scores([truth for truth, _ in judged], [found for _, found in judged], known)
    return {f"{name}/accuracy": scores[name] for name in MEANS} | energy_measures(scenes, outputs)


def _class_of(output: Outputs, count: int) -> int:
    """The best class; NONE where the engine says one that there is not."""
    index = int(output["classes"][0, 0])
    return index if 0 <= index < count else NONE


def energy_measures(scenes: Sequence[Scene], outputs: Sequence[Outputs]) -> dict[str, float]:
    """How well the energy tells intact scenes from those with a failing camera; nothing for engines without one."""
    familiar, strange = energies(scenes, outputs)
    if not strange:
        return {}
    apart = separation(familiar, strange)
    return {AUROC: apart.auroc, TNR95: 1 - apart.fpr95}


def energies(scenes: Sequence[Scene], outputs: Sequence[Outputs]) -> tuple[list[float], list[float]]:
    """Energies of the intact scenes and of those with a failing camera; empty for engines without."""
    found: tuple[list[float], list[float]] = ([], [])
    for scene, output in zip(scenes, outputs, strict=True):
        if "energy" in output:
            found[scene.condition != INTACT].append(float(output["energy"][0]))
    return found


def threshold_of(scenes: Sequence[Scene], outputs: Sequence[Outputs]) -> float | None:
    """Energy below which 95 % of the intact scenes lie; None for engines without energy, or where one is no number."""
    familiar, _ = energies(scenes, outputs)
    return energy_threshold(familiar) if familiar and all(map(math.isfinite, familiar)) else None


Compare = Callable[[Manifest, Sequence[Outputs], Sequence[Outputs]], Differences]
Measure = Callable[[Manifest, Sequence[Scene], Sequence[Outputs]], dict[str, float]]
JUDGES: dict[str, tuple[Compare, Measure]] = {  # by task
    "detect": (box_differences, box_measures),
    "segment": (label_differences, label_measures),
    "classify": (class_differences, class_measures),
}


def describe(parity: Parity) -> str:
    """One line: every measure, what was found again, and the limits."""
    parts = [
        f"{name} {change.reference:.4f} → {change.engine:.4f}"
        + (f" (may lose {parity.limits[name]:g})" if name in parity.limits else "")
        for name, change in parity.metrics.items()
    ]
    if parity.matched is not None:
        what = "pairs of the same class" if OVERALL in parity.metrics else "detections found again"
        parts.append(f"{parity.matched:.1%} of {what} (least {parity.limits['matched']:.0%})")
    if INVENTED in parity.limits:
        parts.append(f"{parity.mean_abs[INVENTED]:.1%} of its own invented (at most {parity.limits[INVENTED]:.1%})")
    parts += [f"{name} differ by {value:.2g} at most" for name, value in parity.max_abs.items()]
    return f"{'; '.join(parts)}; {parity.pairs} scenes of {parity.data}"
