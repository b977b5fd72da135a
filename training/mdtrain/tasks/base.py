"""What the training loop wants of a task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mdrun.errors import MdrunError
from mdtrain.config import TaskName
from mdtrain.data.augment import Sizes
from mdtrain.data.batches import Batch
from mdtrain.data.records import Record
from mdtrain.models.streams import Output, Prediction

Predict = Callable[[Batch], Prediction]
CONDITIONS = {"": None, "/day": False, "/night": True}  # suffix of a measure: which pairs count, by Record.night


class DivergedError(MdrunError):
    """A network that gives numbers which are not finite."""


class Evaluation(NamedTuple):
    """Accuracy on labelled pairs.

    Attributes:
        scores: in [0, 1], by name: `person/ap50`, `person/night/ap50`, `mean/accuracy`, …; NaN where nothing of the
            class occurs. Higher is better, but for `miss_rate`.
        display_score: score threshold of the best F1 of the first category; 0.5 where there are no boxes.
        energy_threshold: energy below which 95 % of the pairs lie; None where the network has no energy.
        facts: what else the run should say about how it was judged.
    """

    scores: dict[str, float]
    display_score: float = 0.5
    energy_threshold: float | None = None
    facts: dict[str, str] = {}  # noqa: RUF012  # a NamedTuple's default; never changed


class Task(ABC):
    """One task of one run.

    Attributes:
        name: as in the configuration and in manifests.
        title: name of the measure, as tables show it.
        measures: names of scores for tables: first the one that counts, over all pairs, by day, by night.
        rows: names of what tables list one row each.
        least_batch: fewest pairs a process can learn from at once.
    """

    name: TaskName
    title: str
    measures: tuple[str, ...]
    rows: tuple[str, ...]
    least_batch = 1

    def row_measures(self, row: str) -> list[str]:
        """Names of a row's scores: over all pairs, by day, by night."""
        kind = self.measures[0].rpartition("/")[2]
        return [f"{row}{suffix}/{kind}" for suffix in CONDITIONS]

    @abstractmethod
    def select(self, records: Sequence[Record]) -> list[Record]:
        """The pairs with what this task needs of them.

        Raises:
            DataError: they lack the labels that this task learns from; names a pair.
        """

    @abstractmethod
    def study(self, records: Sequence[Record]) -> None:
        """Look at the training pairs before the first step."""

    @abstractmethod
    def losses(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Scalar losses of a batch, each of weight 1."""

    @abstractmethod
    def foreground(self, batch: Batch) -> Tensor | None:
        """(B, 1, h, w) in [0, 1] at the fusion point's stride: where something of a class is (GAFF's mask M).

        None where the labels say nothing about places: GAFF's masks learn from the task's loss alone then.
        """

    @abstractmethod
    def evaluate(self, predict: Predict, records: Sequence[Record], sizes: Sizes, device: torch.device) -> Evaluation:
        """Judge a network on all records.

        Raises:
            DivergedError: it gives infinity or NaN.
        """


def refuse_infinite(values: Sequence[Tensor]) -> None:
    """Raises DivergedError where something is not finite."""
    if not all(value.isfinite().all() for value in values):
        raise DivergedError("the network gives NaN or infinity; lower optimiser.learning_rate and train again")
