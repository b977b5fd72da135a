"""Tables of `mdexport plan` and `mdexport explain`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from mdexport.plan.explain import Explanation
from mdexport.plan.maker import Plan
from mdrun.backends.nvidia.library import TITLES
from mdrun.manifest import Build, Manifest, sidecar_path

UNLOADED = {
    "tensorrt": "the plan needs the lean runtime beside it and was not loaded",
    "rtx": "the engine is compiled to its end on the GPU that runs it",
}


def print_plan(plan: Plan) -> None:
    """What was built, for whom, and how its precision was checked."""
    build, manifest = plan.manifest.build, plan.manifest
    assert build is not None  # noqa: S101  # of a plan
    precision = str(manifest.origin.precision)
    checked = plan.count.describe(precision)
    if plan.count.of == "network":
        checked += f"; {plan.count.why or UNLOADED[build.target]}"
    rows = {
        "file": f"{plan.path} ({plan.path.stat().st_size / 1e6:.1f} MB)",
        "manifest": str(sidecar_path(plan.path)),
        "network": manifest.network_name(),
        "built by": f"{plan.library} in {plan.seconds:.1f} s",
        "runs on": runs_on(build),
        "precision": checked,
        **options_rows(build),
    }
    _print(("engine", plan.path.stem), rows.items())


def print_explanation(explanation: Explanation) -> None:
    """What it needs, what is here, and how to build it again."""
    manifest = explanation.manifest
    belongs = "its name is in the engine" if explanation.belongs else "not read: the engine was not loaded"
    rows = {
        "file": f"{explanation.path} ({explanation.path.stat().st_size / 1e6:.1f} MB)",
        "network": f"{manifest.network_name()} ({belongs})",
        "precision": f"{manifest.origin.precision}",
        **(onnx_rows(manifest) if manifest.build is None else build_rows(manifest.build)),
    }
    _print(("engine", explanation.path.stem), rows.items())
    needs = [
        (need.what, need.needs, need.here + (f": {need.remark}" if need.remark else ""), need.verdict)
        for need in explanation.needs
    ]
    _print(("needs", "what", "here", "fits"), needs)
    console = Console(highlight=False, markup=False)
    console.print(f"runs here: {explanation.runs_here}")
    if explanation.rebuild is not None:
        console.print(f"built from {explanation.source}", soft_wrap=True)
        console.print("to build it again, on the machine that is to run it:", soft_wrap=True)
        console.print(f"  {explanation.rebuild}", soft_wrap=True)


def onnx_rows(manifest: Manifest) -> dict[str, str]:
    """What is known of an ONNX file only."""
    return {"operators": f"ONNX opset {manifest.origin.opset}"}


def build_rows(build: Build) -> dict[str, str]:
    """How a plan was built."""
    layers = ", ".join(f"{name} {count}" for name, count in build.layers.items())
    counted = {"layers": layers} if layers else {}
    return {"built by": f"{TITLES[build.target]} {build.version}"} | counted | options_rows(build)


def runs_on(build: Build) -> str:
    """GPUs in words."""
    capabilities = ", ".join(build.compute_capabilities)
    return (
        f"{build.device}, compute capability {capabilities}" if build.device else f"compute capability {capabilities}"
    )


def options_rows(build: Build) -> dict[str, str]:
    """A row for what was asked for, if anything was."""
    asked = ", ".join(name if text == "yes" else f"{name} {text}" for name, text in build.options.items())
    return {"options": asked} if asked else {}


def _print(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column(columns[0], no_wrap=True)
    for column in columns[1:]:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(highlight=False, markup=False).print(table)
