"""What the commands of `mdtrain eval` share: options and tables."""

from __future__ import annotations

from pathlib import Path

import click

# ruff: noqa: PLC0415  # rich loads when a table is printed, not for --help

EXISTING = click.Path(path_type=Path)  # the readers say what is wrong with it


def parse_size(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """Width and height in pixels of a text such as `160x128`."""
    if value is None:
        return None
    width, _, height = value.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise click.BadParameter(f"got {value!r}, wanted width and height in pixels such as 160x128.", ctx, param)
    return int(width), int(height)


thermal_size_option = click.option(
    "--thermal-size", metavar="WxH", callback=parse_size, help="Thermal camera to simulate, such as 160x128."
)


def shown(value: float | None, form: str = "{:.3f}") -> str:
    """A number for a table; - where there is none."""
    return "-" if value is None else form.format(value)


def print_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """A titled table, numbers to the right."""
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for position, column in enumerate(columns):
        table.add_column(column, justify="left" if position == 0 and len(rows) > 1 else "right")
    for row in rows:
        table.add_row(*row)
    console = Console()
    console.print(title, highlight=False)
    console.print(table)
