"""What a person reads of the checks, and what a program does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mdrun import __version__
from mdrun.doctor.base import AREAS, Check, Status, exit_code
from mdrun.tables import join_values

SCHEMA_VERSION = 1
STYLES = {Status.OK: "green", Status.WARNING: "yellow", Status.MISSING: "dim", Status.BROKEN: "bold red"}


def to_dict(checks: Sequence[Check]) -> dict[str, Any]:
    """What `--json` prints; keys are added, never renamed or removed."""
    return {
        "schema_version": SCHEMA_VERSION,
        "version": __version__,
        "exit_code": exit_code(checks),
        "checks": [check.to_dict() for check in checks],
    }


def print_checks(console: Console, checks: Sequence[Check]) -> None:
    """A table of all checks by area; below it what can be mended, each command on a line of its own."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("check")
    table.add_column("found", overflow="fold", ratio=1)
    for area in AREAS:
        for number, check in enumerate([check for check in checks if check.area == area]):
            if number == 0:
                table.add_row("", Text(f"{area}", "bold"), "")
            table.add_row(Text(check.status.value, STYLES[check.status]), check.name, _found(check))
    console.print(table)
    _print_mends(console, [check for check in checks if check.mend])
    counts = Counter(check.status.value for check in checks)
    console.print(f"\n{join_values({status.value: counts[status.value] for status in Status})}")


def _found(check: Check) -> Text:
    code = f" [{check.code}]" if check.code else ""
    text = Text(f"{check.found}{code}")
    return text.append(f"\n{check.means}", "dim") if check.means else text


def _print_mends(console: Console, checks: Sequence[Check]) -> None:
    """Grave things first; a command that mends several is told once."""
    order = [Status.BROKEN, Status.WARNING, Status.MISSING]
    by_mend: dict[str, list[Check]] = {}
    for check in sorted(checks, key=lambda check: order.index(check.status)):
        by_mend.setdefault(check.mend, []).append(check)
    for mend, mended in by_mend.items():
        console.print(Text(f"\n{', '.join(check.name for check in mended)} ({mended[0].status.value}):"))
        console.print(Text(f"  {mend}"), soft_wrap=True)
