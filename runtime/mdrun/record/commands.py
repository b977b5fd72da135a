"""`mdrun record`. Only click and the errors are imported here, so that help answers at once."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mdrun.errors import UsageError
from mdrun.numbers import FiniteRange

if TYPE_CHECKING:
    from mdrun.record.recorder import Recorder, RecordSummary
    from mdrun.record.run import Progress

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
LEAST_BYTES = 1_000_000  # less holds no recording
SHOW_S = 0.5  # between two lines of progress

EPILOG = """\b
Examples:
  mdrun record --visible rtsp://10.0.0.4/stream --thermal /dev/video0 --output runs/gate --seconds 60
  mdrun record --rig gate.yaml --output runs/gate --max-bytes 20G
  mdrun record --visible "rgb?fps=30" --thermal "ir?fps=9" --output runs/road
  mdrun --visible "replay://runs/gate?drop_thermal=10s-14s"

docs/record.md explains the files, the size of a recording, and the faults of a replay.
"""


def _size(context: click.Context, option: click.Parameter, value: str | None) -> int | None:
    """Bytes, with a decimal unit."""
    if value is None:
        return None
    found = re.fullmatch(r"([0-9]{1,12})([KMGT]?)B?", value.upper())
    size = 0 if found is None else int(found[1]) * UNITS[found[2]]
    if size < LEAST_BYTES:
        raise click.BadParameter(f"{value!r} is no size from 1M; wanted a number such as 500M or 20G.", context, option)
    return size


@click.command("record", epilog=EPILOG)
@click.option("--visible", metavar="V", help="Visible source")
@click.option("--thermal", metavar="T", help="Thermal source")
@click.option("--rig", type=click.Path(path_type=Path), metavar="FILE", help="Rig file with the cameras")
@click.option("--output", type=click.Path(path_type=Path), metavar="DIR", required=True, help="Folder, is made")
@click.option("--seconds", type=FiniteRange(0, 10**7, min_open=True), metavar="S", help="Stop after S seconds")
@click.option("--max-bytes", callback=_size, metavar="N", help="Stop before the files are larger, for example 20G")
def record(
    visible: str | None,
    thermal: str | None,
    rig: Path | None,
    output: Path,
    seconds: float | None,
    max_bytes: int | None,
) -> int:
    """Record both cameras losslessly, with their clocks and states; Ctrl-C ends it.

    `replay://DIR` plays the recording as the same cameras.
    """
    from mdrun.record.run import RecordLimits
    from mdrun.record.run import record as run
    from mdrun.rig.flags import rigs_of
    from mdrun.signals import StopRequest

    if rig is None and visible is None:
        raise UsageError("--visible is missing; give a camera, a folder or a file, or --rig")
    rigs = rigs_of([] if rig is None else [rig], {"visible": visible, "thermal": thermal})
    if len(rigs) != 1:
        raise UsageError(f"{rig} holds {len(rigs)} rigs; record one at a time, from a file of its own")
    with StopRequest(lambda: None) as stop, _progress() as progress:
        summary = run(rigs[0], output, RecordLimits(seconds, max_bytes), stop, progress)
    if summary.is_empty:
        click.echo(f"{output}: stopped before the first visible image; nothing is left of it", err=True)
    else:
        _print_summary(summary)
    return stop.exit_code


@contextmanager
def _progress() -> Iterator[Progress | None]:
    """One line on stderr, where that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console

    last_s = 0.0
    with Console(stderr=True).status("waiting for the first image") as status:

        def show(recorder: Recorder) -> None:
            nonlocal last_s
            if time.monotonic() - last_s > SHOW_S:
                last_s = time.monotonic()
                status.update(", ".join(_count(role.value, *counts) for role, counts in recorder.progress.items()))

        yield show


def _count(role: str, frames: int, dropped: int) -> str:
    return f"{role} {frames}" + (f" ({dropped} dropped)" if dropped else "")


def _print_summary(summary: RecordSummary) -> None:
    from mdrun.tables import join_values, make_console, make_table

    console = make_console()
    table = make_table("camera", "frames", "dropped", "size", "frames/s", "image")
    for modality, camera in summary.header.cameras.items():
        fps = summary.fps[modality]
        image = f"{camera.width}x{camera.height} {camera.dtype}, {camera.codec}" if camera.frames else "none came"
        table.add_row(
            f"{modality.value} {camera.source}",
            str(camera.frames),
            join_values(camera.dropped) or "none",
            f"{camera.bytes / 1e6:.2f} MB",
            "-" if fps is None else f"{fps:.2f}",
            image,
        )
    console.print(table)
    skew = summary.skew_ms
    told = "" if skew is None else f"; nearest thermal frame p50 {skew['p50']:.1f} ms, p99 {skew['p99']:.1f} ms away"
    console.print(f"{summary.seconds:.1f} s, ended by {summary.header.stopped_by}{told}", soft_wrap=True)
    console.print(f"wrote {summary.folder}/", soft_wrap=True)
