"""`mdtrain data`: look at a set before training on it."""

from __future__ import annotations

import json
import shlex
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from mdrun.errors import DataError, SourceError, UsageError
from mdrun.numbers import FiniteRange
from mdtrain.commands.labelled import categories_option

SHOWN = 5  # names of a kind; --json has all


@click.group("data")
def data_group() -> None:
    """Labelled sets of visible and thermal pairs."""


@data_group.command(epilog="Example: mdtrain data check DATA/rgbt/msrs --split val --sheet runs/msrs.png")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--set",
    "name",
    help="Layout: msrs, roadscene, kaist, flir, llvip, coco, mfnet, folders, street; default: the folder's name.",
)
@click.option("--list", "--split", "split", metavar="NAME", default="train", show_default=True, help="List to check.")
@click.option("--labels", type=click.Choice(["fusion", "infrared", "visible"]), default="fusion", help="View of MSRS.")
@click.option(
    "--kaist-labels",
    type=click.Choice(["original", "sanitized", "paired"]),
    default="sanitized",
    help="Version of the KAIST labels.",
)
@categories_option
@click.option("--normalisation", default="agc8", show_default=True, help="Rule of 16-bit thermal images.")
@click.option("--sheet", type=click.Path(path_type=Path), help="PNG to write: labelled pairs of the set.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(
    *,
    folder: Path,
    name: str | None,
    split: str,
    labels: str,
    kaist_labels: str,
    categories: tuple[str, ...] | None,
    normalisation: str,
    sheet: Path | None,
    as_json: bool,
) -> None:
    """Report missing, damaged and unpaired files of one list, sizes, classes of boxes and pixels, day and night.

    Ends with the lists that were not looked at. Fails if a pair is unusable.
    """
    from mdrun.thermal.normalise import Rule  # noqa: PLC0415
    from mdtrain.data.check import check_set, draw_sheet  # noqa: PLC0415
    from mdtrain.data.problems import all_findings  # noqa: PLC0415
    from mdtrain.data.records import CLASSES, refuse_swapped, use_rule  # noqa: PLC0415
    from mdtrain.data.sets import SET_NAMES, other_lists, read_set  # noqa: PLC0415
    from mdtrain.outputs import result_file  # noqa: PLC0415

    layout: Any = name or folder.name
    if layout not in SET_NAMES:
        inside = [known for known in SET_NAMES if (folder / known).is_dir()]
        way_out = f"name one of the sets in it: {folder / inside[0]}" if inside else "name one with --set"
        raise UsageError(f"{folder}: layout {layout!r} is none of {', '.join(SET_NAMES)}; {way_out}")
    kaist: Any = kaist_labels
    names = categories or CLASSES
    try:
        rule = Rule.parse(normalisation)
    except ValueError as error:
        raise UsageError(f"--normalisation: {error}") from error
    with result_file(sheet) if sheet is not None else nullcontext():
        with all_findings() as found:
            records = read_set(layout, folder, split, labels, kaist, names)
        use_rule(records, rule)
        report, usable = check_set(records, (640, 512), found.problems, names)
        report.left_out, report.other_lists = found.left_out, other_lists(layout, folder, split)
        if as_json:
            click.echo(json.dumps(report.to_json()))
        else:
            _show(f"{folder}, {split}", report)
        if sheet is not None and usable:
            draw_sheet(usable, f"{layout} {split}", sheet, names)
    if not report.pairs:
        raise SourceError(f"{folder}: the list {split} is empty, wanted one pair at least; fill it or check another")
    _refuse(report, f"{folder}: {len(usable)} of {report.pairs} pairs of {split} can be used")
    refuse_swapped(usable, folder)


@data_group.command(epilog="Example: mdtrain data split DATA/folders --share 0.2 --seed 0")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--share",
    type=FiniteRange(0, 1, min_open=True, max_open=True),
    default=0.2,
    show_default=True,
    help="Of each class, for validation.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Which pairs these are.")
def split(folder: Path, share: float, seed: int) -> None:
    """Write train.txt and val.txt of pairs in a folder a class: visible/CLASS/ and thermal/CLASS/."""
    from mdtrain.data.sets.folders import write_lists  # noqa: PLC0415

    lists = write_lists(folder, share, seed)
    click.echo(f"{folder}: {', '.join(f'{name}.txt {len(names)} pairs' for name, names in lists.items())}")


def _refuse(report: Any, found: str) -> None:
    """Fail where a pair of the list cannot be used.

    Raises:
        SourceError: a file is missing or damaged.
        DataError: all files are whole, and some contradict each other or their camera.
    """
    if report.swapped:
        raise DataError(f"{found}; the images of {report.swapped} seem to be swapped: exchange their two folders")
    if report.lost:
        raise SourceError(f"{found}; copy the files named above again or take their names out of the list")
    if not report.usable:
        raise DataError(f"{found}; correct the files named above or take their names out of the list")


def _show(title: str, report: Any) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(show_header=False, title=title, title_justify="left")
    unknown = report.pairs - report.day - report.night
    speed = report.samples_per_second
    rows = [
        ("pairs", str(report.pairs)),
        ("missing files", _names(report.missing)),
        ("unreadable files", _names(report.unreadable)),
        ("files without a partner", _names(report.unpaired)),
        ("sizes that do not fit", _names(report.mismatched)),
        ("visible sizes", _counts(report.visible_sizes, SHOWN)),
        ("thermal sizes", _counts(report.thermal_sizes, SHOWN)),
        ("day, night, unknown", f"{report.day}, {report.night}, {unknown}"),
    ]
    if report.classes:
        rows.append(("pairs by class", _counts(report.classes)))
    elif report.objects or not report.label_maps:
        rows += [
            ("objects", _counts(report.objects)),
            ("objects by night", _counts(report.objects_by_night)),
            ("pairs without a box", str(report.empty)),
            ("boxes below 8 pixels", str(report.tiny)),
        ]
        if report.left_out:
            rows.append(("left out", _left_out(report.left_out)))
    if report.label_maps:
        rows += [
            ("label maps", str(report.label_maps)),
            ("pixels: all, day, night", _shares(report)),
        ]
    rows += [
        ("one worker at 640x512", "-" if speed is None else f"{speed:.0f} samples/s, decoding and augmentation"),
        ("lists not looked at", _flags(report.other_lists)),
    ]
    for row in rows:
        table.add_row(*row)
    Console(markup=False, emoji=False).print(table)  # names of files are no markup


def _counts(counter: Any, most: int | None = None) -> str:
    text = ", ".join(f"{name} {count}" for name, count in counter.most_common(most)) or "none"
    return text if most is None else text + _more(len(counter) - most)


def _left_out(counter: Any) -> str:
    return ", ".join(f"{count} {name}" for name, count in counter.most_common())


def _flags(lists: list[str]) -> str:
    """What shows each of the lists."""
    return ", ".join(f"--split {shlex.quote(name)}" for name in lists[:SHOWN]) + _more(len(lists) - SHOWN) or "none"


def _shares(report: Any) -> str:
    """A line a class: its share of the pixels to a hundredth of a percent, for people are small; - for none."""
    groups = (report.label_pixels, report.label_pixels_by_day, report.label_pixels_by_night)
    return "\n".join(
        f"{name:<12}"
        + "".join(f"{group[name] / group.total():9.2%}" if group[name] else f"{'-':>9}" for group in groups)
        for name, _ in report.label_pixels.most_common()
    )


def _names(names: list[str]) -> str:
    if not names:
        return "none"
    return f"{len(names)}\n" + "\n".join(names[:SHOWN]) + _more(len(names) - SHOWN)


def _more(left: int) -> str:
    return f"\n… and {left} more (--json has all)" if left > 0 else ""
