"""Options and tables that the commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mdrun.errors import UsageError

if TYPE_CHECKING:
    from mdexport.int8 import Calibration
    from mdexport.pairs import PairSet
    from mdrun.manifest import Manifest, Parity

# ruff: noqa: PLC0415  # libraries load when a command runs, not for --help

FILE = click.Path(path_type=Path)

output_option = click.option("--output", type=FILE, required=True, help="File to write.")
pairs_option = click.option(
    "--pairs",
    metavar="PAIRS",
    required=True,
    help="Labelled pairs that judge the engine: a folder such as DATA/msrs, or SET=FOLDER.",
)
_calibration_options = (
    click.option(
        "--calibration",
        metavar="PAIRS",
        help="Pairs that INT8 scales are measured on: a labelled set such as DATA/msrs, or SET=FOLDER. Never random.",
    ),
    click.option("--calibration-list", default="train", show_default=True, help="List of these pairs."),
    click.option(
        "--calibration-visible",
        metavar="SOURCE",
        help="Instead: a recording of your own camera, a folder, video or replay as `mdrun` takes it; no labels. Wants "
        "--pairs.",
    ),
    click.option("--calibration-thermal", metavar="SOURCE", help="The thermal camera's, if the engine has one."),
    click.option(
        "--calibration-pairs",
        type=click.IntRange(min=1),
        default=64,
        show_default=True,
        help="How many pairs at most, half by night where a set has both.",
    ),
)
degraded_option = click.option(
    "--degraded", is_flag=True, help="Measure also with a black or frozen camera, for engines that bear it."
)
degraded_as_trained_option = click.option(
    "--degraded/--no-degraded",
    default=None,
    help="Measure also with a black or frozen camera, for engines that bear it. "
    "[default: if the student was trained with data.modality_dropout]",
)


def calibration_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What INT8 is calibrated on; `calibration_of` reads them."""
    for option in reversed(_calibration_options):
        command = option(command)
    return command


def calibration_of(options: Mapping[str, Any], pairs: str | None, labels: str | None) -> tuple[Calibration, PairSet]:
    """Pairs to calibrate on and pairs that judge, of the options above, `--pairs` and `--labels`.

    Raises:
        UsageError: neither a set nor recordings, both, or recordings with nothing that judges; no such labels.
    """
    from mdexport.int8 import Calibration
    from mdexport.pairs import parse_pairs
    from mdexport.recordings import Recording

    text, visible, thermal = (options[f"calibration{name}"] for name in ("", "_visible", "_thermal"))
    cameras = [name for name, given in (("visible", visible), ("thermal", thermal)) if given is not None]
    sources = " and ".join(f"--calibration-{name}" for name in cameras)
    if text is None and not cameras:
        raise UsageError(
            "got nothing to calibrate on, wanted real pairs (ranges of random images fit nothing); name a labelled set "
            "with --calibration, or recordings with --calibration-visible and --calibration-thermal"
        )
    if text is not None and cameras:
        raise UsageError(f"got --calibration with {sources}, wanted a set or recordings; leave one out")
    settings = options["calibration_list"], options["calibration_pairs"], options["degraded"]
    if text is not None:
        judges = parse_pairs(text if pairs is None else pairs, labels)
        return Calibration(judges if pairs is None else parse_pairs(text), *settings), judges
    if visible is None:
        raise UsageError(f"got {sources} alone, wanted both cameras: pairs are of one scene; add --calibration-visible")
    if pairs is None:
        raise UsageError(
            f"got {sources} without --pairs: recordings have no labels; "
            "name labelled pairs that judge, such as DATA/msrs"
        )
    return Calibration(Recording(visible, thermal), *settings), parse_pairs(pairs, labels)


list_option = click.option("--list", "split", default="val", show_default=True, help="List of the pairs that judge.")


def reason_of(context: click.Context, option: click.Parameter, text: str | None) -> str | None:  # noqa: ARG001  # click's
    """A reason that somebody can read later."""
    if text is not None and not text.strip():
        raise UsageError("--accept: got no reason, wanted why the engine is wanted although it does not pass; say it")
    return text


accept_option = click.option(
    "--accept",
    metavar="REASON",
    callback=reason_of,
    help="Write an engine that does not pass; the reason goes into its manifest.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
reduce_range_option = click.option(
    "--reduce-range",
    is_flag=True,
    help="INT8 weights of 7 bits: the same result on every x86 processor, also without VNNI. Not for TensorRT, which "
    "needs none.",
)


def sign_of_life(text: str) -> AbstractContextManager[object]:
    """A spinner on stderr during work that cannot say how far it is; nothing where that is no terminal."""
    from rich.console import Console

    return Console(stderr=True).status(text)


@contextmanager
def failing_shown(*, as_json: bool) -> Iterator[None]:
    """An engine that fails has a report too: with `--json` it is printed before the error ends the command."""
    from mdexport.gate import GateError

    try:
        yield
    except GateError as error:
        if as_json and error.report:
            click.echo(error.report)
        raise


def show(output: Path, manifest: Manifest, *, as_json: bool) -> None:
    """The end of a conversion: what was written and how closely it follows its source."""
    if as_json:
        from mdexport.proof import report_json

        click.echo(report_json(manifest, output))
        return
    from mdrun.manifest_report import worst_layers
    from mdrun.verified import find_doubt
    from mdtrain.commands.shown import print_table

    parity = manifest.parity
    assert parity is not None  # noqa: S101  # every conversion writes one
    print_table(*_changes(manifest, parity))
    doubt = find_doubt(manifest)
    if parity.passed and doubt is not None:
        click.echo(f"not verified: {with_hint(doubt)}")
    for precision, threshold in (manifest.energy or {}).items():
        click.echo(f"energy threshold {precision}: {threshold:.3f} (95 % of the intact pairs lie below)")
    if manifest.origin.kept:
        click.echo(f"left in higher precision: {', '.join(manifest.origin.kept)}")
    if manifest.origin.sensitivity:
        click.echo(f"layers with the largest error alone in INT8: {worst_layers(manifest.origin)}")
    click.echo(f"{output}: {manifest.network_name()}, {output.stat().st_size / 1e6:.1f} MB")


def with_hint(doubt: str) -> str:
    """The doubt, and what is likely behind it."""
    return f"{doubt}; is the network trained?" if doubt.endswith("prove nothing") else doubt


def _changes(manifest: Manifest, parity: Parity) -> tuple[str, list[str], list[list[str]]]:
    """Title, columns and rows of the table of a conversion."""
    from mdexport.gate import INVENTED

    rows = [
        [
            name,
            f"{change.reference:.4f}",
            f"{change.engine:.4f}",
            f"-{parity.limits[name]:g}" if name in parity.limits else "-",
        ]
        for name, change in parity.metrics.items()
    ]
    if parity.matched is not None:
        what = "pairs of the same class" if manifest.task == "classify" else "detections found again"
        rows.append([what, "1", f"{parity.matched:.4f}", f"{parity.limits['matched']:g}"])
    if (invented := parity.mean_abs.get(INVENTED)) is not None:
        rows.append(["detections invented", "0", f"{invented:.4f}", f"{parity.limits[INVENTED]:g}"])
    for name, largest in parity.max_abs.items():
        limit = f"{parity.limits[name]:g}" if name in parity.limits else "-"
        if name in parity.mean_abs:
            rows.append(
                [f"{name}, mean and largest difference", "-", f"{parity.mean_abs[name]:.2g}, {largest:.2g}", limit]
            )
        else:
            rows.append([f"{name}, largest difference", "-", f"{largest:.2g}", limit])
    reason = " ".join((parity.accepted or "").split())
    verdict = "passed" if parity.passed else f"accepted without passing: {reason}"
    columns = ["", "reference", manifest.origin.precision or "", "limit"]
    seen = "scenes" if parity.metrics else "pairs"  # scenes: pairs, some of them again with a failing camera
    return f"{parity.pairs} {seen} of {parity.data} against {parity.reference}: {verdict}", columns, rows
