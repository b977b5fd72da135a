"""What a person reads about an engine: its manifest as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mdrun.manifest import Build, InputSpec, Manifest, Parity
from mdrun.tables import join_values, make_console, make_table
from mdrun.verified import find_doubt


def print_manifest(path: Path, manifest: Manifest) -> None:
    """An engine's manifest as a table; `--json` has all of it."""
    table = make_table("engine", manifest.engine_name)
    origin, doubt = manifest.origin, find_doubt(manifest)
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
        "accuracy": _accuracy(origin.accuracy),
        "data": "; ".join(origin.data),
        "licence": origin.licence,
        "made by": origin.command,
        "checkpoint": origin.checkpoint_sha256[:16],
        "verified": f"no: {doubt}" if doubt else "yes",
        **(_parity(manifest.parity) if manifest.parity is not None else {}),
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
        table.add_row("labels" if model["task"] == "segment" else "finds", ", ".join(model["classes"]))
        table.add_row("needs", " + ".join(model["needs"]))
        table.add_row("size", f"{model['bytes'] / 1e6:.1f} MB")
        table.add_row("accuracy", _accuracy(model["accuracy"]))
        table.add_row("licence", model["licence"])
        make_console().print(table)


def _accuracy(scores: dict[str, float]) -> str:
    """Every score, or the means where there are any: label maps come with sixty, `SET/CLASS/…` each."""
    means = {name: value for name, value in scores.items() if "mean" in name.split("/")}
    return f"{join_values(means)}; by class: --json" if means else join_values(scores)


def _thresholds(manifest: Manifest) -> dict[str, str]:
    """The row of a detector; label maps have no scores."""
    limits = manifest.thresholds
    if manifest.task == "segment":
        return {}
    return {"thresholds": f"report {limits.report:g}, display {limits.display:g}, NMS IoU {limits.nms_iou:g}"}


def _parity(parity: Parity) -> dict[str, str]:
    """What was compared, by how much it differs, and what was allowed."""
    rows = {
        "parity": f"{'passed' if parity.passed else 'did not pass'}: {parity.pairs} pairs of {parity.data}, "
        f"compared with {parity.reference}",
        "largest change": join_values(parity.max_abs),
        "mean change": join_values(parity.mean_abs),
        "found again": "" if parity.matched is None else f"{100 * parity.matched:.4g} % of the detections",
        "measures": ", ".join(
            f"{name} {change.reference:.4g} → {change.engine:.4g}" for name, change in parity.metrics.items()
        ),
        "limits": join_values(parity.limits),
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
    }
    return {name: value for name, value in rows.items() if value}


def _shape(shape: list[int]) -> str:
    return "x".join(map(str, shape))


def _input(spec: InputSpec) -> str:
    rule = f", {spec.normalisation}" if spec.normalisation else ""
    return f"{spec.dtype} {spec.width}x{spec.height} {spec.layout} {spec.colour_order}{rule}"
