"""Classification of whole pairs: cross-entropy, accuracy over all pairs and as the mean over the classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # the name everybody knows
from torch import Tensor

from mdrun.errors import DataError
from mdtrain.config import MEANS, Config
from mdtrain.data.augment import Sizes
from mdtrain.data.batches import Batch, evaluation_batches
from mdtrain.data.records import Record
from mdtrain.metrics.classes import class_scores
from mdtrain.metrics.energy import energy_threshold
from mdtrain.models.classifier import Classes
from mdtrain.models.energy import free_energy
from mdtrain.models.streams import Output
from mdtrain.tasks.base import CONDITIONS, Evaluation, Predict, Task, refuse_infinite


class Classify(Task):
    """One class a pair, those of `data.classes`."""

    name = "classify"
    title = "accuracy"
    measures = ("mean/accuracy", "mean/day/accuracy", "mean/night/accuracy", "overall/accuracy")

    def __init__(self, config: Config) -> None:
        self._classes = config.data.classes
        self.rows = (*MEANS, *self._classes)

    def select(self, records: Sequence[Record]) -> list[Record]:
        """Every pair is of one of the classes. Boxes and label maps would only cost time."""
        for record in records:
            if record.class_name not in self._classes:
                raise DataError(
                    f"{record.visible_file.path}: its class is {record.class_name or 'not known'}, data.classes are "
                    f"{', '.join(self._classes)}; leave the pair out of its list, or name the class"
                )
        none = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
        return [replace(record, boxes=none[0], classes=none[1], label_map_file=None) for record in records]

    def study(self, records: Sequence[Record]) -> None:
        """Refuse to learn a class that no pair is of.

        Raises:
            DataError: naming it.
        """
        there = {record.class_name for record in records}
        if missing := [name for name in self._classes if name not in there]:
            raise DataError(
                f"no training pair is of the class {missing[0]}, which data.classes names; add pairs of it to the "
                "training list, or leave it out of data.classes"
            )

    def losses(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy, every pair counting alike."""
        assert isinstance(output, Classes)  # noqa: S101  # of a classifier
        truth = torch.tensor(self._indices(batch.class_names), device=output.logits.device)
        return {"classification": F.cross_entropy(output.logits.float(), truth)}

    def foreground(self, batch: Batch) -> Tensor | None:  # noqa: ARG002  # as every task
        """Nothing: the class of a pair says nothing about places."""
        return None

    def evaluate(self, predict: Predict, records: Sequence[Record], sizes: Sizes, device: torch.device) -> Evaluation:
        """The best class of every pair against its own."""
        found: list[int] = []
        energies: list[float] = []
        with torch.inference_mode():
            for batch in evaluation_batches(records, sizes, device):
                output = predict(batch).output
                assert isinstance(output, Classes)  # noqa: S101
                refuse_infinite(output)
                energies += free_energy(output.logits).tolist()
                found += output.logits.argmax(1).tolist()
        truth = self._indices([record.class_name for record in records])
        scores: dict[str, float] = {}
        for suffix, night in CONDITIONS.items():
            chosen = [index for index, record in enumerate(records) if night is None or record.night is night]
            pairs = [truth[index] for index in chosen], [found[index] for index in chosen]
            named = class_scores(*pairs, self._classes)
            scores |= {f"{name}{suffix}/accuracy": value for name, value in named.items()}
        return Evaluation(scores, energy_threshold=energy_threshold(energies))

    def _indices(self, names: Sequence[str | None]) -> list[int]:
        """Places of the names in `data.classes`, which `select` has found there."""
        return [self._classes.index(name) for name in names if name is not None]
