"""Tables on the terminal, all of one look."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table


def make_console(*, stderr: bool = False) -> Console:
    """Standard output or error, without colours of its own for numbers and paths."""
    return Console(highlight=False, markup=False, stderr=stderr)


def make_table(*columns: str) -> Table:
    """A table with a heading; its first column never wraps."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column(columns[0], no_wrap=True)
    for column in columns[1:]:
        table.add_column(column)
    return table


def join_values(values: Mapping[str, Any]) -> str:
    """Names and numbers in one line."""
    return ", ".join(f"{name} {value:g}" for name, value in values.items())


def join_drops(cameras: Mapping[str, Mapping[str, Any]]) -> str:
    """What cameras have dropped, by cause, in one line: `visible busy 3, queue 2; thermal queue 96`."""
    drops = {role: join_values(camera["dropped"]) for role, camera in cameras.items()}
    return "; ".join(f"{role} {causes}" for role, causes in drops.items() if causes)
