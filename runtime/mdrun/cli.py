"""The command `mdrun`.

Only click and the errors are imported here, so that help and mistakes answer at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mdrun import __version__
from mdrun.command import LazyGroup, leave, run_command, warn
from mdrun.errors import UsageError
from mdrun.numbers import FiniteRange
from mdrun.signals import as_usual

if TYPE_CHECKING:
    from mdrun.engine import Engine
    from mdrun.pipeline import RunOptions, RunReport
    from mdrun.rig.config import RigConfig
    from mdrun.sources import Source

PROGRAM = "mdrun"
F = TypeVar("F", bound=Callable[..., Any])

EPILOG = """\b
Examples:
  mdrun --visible "test://street?time=night&frames=90" --thermal "test://street?time=night&frames=90"
  mdrun --engine student.onnx --visible "rgb/?fps=30" --thermal "ir/?fps=9" --output runs/gate
  mdrun --visible rtsp://camera/visible --thermal /dev/video2 --output http://127.0.0.1:8080
  mdrun --rig gate.yaml

A source is a folder of images, a video file, a camera, a recording or test://street: docs/sources.md.
Rig files, outputs, results, exit codes: docs/rig.md, docs/outputs.md, docs/results.md, docs/errors.md.
"""

COMMANDS = {
    "calibrate": ("mdrun.calibrate.commands", "calibrate", "Measure a rig: time offset and registration."),
    "record": ("mdrun.record.commands", "record", "Record both cameras losslessly, for replay://."),
    "doctor": ("mdrun.doctor.commands", "doctor", "Say what works on this machine, what does not, and how to mend it."),
    "top": ("mdrun.top", "top", "Watch a running mdrun in the terminal."),
}
# Flags that only a rig run knows: cameras that run, a ladder of engines, places for results other than one folder.
RIG_FLAGS = ("rig", "calibration", "policy", "start", "log_level", "log_format", "print_config", "validate_config")


def _score(flag: str, what: str) -> Callable[[F], F]:
    return click.option(flag, type=FiniteRange(0, 1), metavar="S", help=f"{what}, 0 to 1 [default: the engine's]")


def _milliseconds(flag: str, what: str) -> Callable[[F], F]:
    return click.option(flag, type=FiniteRange(0, 3_600_000), metavar="MS", help=what)


def _filled(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    if any(not value.strip() for value in values):
        raise click.BadParameter("it is empty, wanted a folder or an output of docs/outputs.md.", context, option)
    return values


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    invoke_without_command=True,
    epilog=EPILOG,
    context_settings={"max_content_width": 110},
)
@click.version_option(__version__, prog_name=PROGRAM, message="%(prog)s %(version)s")
@click.option("--rig", multiple=True, metavar="FILE", help="Rig file; several run side by side")
@click.option(
    "--engine",
    multiple=True,
    metavar="E",
    help="Engine file, or a name from `mdrun models`; several are a ladder [default: the detector that ships]",
)
@click.option("--visible", metavar="V", help="Visible source, or the name of a camera in the rig file")
@click.option("--thermal", metavar="T", help="Thermal source, or the name of a camera in the rig file")
@click.option(
    "--output",
    multiple=True,
    metavar="O",
    callback=_filled,
    help="Folder or URI; repeatable [default of recordings: runs/ENGINE]",
)
@click.option("--calibration", metavar="FILE", help="How the thermal image lies on the visible one")
@click.option(
    "--policy",
    type=click.Choice(["strict", "hold", "lone"]),
    help="Without a measured thermal image: drop, hold, go on",
)
@click.option(
    "--start", type=click.Choice(["require", "degraded"]), help="A camera that is missing at the start: error or go on"
)
@_score("--threshold", "Lowest score in results.jsonl")
@_score("--display-threshold", "Lowest score that is drawn and counted")
@_milliseconds("--max-skew", "Capture times closer than this are one moment [default: 60]")
@_milliseconds("--max-age", "A thermal image older than this is not used [default: 250]")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Stop after N visible frames; a rig: results")
@click.option("--no-overlay", is_flag=True, help="Write neither overlay.mp4 nor overlay.png")
@click.option("--no-labels", is_flag=True, help="Write no label maps (engines with the task segment)")
@click.option("--threads", type=click.IntRange(1, 256), metavar="N", help="CPU threads [default: one a core]")
@click.option("--backend", metavar="NAME", help="Engine library, see `mdrun doctor` [default: the best that is there]")
@click.option("--require-verified", is_flag=True, help="Refuse an engine whose manifest does not prove its export")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="Of a rig [default: info]")
@click.option("--log-format", type=click.Choice(["text", "json"]), help="Of a rig's log on stderr [default: text]")
@click.option("--print-config", is_flag=True, help="Print the effective rig as YAML and stop")
@click.option("--validate-config", is_flag=True, help="Check the rig file and stop")
@click.pass_context
def cli(context: click.Context, /, **flags: Any) -> int | None:  # as the options say
    """Find people and cars with a visible camera and a cheap thermal one, by day and by night.

    Recordings: writes results.jsonl, overlay.mp4, overlay.png and summary.json; a segment engine also labels/, its
    label maps. Cameras: results go to every --output until Ctrl-C.
    """
    given = [name for name, value in flags.items() if value is not None and value is not False and value != ()]
    if context.invoked_subcommand is not None:
        as_usual()
        if given:
            flag, command = given[0].replace("_", "-"), f"{PROGRAM} {context.invoked_subcommand}"
            raise UsageError(f"--{flag} does not go with `{command}`; leave one out")
        return None
    if not given:
        click.echo(context.get_help())
        return 0
    if flags["visible"] is None and not flags["rig"]:
        raise UsageError(
            "--visible is missing; give a folder, a video file, a camera or test://street, or a --rig file"
        )
    return _run_rigs(flags) if _is_rig_run(flags) else _run(flags)


def _is_rig_run(flags: dict[str, Any]) -> bool:
    """Cameras, a rig file or other outputs than one folder; a recording into a folder is a run of its own kind."""
    if any(flags[name] for name in RIG_FLAGS) or len(flags["engine"]) > 1 or len(flags["output"]) > 1:
        return True
    from mdrun.rig.flags import names_camera
    from mdrun.sinks.uri import is_folder

    sources = [flags[role] for role in ("visible", "thermal") if flags[role] is not None]
    return any(map(names_camera, sources)) or not all(map(is_folder, flags["output"]))


def _run_rigs(flags: dict[str, Any]) -> int:
    from mdrun.rig.check import check_rigs
    from mdrun.rig.flags import rigs_of

    files = [Path(file) for file in flags["rig"]]
    rigs = rigs_of(files, flags)
    if flags["print_config"]:
        _print_config(rigs)
        return 0
    check_rigs(rigs, files, flags, deep=flags["validate_config"])
    _tell_replaced_outputs(files, flags["output"])
    if flags["validate_config"]:
        click.echo(f"{', '.join(rig.rig for rig in rigs)}: nothing wrong")
        return 0
    if idle := [rig.rig for rig in rigs if not rig.outputs]:
        raise UsageError(
            f"{', '.join(idle)}: no output, results would go nowhere; give --output http://127.0.0.1:8080, a folder, "
            "or another of docs/outputs.md"
        )
    from mdrun import logs
    from mdrun.report import print_rig_report
    from mdrun.rig.run import run_rigs
    from mdrun.sinks.rotate import is_stdout

    logs.setup(flags["log_level"] or "info", flags["log_format"] or "text")
    reports, code = run_rigs(rigs, frames=flags["limit"], overlay=not flags["no_overlay"])
    logs.close()
    aside = any(is_stdout(text.partition(":")[2].partition("?")[0]) for rig in rigs for text in rig.outputs)
    for report in reports:
        print_rig_report(report, aside=aside)
    return code


def _tell_replaced_outputs(files: list[Path], given: tuple[str, ...]) -> None:
    """`--output` may be meant as one more; whoever counts on MQTT must know that it is off."""
    from mdrun.rig.config import read_rigs

    outputs = [output for file in files for rig in read_rigs(file) for output in rig.outputs]
    if given and (gone := [output for output in outputs if output not in given]):
        warn(PROGRAM, f"--output goes in the place of {len(gone)} in {' and '.join(map(str, files))}, which are off")


def _print_config(rigs: list[RigConfig]) -> None:
    from mdrun.rig.effective import print_config, with_secrets

    click.echo(print_config(rigs), nl=False)
    if secret := with_secrets(rigs):
        warn(
            PROGRAM,
            f"{', '.join(secret)}: passwords are left out; write them as ${{NAME}}, which the environment knows",
        )


@cli.command("info", epilog="\b\nExamples:\n  mdrun info student.onnx\n  mdrun info student.onnx --json")
@click.argument("engine")
@click.option("--json", "as_json", is_flag=True, help="The manifest as JSON")
def info_command(engine: str, as_json: bool) -> None:
    """Print what an engine takes, gives and how it was made. Needs no engine library."""
    from dataclasses import asdict

    from mdrun.models import resolve
    from mdrun.onnx_file import read_manifest
    from mdrun.verified import find_change

    path = resolve(engine)
    manifest = read_manifest(path)
    changed = find_change(path, manifest)
    if as_json:
        _print_json(asdict(manifest))
    else:
        from mdrun.manifest_report import print_manifest

        print_manifest(path, manifest, changed=changed is not None)
    if changed is not None:  # what the manifest says is shown nevertheless, to find out what it was
        raise changed


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

    as_usual()  # a library may build an engine for minutes, and no handler of Python's runs meanwhile
    options = _options(flags)
    choice = flags["engine"][0] if flags["engine"] else default()
    chosen = {name: flags[name] for name in ("threshold", "threads", "require_verified")}
    with Engine.load(choice, backend=AUTO if flags["backend"] is None else flags["backend"], **chosen) as engine:
        check_needs(engine, flags["thermal"] is not None)
        check_display(engine, options)
        _check_output(flags)
        visible, thermal = _open_sources(flags["visible"], flags["thermal"])
        if doubt := find_doubt(engine.manifest, engine.path):
            warn(PROGRAM, f"{engine.path}: not verified: {doubt}; --require-verified refuses such engines")
        try:
            output = Path(flags["output"][0]) if flags["output"] else Path("runs") / engine.path.stem
            report = _run_with_progress(engine, visible, thermal, output, options)
        finally:
            visible.close()
            if thermal is not None:
                thermal.close()
    print_report(report)
    return report.exit_code


def _check_output(flags: dict[str, Any]) -> None:
    """Refuse an output that would become the input of the next run."""
    if not flags["output"]:
        return
    output = Path(flags["output"][0])
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
    """The command, once signals are taken care of (`mdrun.__main__`)."""
    leave(run_command(cli, PROGRAM))
