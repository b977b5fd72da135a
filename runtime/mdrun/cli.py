"""The command `mdrun`.

Only click and the errors are imported here, so that help and mistakes answer at once.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mdrun import __version__
from mdrun.command import run_command, warn
from mdrun.errors import UsageError

if TYPE_CHECKING:
    from mdrun.engine import Engine
    from mdrun.pipeline import RunOptions, RunReport
    from mdrun.sources import Source

PROGRAM = "mdrun"
F = TypeVar("F", bound=Callable[..., Any])

EPILOG = """\b
Examples:
  mdrun --visible "test://street?time=night&frames=90" --thermal "test://street?time=night&frames=90"
  mdrun --engine student.onnx --visible "rgb/?fps=30" --thermal "ir/?fps=9" --output runs/gate

A source is a folder of images, a video file or test://street; docs/sources.md has their options.
Results, exit codes: docs/results.md, docs/errors.md.
"""


class _Number(click.FloatRange):
    """A number within limits; click lets NaN through, which is below and above nothing."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # click's
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value} is not a number.", param, ctx)
        return number


def _score(flag: str, what: str) -> Callable[[F], F]:
    return click.option(flag, type=_Number(0, 1), metavar="S", help=f"{what}, 0 to 1 [default: the engine's]")


def _milliseconds(flag: str, what: str) -> Callable[[F], F]:
    return click.option(flag, type=_Number(0, 3_600_000), metavar="MS", help=what)


def _folder(context: click.Context, option: click.Parameter, value: str | None) -> Path | None:
    if value == "":
        raise click.BadParameter("it is empty, wanted a folder.", context, option)
    return None if value is None else Path(value)


@click.group(invoke_without_command=True, epilog=EPILOG, context_settings={"max_content_width": 110})
@click.version_option(__version__, prog_name=PROGRAM, message="%(prog)s %(version)s")
@click.option(
    "--engine", metavar="E", help="Engine file, or a name from `mdrun models` [default: the detector that ships]"
)
@click.option("--visible", metavar="V", help="Visible source")
@click.option("--thermal", metavar="T", help="Thermal source")
@click.option("--output", metavar="DIR", callback=_folder, help="Folder [default: runs/ENGINE]")
@_score("--threshold", "Lowest score in results.jsonl")
@_score("--display-threshold", "Lowest score that is drawn and counted")
@_milliseconds("--max-skew", "Capture times closer than this are one moment [default: 60]")
@_milliseconds("--max-age", "A thermal image older than this is not used [default: 250]")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Stop after N visible frames")
@click.option("--no-overlay", is_flag=True, help="Write neither overlay.mp4 nor overlay.png")
@click.option("--no-labels", is_flag=True, help="Write no label maps (engines with the task segment)")
@click.option("--threads", type=click.IntRange(1, 256), metavar="N", help="CPU threads [default: one a core]")
@click.option(
    "--backend", metavar="NAME", help="Engine library: onnxruntime or openvino [default: the first that is installed]"
)
@click.option("--require-verified", is_flag=True, help="Refuse an engine whose manifest does not prove its export")
@click.pass_context
def cli(context: click.Context, /, **flags: Any) -> int | None:  # as the options say
    """Find people and cars with a visible camera and a cheap thermal one, by day and by night.

    Writes results.jsonl, overlay.mp4, overlay.png and summary.json; a segment engine also labels/, its label maps.
    """
    given = [name for name, value in flags.items() if value is not None and value is not False]
    if context.invoked_subcommand is not None:
        if given:
            flag, command = given[0].replace("_", "-"), f"{PROGRAM} {context.invoked_subcommand}"
            raise UsageError(f"--{flag} does not go with `{command}`; leave one out")
        return None
    if not given:
        click.echo(context.get_help())
        return 0
    if flags["visible"] is None:
        raise UsageError("--visible is missing; give a folder, a video file or test://street")
    return _run(flags)


@cli.command("info", epilog="\b\nExamples:\n  mdrun info student.onnx\n  mdrun info student.onnx --json")
@click.argument("engine")
@click.option("--json", "as_json", is_flag=True, help="The manifest as JSON")
def info_command(engine: str, as_json: bool) -> None:
    """Print what an engine takes, gives and how it was made. Needs no engine library."""
    from dataclasses import asdict

    from mdrun.models import resolve
    from mdrun.onnx_file import read_manifest

    path = resolve(engine)
    manifest = read_manifest(path)
    if as_json:
        _print_json(asdict(manifest))
        return
    from mdrun.manifest_report import print_manifest

    print_manifest(path, manifest)


@cli.command("models", epilog="\b\nExamples:\n  mdrun models\n  mdrun models --json")
@click.option("--json", "as_json", is_flag=True, help="A list of objects")
def models_command(as_json: bool) -> None:
    """List the engines that ship with mdrun."""
    from mdrun.models import shipped

    models = [model.to_dict() for model in shipped()]
    if as_json:
        _print_json(models)
        return
    from mdrun.manifest_report import print_models

    print_models(models)


def _run(flags: dict[str, Any]) -> int:
    """Engine first, then sources, then files: whatever is wrong, nothing half-done is left."""
    from mdrun.backends import AUTO
    from mdrun.engine import Engine
    from mdrun.models import default
    from mdrun.pipeline import check_display, check_needs
    from mdrun.report import print_report
    from mdrun.verified import find_doubt

    options = _options(flags)
    choice = flags["engine"] if flags["engine"] is not None else default()
    chosen = {name: flags[name] for name in ("threshold", "threads", "require_verified")}
    with Engine.load(choice, backend=AUTO if flags["backend"] is None else flags["backend"], **chosen) as engine:
        check_needs(engine, flags["thermal"] is not None)
        check_display(engine, options)
        _check_output(flags)
        visible, thermal = _open_sources(flags["visible"], flags["thermal"])
        if doubt := find_doubt(engine.manifest):
            warn(PROGRAM, f"{engine.path}: not verified: {doubt}; --require-verified refuses such engines")
        try:
            output = flags["output"] if flags["output"] is not None else Path("runs") / engine.path.stem
            report = _run_with_progress(engine, visible, thermal, output, options)
        finally:
            visible.close()
            if thermal is not None:
                thermal.close()
    print_report(report)
    return report.exit_code


def _check_output(flags: dict[str, Any]) -> None:
    """Refuse an output that would become the input of the next run."""
    output: Path | None = flags["output"]
    if output is None:
        return
    for flag in ("visible", "thermal"):
        text = flags[flag]
        if text and Path(text).is_dir() and output.is_dir() and output.samefile(text):
            raise UsageError(
                f"--output is the folder of --{flag}: its pictures would become input; name another folder"
            )


def _options(flags: dict[str, Any]) -> RunOptions:
    from mdrun.pairing import PairLimits
    from mdrun.pipeline import RunOptions

    chosen = {"skew_ms": flags["max_skew"], "age_ms": flags["max_age"]}
    limits = PairLimits(**{name: value for name, value in chosen.items() if value is not None})
    return RunOptions(
        limits=limits,
        frames=flags["limit"],
        overlay=not flags["no_overlay"],
        labels=not flags["no_labels"],
        display=flags["display_threshold"],
    )


def _open_sources(visible: str, thermal: str | None) -> tuple[Source, Source | None]:
    from mdrun.frames import Modality
    from mdrun.sources import open_pair, open_source

    if thermal is None:
        return open_source(visible, Modality.VISIBLE), None
    return open_pair(visible, thermal)


def _run_with_progress(
    engine: Engine, visible: Source, thermal: Source | None, output: Path, options: RunOptions
) -> RunReport:
    from mdrun.pipeline import run
    from mdrun.report import progress_bar

    counts = [count for count in (visible.frame_count, options.frames) if count is not None]
    with progress_bar(min(counts, default=None)) as advance:
        return run(engine, visible, thermal, output, options=options, progress=advance)


def _print_json(data: object) -> None:
    click.echo(json.dumps(data, indent=2, ensure_ascii=False))


def main() -> None:
    """Entry point of the command."""
    sys.exit(run_command(cli, PROGRAM))
