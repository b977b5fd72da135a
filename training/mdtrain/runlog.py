"""What a run leaves behind: config, environment, scalars as CSV and TensorBoard events."""

from __future__ import annotations

import csv
import json
import platform
import sys
from pathlib import Path
from types import TracebackType
from typing import TextIO

import torch
import yaml
from torch.utils.tensorboard import SummaryWriter

from mdtrain.config import Config

HEADER = ["iteration", "name", "value"]


class RunLog:
    """Scalars of one run. `metrics.csv` has one line a value: iteration, name, value.

    A resumed run goes on behind its checkpoint: what was logged after it is dropped.
    """

    def __init__(self, folder: Path, config: Config, iteration: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
        (folder / "environment.json").write_text(json.dumps(environment(), indent=2))
        path = folder / "metrics.csv"
        rows = [HEADER, *_rows_until(path, iteration)]
        self._file: TextIO = path.open("w", newline="")
        self._rows = csv.writer(self._file)
        self._rows.writerows(rows)
        self._board = SummaryWriter(str(folder), purge_step=iteration + 1)

    def scalars(self, iteration: int, values: dict[str, float]) -> None:
        """Write values, named like `train/loss` or `val/person`."""
        for name, value in values.items():
            self._rows.writerow([iteration, name, f"{value:.6g}"])
            self._board.add_scalar(name, value, iteration)
        self._file.flush()

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._board.close()


def _rows_until(path: Path, iteration: int) -> list[list[str]]:
    """Rows of an earlier part of the run, without header, up to an iteration."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [row for row in csv.reader(file) if row[0].isdecimal() and int(row[0]) <= iteration]


def environment() -> dict[str, str]:
    """Versions and machine, without names or paths."""
    return {
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "platform": platform.platform(),
        "threads": str(torch.get_num_threads()),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }
