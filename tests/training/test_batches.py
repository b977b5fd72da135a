"""Batches with label maps: shapes, samples without one, order of the records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mdtrain.data.augment import Sizes, plain_sample
from mdtrain.data.batches import TrainingBatches, collate, evaluation_batches
from mdtrain.data.records import IGNORE_LABEL, Record
from mdtrain.data.sets import read_set
from tests.training.tree import write_mfnet, write_msrs

SIZES = Sizes((96, 64), (24, 16))
CPU = torch.device("cpu")


@pytest.fixture
def labelled(tmp_path: Path) -> list[Record]:
    return read_set("mfnet", write_mfnet(tmp_path / "mfnet"), "train")


@pytest.fixture
def boxed(tmp_path: Path) -> list[Record]:
    return read_set("msrs", write_msrs(tmp_path / "msrs"), "train")


def test_label_maps_are_stacked_and_samples_without_are_ignored(labelled: list[Record], boxed: list[Record]) -> None:
    batch = collate([plain_sample(record, SIZES) for record in (labelled[0], boxed[0], labelled[1])], CPU)
    assert batch.label_map is not None
    assert batch.label_map.shape == (3, 64, 96)
    assert batch.label_map.dtype == torch.int64
    assert set(batch.label_map[0].flatten().tolist()) == {0, 1, 2}
    assert set(batch.label_map[1].flatten().tolist()) == {IGNORE_LABEL}
    first = batch.first(2).label_map
    assert first is not None
    torch.testing.assert_close(first, batch.label_map[:2])


def test_a_batch_without_any_has_none(boxed: list[Record]) -> None:
    (batch,) = evaluation_batches(boxed, SIZES, CPU)
    assert batch.label_map is None
    assert batch.first(1).label_map is None


def test_training_batches_have_them_with_and_without_mosaics(labelled: list[Record], boxed: list[Record]) -> None:
    for share in (0.0, 1.0):
        batches = TrainingBatches(labelled + boxed, SIZES, 8, 0, mosaic_until=10, mosaic_share=share)
        one, two = (list(batches.between(0, 2, CPU, threads)) for threads in (1, 2))
        for batch, same in zip(one, two, strict=True):
            assert batch.label_map is not None
            assert same.label_map is not None
            torch.testing.assert_close(batch.label_map, same.label_map)
            torch.testing.assert_close(batch.visible, same.visible)
            assert set(batch.label_map.flatten().tolist()) <= {0, 1, 2, IGNORE_LABEL}
            assert (batch.label_map == 1).any()


def test_every_record_is_drawn_once_before_any_twice(boxed: list[Record], labelled: list[Record]) -> None:
    records = labelled + boxed  # seven: batches of three cross the end of an epoch
    batches = TrainingBatches(records, SIZES, 3, 5, mosaic_until=0, mosaic_share=0)
    picked = [batches._pick(position).name for position in range(21)]
    for epoch in range(3):
        assert sorted(picked[epoch * 7 : epoch * 7 + 7]) == sorted(record.name for record in records)
    assert picked[:7] != picked[7:14]
    assert np.array_equal(picked, [batches._pick(position).name for position in range(21)])
