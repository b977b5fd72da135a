"""A thermal camera is pulled and comes back, again and again: how long until results say so.

python -m benchmarks.rig_pulled --rounds 10 --output runs/pulled.json

Two real RTSP servers over loopback (1280x1024 at 30 Hz, 160x120 at 9 Hz); the thermal one is killed and started again.
Times count from the kill, and from the moment the server answers again.
"""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
from tests.rtsp_server import THERMAL, VISIBLE, RtspServer

from benchmarks.machine import describe_machine
from mdrun.command import run_command
from mdrun.frames import Provenance
from mdrun.rig.config import RigConfig
from mdrun.rig.session import Session
from mdtrain.outputs import result_file

PATIENCE_S = 20.0
UP_S = 1.5  # of good pairs before each pull


class Seen(NamedTuple):
    """A result: when it was there, on the monotonic clock, and what it says of its thermal image."""

    at_s: float
    thermal: Provenance


class Watch(threading.Thread):
    """Notes every result of a session."""

    def __init__(self, session: Session) -> None:
        super().__init__(name="watch", daemon=True)
        self._session = session
        self._seen: list[Seen] = []

    def run(self) -> None:
        """Until the session ends."""
        for result in self._session:
            provenance = result.pair.provenance if result.thermal_provenance is None else result.thermal_provenance
            self._seen.append(Seen(time.monotonic(), provenance))

    def first(self, since_s: float, *wanted: Provenance) -> float:
        """Seconds from then to the first result that says one of `wanted`."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            for seen in self._seen[-400:]:
                if seen.at_s > since_s and seen.thermal in wanted:
                    return seen.at_s - since_s
            time.sleep(0.01)
        raise click.ClickException(f"no result said {' or '.join(one.value for one in wanted)}")


@click.command()
@click.option("--engine", "engines", multiple=True, help="The ladder [default: the detectors that ship].")
@click.option("--rounds", type=click.IntRange(min=1), default=10, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), required=True)
def pulled(engines: tuple[str, ...], rounds: int, output: Path) -> None:
    """Run, measure, write."""
    times: dict[str, list[float]] = {"next_result": [], "not_measured": [], "absent": [], "measured_again": []}
    with RtspServer(VISIBLE) as visible, RtspServer(THERMAL) as thermal, result_file(output):
        cameras = {
            "cam0": {"source": visible.url("visible"), "role": "visible"},
            "cam1": {"source": thermal.url("thermal"), "role": "thermal"},
        }
        ladder = {"engines": list(engines), "threads": 1}
        config = RigConfig.model_validate({"rig": "pulled", "cameras": cameras, "ladder": ladder})
        with Session(config) as session:
            watch = Watch(session)
            watch.start()
            for _ in range(rounds):
                watch.first(time.monotonic(), Provenance.MEASURED)
                time.sleep(UP_S)
                _pull(watch, thermal, times)
            session.stop()
            watch.join(PATIENCE_S)
        row = {name: _points(values) for name, values in times.items()}
        output.write_text(json.dumps({"machine": describe_machine(), **row}, indent=2) + "\n", encoding="utf-8")
        click.echo(json.dumps(row, indent=2))


def _pull(watch: Watch, thermal: RtspServer, times: dict[str, list[float]]) -> None:
    gone = time.monotonic()
    thermal.kill()
    times["next_result"].append(watch.first(gone, *Provenance))
    times["not_measured"].append(watch.first(gone, Provenance.HELD, Provenance.ABSENT))
    times["absent"].append(watch.first(gone, Provenance.ABSENT))
    thermal.start()
    times["measured_again"].append(watch.first(time.monotonic(), Provenance.MEASURED))


def _points(values: list[float]) -> dict[str, float]:
    return {"median_s": round(float(np.median(values)), 3), "max_s": round(max(values), 3), "rounds": len(values)}


if __name__ == "__main__":
    raise SystemExit(run_command(pulled, "rig_pulled"))
