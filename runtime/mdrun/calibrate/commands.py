"""The command group `mdrun calibrate`.

Only click and the errors are imported here, so that help and mistakes answer at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mdrun.command import warn
from mdrun.errors import UsageError
from mdrun.numbers import FiniteRange

if TYPE_CHECKING:
    from rich.table import Table

    from mdrun.calibrate.registration import Calibrated

F = TypeVar("F", bound=Callable[..., Any])
Size = tuple[int, int]

METHODS = ("board", "points", "scene", "import")

REGISTRATION_EPILOG = """\b
Examples:
  mdrun calibrate registration --scene --visible rgb/ --thermal ir/ --picture overlay.png
  mdrun calibrate registration --board board_rgb/ board_ir/ --pattern 9x6 --square 0.03 --depth 10
  mdrun calibrate registration --points pairs.csv --visible-size 1280x1024 --thermal-size 160x120
  mdrun calibrate registration --import camchain.yaml --depth 20

One of --board, --points, --scene and --import; docs/registration.md compares them. Exit codes: docs/errors.md.
"""

TIME_EPILOG = """\b
Examples:
  mdrun calibrate time --rig gate.yaml
  mdrun calibrate time --visible rtsp://camera/visible --thermal rtsp://camera/thermal --seconds 20

Something must move in the view of both cameras; docs/registration.md#time-offset. Exit codes: docs/errors.md.
"""


def _pair(context: click.Context, option: click.Parameter, value: str | None) -> Size | None:
    """Two whole numbers as `640x512`."""
    if value is None:
        return None
    parts = value.lower().split("x")
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() and 0 < int(part) < 65_536 for part in parts):
        raise click.BadParameter(f"{value!r}, wanted two whole numbers as 640x512.", context, option)
    return int(parts[0]), int(parts[1])


FILE = click.Path(path_type=Path)
LEAST_COVERAGE = 0.02  # of the visible view: a lens of 12 degrees beside one of 70 sees more
ABOVE_0 = FiniteRange(0, min_open=True)


def _cameras(command: F) -> F:
    """The options that name two cameras."""
    for option in (
        click.option("--rig", type=FILE, metavar="FILE", help="Cameras of this rig file"),
        click.option("--thermal", metavar="T", help="Thermal source"),
        click.option("--visible", metavar="V", help="Visible source"),
    ):
        command = option(command)
    return command


@click.group()
def calibrate() -> None:
    """Measure a rig: how far apart its cameras' clocks are, and how the thermal image lies on the visible one."""


@calibrate.command("registration", epilog=REGISTRATION_EPILOG)
@click.option("--board", nargs=2, metavar="V T", help="Two folders: a checkerboard, as both cameras see it")
@click.option("--pattern", callback=_pair, default="9x6", show_default=True, help="Inner corners of the board")
@click.option("--square", type=ABOVE_0, default=0.03, show_default=True, metavar="M", help="Side of a square")
@click.option("--visible-lens", type=FILE, metavar="FILE", help="Known intrinsics of the visible camera, for --board")
@click.option("--thermal-lens", type=FILE, metavar="FILE", help="Known intrinsics of the thermal camera, for --board")
@click.option("--points", type=FILE, metavar="FILE", help="CSV: visible_x,visible_y,thermal_x,thermal_y")
@click.option("--scene", is_flag=True, help="From what both cameras see")
@click.option("--initial", type=FILE, metavar="FILE", help="A calibration that is nearly right, for --scene")
@click.option("--import", "imported", type=FILE, metavar="FILE", help="Kalibr, OpenCV, or nine numbers of a homography")
@click.option("--visible-camera", metavar="NAME", help="Name of the visible camera in the imported file")
@click.option("--thermal-camera", metavar="NAME", help="Name of the thermal camera in the imported file")
@click.option("--unit", type=ABOVE_0, default=1.0, metavar="M", help="Unit of the imported file: 0.001 for mm")
@click.option(
    "--direction",
    type=click.Choice(["thermal-to-visible", "visible-to-thermal"]),
    default="thermal-to-visible",
    show_default=True,
    help="Of an imported homography",
)
@_cameras
@click.option(
    "--seconds",
    type=FiniteRange(0, 3600, min_open=True),
    default=10.0,
    show_default=True,
    help="To look at the cameras",
)
@click.option(
    "--visible-size", callback=_pair, metavar="WxH", help="Of the image that points or an imported file belong to"
)
@click.option("--thermal-size", callback=_pair, metavar="WxH", help="The same of the thermal image")
@click.option("--depth", type=ABOVE_0, metavar="M", help="Distance that it is for [default: far away]")
@click.option("--baseline", type=ABOVE_0, metavar="M", help="Distance between the lenses: tells the parallax")
@click.option(
    "--thermal-fov",
    type=FiniteRange(0, 170, min_open=True),
    metavar="DEG",
    help="Horizontal field of view: tells the parallax",
)
@click.option("--output", type=FILE, default="calibration.yaml", show_default=True, help="Calibration file to write")
@click.option("--picture", type=FILE, metavar="FILE", help="Picture of both images, before and after")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table")
def registration_command(output: Path, as_json: bool, **flags: Any) -> None:
    """Find how the thermal image lies on the visible one, and write a calibration file."""
    from mdrun.calibrate.registration import calibrate_registration

    method = _method(flags)
    if (flags["baseline"] is None) != (flags["thermal_fov"] is None):
        raise UsageError("--baseline and --thermal-fov tell the parallax together; give both, or neither")
    if (flags["visible_lens"] is None) != (flags["thermal_lens"] is None):
        raise UsageError("--visible-lens and --thermal-lens go together; give both, or neither")
    found = calibrate_registration(method, flags)
    registration = found.registration
    if registration.residual_px is not None and registration.residual_px > registration.limit_px:
        warn(
            "mdrun",
            f"the error is {registration.residual_px:.1f} thermal pixels; detectors bear {registration.limit_px:.1f}",
        )
    if registration.coverage < LEAST_COVERAGE:
        seen = f"{100 * registration.coverage:.1f} % of the visible view"
        warn("mdrun", f"the thermal camera sees {seen}; look at the sizes, and at the direction of an import")
    _write(found, output, flags["picture"])
    lines = f"calibration: {output}"
    if as_json:
        _print_json(
            {
                "registration": registration.describe(),
                "notes": list(found.notes),
                "output": str(output),
                "picture": None if flags["picture"] is None else str(flags["picture"]),
                "rig": lines,
            }
        )
        return
    from mdrun.calibrate.report import registration_table

    written = [str(path) for path in (output, flags["picture"]) if path is not None]
    _print(registration_table(registration, found.notes), written, lines)


@calibrate.command("time", epilog=TIME_EPILOG)
@_cameras
@click.option(
    "--seconds", type=FiniteRange(0, 120, min_open=True), default=20.0, show_default=True, help="To look at the cameras"
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table")
def time_command(visible: str | None, thermal: str | None, rig: Path | None, seconds: float, as_json: bool) -> None:
    """Find how much later one camera's clock runs than the other's, from what moves in both."""
    from mdrun.calibrate.collect import rig_of
    from mdrun.calibrate.registration import measure_offset

    name, before, found = measure_offset(rig_of(visible, thermal, rig), seconds)
    offset_ms = round(before + found.offset_ms, 1)
    lines = f"cameras:\n  {name}:\n    offset_ms: {offset_ms:g}"
    if as_json:
        _print_json(
            {"offset_ms": offset_ms, "measured_ms": found.offset_ms, "spread_ms": found.spread_ms, "rig": lines}
        )
        return
    from mdrun.tables import make_table

    table = make_table("time offset", f"{name}, thermal")
    table.add_row("measured", f"{found.offset_ms:+.1f} ms, give or take {found.spread_ms:.1f} ms")
    table.add_row("on", f"{found.seconds:.0f} s in which something moved")
    if before:
        table.add_row("was", f"{before:+.1f} ms")
    table.add_row("to add to its times", f"{offset_ms:+.1f} ms")
    _print(table, [], lines)


def _method(flags: dict[str, Any]) -> str:
    given = [name for name in METHODS if flags["imported" if name == "import" else name]]
    if len(given) != 1:
        words = " and ".join(f"--{name}" for name in given) or "no method"
        raise UsageError(f"{words} given; wanted one of {', '.join(f'--{name}' for name in METHODS)}")
    return given[0]


def _write(found: Calibrated, output: Path, picture: Path | None) -> None:
    """The picture first: where it cannot be made, no calibration is left that nobody has looked at."""
    if picture is not None:
        from mdrun.calibrate.report import overlay_picture, write_picture

        if found.images is None:
            raise UsageError("--picture wants images; give --visible and --thermal, or --rig")
        write_picture(picture, overlay_picture(*found.images, found.registration))
    found.registration.save(output)


def _print(table: Table, written: list[str], lines: str) -> None:
    from mdrun.tables import make_console

    console = make_console()
    console.print(table)
    for path in written:
        console.print(f"wrote {path}", soft_wrap=True)
    console.print("for the rig file:\n", soft_wrap=True)
    console.print(lines, soft_wrap=True)


def _print_json(data: object) -> None:
    click.echo(json.dumps(data, indent=2, ensure_ascii=False))
