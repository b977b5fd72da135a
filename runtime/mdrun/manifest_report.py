"""What a person reads about an engine: its manifest as a table."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mdrun.manifest import Build, InputSpec, Manifest, Origin, Parity
from mdrun.tables import join_values, make_console, make_table
from mdrun.verified import find_doubt

WORST = 5  # layers that are shown
CHANGED = "the file is not the one that this manifest speaks of"


def print_manifest(path: Path, manifest: Manifest, *, changed: bool = False) -> None:
    """An engine's manifest as a table; `--json` has all of it. `changed`: the file is not the one that it speaks of."""
    table = make_table("engine", manifest.engine_name)
    origin, doubt = manifest.origin, CHANGED if changed else find_doubt(manifest, path)
    rows = {
        "file": f"{path} ({path.stat().st_size / 1e6:.1f} MB)",
        "task": manifest.task,
        "classes": ", ".join(manifest.classes),
        "needs": " and ".join(manifest.needs),
        **{f"input {name}": _input(spec) for name, spec in manifest.inputs.items()},
        **{
            f"output {name}": f"{spec.dtype} {_shape(spec.shape)}, {spec.meaning}"
            for name, spec in manifest.outputs.items()
        },
        **_thresholds(manifest),
        "precision": f"{origin.precision or 'not stated'}, opset {origin.opset or 'not stated'}",
        **_conversion(manifest),
        _accuracy_of(origin.precision): _accuracy(origin.accuracy, origin.data),
        "data": "; ".join(origin.data),
        "licence": origin.licence,
        "made by": origin.command,
        "checkpoint": origin.checkpoint_sha256[:16],
        "verified": f"no: {doubt}" if doubt else "yes",
        **_parity(manifest),
        **(_build(manifest.build) if manifest.build is not None else {}),
        "digest": manifest.digest(),
    }
    for name, value in rows.items():
        table.add_row(name, value)
    make_console().print(table)


def print_models(models: list[dict[str, Any]]) -> None:
    """The shipped engines, one table each."""
    if not models:
        make_console().print("no engine ships with this mdrun; give --engine FILE, made by `mdexport onnx`")
        return
    for model in models:
        table = make_table(model["name"], model["task"])
        verb = {"detect": "finds", "segment": "labels"}.get(model["task"], "tells apart")
        table.add_row(verb, ", ".join(model["classes"]))
        table.add_row("needs", " + ".join(model["needs"]))
        table.add_row("size", f"{model['bytes'] / 1e6:.1f} MB")
        if model["parity"] is not None and model["parity"]["metrics"]:
            table.add_row("accuracy", _change(**model["parity"]))
        table.add_row(_accuracy_of(model["precision"]), _accuracy(model["accuracy"], model["data"]))
        table.add_row("licence", model["licence"])
        make_console().print(table)


def _accuracy_of(precision: str | None) -> str:
    """Whose accuracy training has measured: the network's in single precision, whatever this engine's is."""
    return "accuracy" if precision in {None, "fp32"} else "before, in FP32"


def _accuracy(scores: dict[str, float], data: list[str]) -> str:
    """Every score, or the means where there are any: label maps come with sixty, `SET/CLASS/…` each.

    Sets with several labels have them in their name (`msrs-visible_val`); where a run of before has left them out,
    `data` has them: a run is judged by labels of the kind that it learns from.
    """
    means = {name: value for name, value in scores.items() if "mean" in name.split("/")}
    text = f"{join_values(means)}; by class: --json" if means else join_values(scores)
    labels = re.findall(r"\((\w+) labels\)", "; ".join(data)) if "msrs_val/" in text else []
    return f"{text}; {labels[0]} labels" if labels else text


def _change(metrics: dict[str, dict[str, float]], data: str, reference: str, **_: Any) -> str:
    """What the export has measured of an engine, and of what it was made from."""
    told = ", ".join(f"{name} {change['engine']:.4g} ({change['reference']:.4g})" for name, change in metrics.items())
    return f"{told}; on {data}, in brackets {reference}"


def _thresholds(manifest: Manifest) -> dict[str, str]:
    """The row of a detector or a classifier; label maps have no scores."""
    limits = manifest.thresholds
    if manifest.task == "segment":
        return {}
    overlap = f", NMS IoU {limits.nms_iou:g}" if manifest.task == "detect" else ""
    return {"thresholds": f"report {limits.report:g}, display {limits.display:g}{overlap}"}


def _conversion(manifest: Manifest) -> dict[str, str]:
    """What the export has measured and decided."""
    origin = manifest.origin
    rows = {
        "calibrated on": origin.calibration or "",
        "higher precision": ", ".join(origin.kept),
        "worst layers": worst_layers(origin),
        "energy thresholds": join_values(manifest.energy or {}),
    }
    return {name: value for name, value in rows.items() if value}


def worst_layers(origin: Origin) -> str:
    """The layers that INT8 hurts most, each with the error that it makes alone; empty where that was not measured."""
    errors = sorted(origin.sensitivity.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {error:.2g}" for name, error in errors[:WORST])


def _parity(manifest: Manifest) -> dict[str, str]:
    """A plan's own report; before it was run that of its ONNX file."""
    build = manifest.build
    if build is None:
        return {} if manifest.parity is None else _parity_rows("parity", manifest.parity, manifest.task)
    onnx = {} if manifest.parity is None else _parity_rows("of the ONNX file", manifest.parity, manifest.task)
    if build.parity is None:
        return onnx
    return _parity_rows("parity", build.parity, manifest.task) | dict(list(onnx.items())[:1])


def _parity_rows(title: str, parity: Parity, task: str) -> dict[str, str]:
    """What was compared, by how much it differs, and what was allowed."""
    what = "pairs' classes" if task == "classify" else "detections"
    rows = {
        title: f"{'passed' if parity.passed else 'did not pass'}: {parity.pairs} pairs of {parity.data}, "
        f"compared with {parity.reference}",
        "largest change": join_values(parity.max_abs),
        "mean change": join_values(parity.mean_abs),
        "found again": "" if parity.matched is None else f"{100 * parity.matched:.4g} % of the {what}",
        "measures": ", ".join(
            f"{name} {change.reference:.4g} → {change.engine:.4g}" for name, change in parity.metrics.items()
        ),
        "limits": join_values(parity.limits),
        "computed by": parity.computed_by or "",
    }
    return {name: value for name, value in rows.items() if value}


def _build(build: Build) -> dict[str, str]:
    """What a plan needs of the machine that runs it."""
    where = [build.platform, f"compute capability {', '.join(build.compute_capabilities)}"]
    where += [f"timed on {build.device}"] if build.device is not None else []
    versions = {"CUDA driver": build.driver, "Jetson Linux": build.l4t}
    rows = {
        "built with": f"{'TensorRT for RTX' if build.target == 'rtx' else 'TensorRT'} {build.version}",
        "built for": ", ".join(where),
        "built beside": ", ".join(f"{name} {version}" for name, version in versions.items() if version is not None),
        "built from": f"ONNX file {build.onnx_sha256[:16]}",
        "layers": join_values(dict(build.layers)),
        "options": ", ".join(f"{name} {value}" for name, value in build.options.items()),
        "built by": build.command,
        "own threshold": "" if build.energy_threshold is None else f"energy {build.energy_threshold:.3f}",
    }
    return {name: value for name, value in rows.items() if value}


def _shape(shape: list[int]) -> str:
    return "x".join(map(str, shape))


def _input(spec: InputSpec) -> str:
    rule = f", {spec.normalisation}" if spec.normalisation else ""
    return f"{spec.dtype} {spec.width}x{spec.height} {spec.layout} {spec.colour_order}{rule}"
