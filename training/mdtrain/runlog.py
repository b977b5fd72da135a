"""What a run leaves behind: config, environment, scalars as CSV and TensorBoard events."""

from __future__ import annotations

import csv
import io
import json
import platform
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import TracebackType
from typing import TextIO

import torch
import yaml
from torch.utils.tensorboard import SummaryWriter

from mdtrain.config import Config
from mdtrain.outputs import told, write_text
from mdtrain.tensors import room_for

HEADER = ["iteration", "name", "value"]


class RunLog:
    """Scalars of one run. `metrics.csv` has one line a value: iteration, name, value.

    A resumed run goes on behind its checkpoint: what was logged after it is dropped. A full disk leaves the
    files as they were.

    Raises:
        OutputError: there is no room, or no permission; also while it is written.
    """

    def __init__(self, folder: Path, config: Config, iteration: int, checkpoint: Path) -> None:
        self._path, self._checkpoint = folder / "metrics.csv", checkpoint
        with self._told():
            folder.mkdir(parents=True, exist_ok=True)
            way_out = room_for(checkpoint)
            write_text(folder / "config.yaml", yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), way_out)
            write_text(folder / "environment.json", json.dumps(environment(), indent=2), way_out)
            write_text(self._path, _as_csv([HEADER, *_rows_until(self._path, iteration)]), way_out)
            self._file: TextIO = self._path.open("a", newline="")
            self._rows = csv.writer(self._file)
            self._board = SummaryWriter(str(folder), purge_step=iteration + 1)

    def scalars(self, iteration: int, values: dict[str, float]) -> None:
        """Write values, named like `train/loss` or `val/person`."""
        with self._told():
            for name, value in values.items():
                self._rows.writerow([iteration, name, f"{value:.6g}"])
                self._board.add_scalar(name, value, iteration)
            self._file.flush()

    def _told(self) -> AbstractContextManager[None]:
        return told(self._path, room_for(self._checkpoint))

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError) if error else self._told():  # what ended the run is told, not what came of it
            try:
                self._file.close()
            finally:
                self._board.close()


def _as_csv(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def _rows_until(path: Path, iteration: int) -> list[list[str]]:
    """Rows of an earlier part of the run, without header, up to an iteration; a line that was cut off is none."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        whole = [line for line in file if line.endswith("\n")]
    rows = [row for row in csv.reader(whole) if len(row) == len(HEADER)]
    return [row for row in rows if row[0].isdecimal() and int(row[0]) <= iteration]


def environment() -> dict[str, str]:
    """Versions and machine, without names or paths."""
    return {
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "platform": platform.platform(),
        "threads": str(torch.get_num_threads()),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }
