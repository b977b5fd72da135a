"""What the commands share that judge an engine on any labelled set: its layout, its list, its labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mdrun.errors import UsageError

if TYPE_CHECKING:
    from mdtrain.data.records import Record
    from mdtrain.data.sets import SetName

# ruff: noqa: PLC0415  # numpy and OpenCV load when a command runs, not for --help

BOX_SETS: tuple[SetName, ...] = ("msrs", "roadscene", "kaist", "flir", "llvip", "coco", "street")
MAP_SETS: tuple[SetName, ...] = ("mfnet", "street")
LABELS = {"msrs": ("fusion", "infrared", "visible"), "kaist": ("sanitized", "original", "paired")}  # the first: default

list_option = click.option(
    "--list", "--split", "split", metavar="NAME", help="List of names to evaluate. [default: test of mfnet, else val]"
)


def parse_categories(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    """Names of a text such as `person,dog`, by class index; None where there is none."""
    from mdtrain.data.categories import NAMES_WANTED, are_categories

    if value is None:
        return None
    names = tuple(name.strip() for name in value.split(","))
    if not are_categories(names):
        raise click.BadParameter(f"got {value!r}, wanted {NAMES_WANTED}, such as person,dog.", ctx, param)
    return names


categories_option = click.option(
    "--classes",
    "categories",
    metavar="NAMES",
    callback=parse_categories,
    help="Categories of the boxes, in the order of data.classes: person,dog. [default: person,bicycle,car]",
)
labels_option = click.option(
    "--labels",
    type=click.Choice([label for of_set in LABELS.values() for label in of_set]),
    help="Which labels of a set with several: fusion, infrared, visible of msrs, sanitized, original, paired of kaist. "
    "[default: fusion, sanitized]",
)


def layout_of(name: str | None, data: Path, layouts: Sequence[SetName], what: str, *, instead: str = "") -> SetName:
    """How a folder is read: by --set, else by its own name.

    Args:
        name: the value of --set.
        data: the folder.
        layouts: those with the labels that are wanted.
        what: these labels.
        instead: layout of folders that are called otherwise; none if empty.

    Raises:
        UsageError: that is no layout, or one without such labels.
    """
    folder = data.resolve().name
    for layout in layouts:
        if layout == (name or folder):
            return layout
    wanted = " or ".join((", ".join(layouts[:-1]), layouts[-1]))
    if name is not None:
        raise UsageError(f"got --set {name}, which has no {what}, wanted {wanted}")
    if instead:
        return layout_of(instead, data, layouts, what)
    raise UsageError(f"{data}: its name {folder!r} is no layout with {what}; name the layout with --set: {wanted}")


def read_labelled(
    layout: SetName, data: Path, split: str, labels: str | None, categories: Sequence[str]
) -> list[Record]:
    """The pairs of a list with boxes of the categories, their files looked at.

    Raises:
        UsageError: labels that the set does not have, or a list.
        SourceError, DataError: the set cannot be read.
    """
    from mdtrain.data.records import check_command, check_records
    from mdtrain.data.sets import read_set

    known = LABELS.get(layout, ())
    if labels is not None and labels not in known:
        wanted = f"wanted {', '.join(known)}" if known else "which has one kind"
        raise UsageError(f"got --labels {labels} for {layout}, {wanted}; leave --labels out for the default")
    chosen: dict[str, Any] = {"categories": categories}
    if labels is not None:
        chosen["kaist_labels" if layout == "kaist" else "labels"] = labels
    records = read_set(layout, data, split, **chosen)
    check_records(records, data, check_command(layout, data, split, **chosen))
    return records


def default_list(layout: SetName) -> str:
    """The list that is evaluated where none is named."""
    return "test" if layout == "mfnet" else "val"
