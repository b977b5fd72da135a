"""What the commands of `mdtrain eval` share: options and tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mdrun.errors import UsageError
from mdrun.numbers import FiniteRange

if TYPE_CHECKING:
    from rich.console import Console

    from mdtrain.metrics.error_folder import ErrorFolder

# ruff: noqa: PLC0415  # rich loads when a table is printed, not for --help

SIZE = re.compile(r"([0-9]{1,9})x([0-9]{1,9})")
WIDTH = 160  # of tables in files and pipes
MOST_WORDS = 20  # characters that words get where a table has to fit
WORST = 20  # pictures of errors, unless told
EXISTING = click.Path(path_type=Path)  # the readers say what is wrong with it


def parse_size(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """Width and height in pixels of a text such as `160x128`."""
    if value is None:
        return None
    sides = SIZE.fullmatch(value)
    if sides is None or not (int(sides[1]) and int(sides[2])):
        raise click.BadParameter(f"got {value!r}, wanted width and height in pixels such as 160x128.", ctx, param)
    return int(sides[1]), int(sides[2])


thermal_size_option = click.option(
    "--thermal-size", metavar="WxH", callback=parse_size, help="Thermal camera to simulate, such as 160x128."
)

errors_option = click.option(
    "--errors",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Folder for pictures of the worst pairs and errors.csv, a list of all.",
)
worst_option = click.option(
    "--worst", type=click.IntRange(min=1), metavar="N", help=f"With --errors: most pictures. [default: {WORST}]"
)

error_threshold_option = click.option(
    "--error-threshold",
    type=FiniteRange(0, 1),
    help="With --errors: lowest score that counts. [default: that of the best F1, class by class]",
)


def only_with_errors(errors: Path | None, given: Mapping[str, object]) -> None:
    """Refuse an option that says how errors are drawn where they are not.

    Raises:
        UsageError: naming the first.
    """
    for name, value in given.items():
        if value is not None and errors is None:
            raise UsageError(f"got {name} without --errors, wanted the folder for pictures; add --errors FOLDER")


def pictures_line(folder: ErrorFolder, pairs: int) -> str:
    """What was written for --errors."""
    count = folder.pictures
    return f"{folder.path}: {count} picture{'s' * (count != 1)} of the worst pairs; {folder.index} lists all {pairs}"


def camera(thermal_size: tuple[int, int] | None) -> str:
    """The thermal camera of a run, for titles."""
    return "thermal as stored" if thermal_size is None else f"thermal at {thermal_size[0]}x{thermal_size[1]}"


def shown(value: float | None, form: str = "{:.3f}") -> str:
    """A number for a table; - where there is none."""
    return "-" if value is None else form.format(value)


def print_turned(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """The same, turned where a terminal is too narrow for its rows: as many of them side by side as there is room for.

    A row is one thing, `columns` what is told of it, first its name, last words that may take several lines.
    """
    from rich.cells import cell_len

    width = _console().width
    cells = [max(map(cell_len, [column, *(row[index] for row in rows)])) for index, column in enumerate(columns)]
    if not rows or _width([*cells[:-1], min(cells[-1], MOST_WORDS)]) <= width:
        print_table(title, columns, rows)
        return
    names, left = max(map(cell_len, columns)), list(rows)
    numbers = [max(map(cell_len, row[:-1])) for row in rows]
    while left:
        count = 1
        while count < len(left) and _width([names, *numbers[: count + 1]]) <= width:
            count += 1
        head, *lines = ([column, *(row[index] for row in left[:count])] for index, column in enumerate(columns))
        print_table(title, head, lines)
        title, left, numbers = "", left[count:], numbers[count:]


def _width(cells: list[int]) -> int:
    """Of a table: two blanks a cell, and lines between and around."""
    return sum(cells) + 3 * len(cells) + 1


def _console() -> Console:
    """Of the terminal; rich would cut names for the 80 columns of a terminal that is not there."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=WIDTH)


def print_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """A titled table, numbers to the right."""
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for position, column in enumerate(columns):
        first = position == 0 and len(rows) > 1
        table.add_column(Text(column), justify="left" if first else "right", no_wrap=first)
    for row in rows:
        table.add_row(*map(Text, row))  # as it is: a reason or a name may hold brackets
    console = _console()
    if title:
        console.print(title, highlight=False, markup=False)
    console.print(table)
