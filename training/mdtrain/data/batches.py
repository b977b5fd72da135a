"""Batches of pairs: a pure function of (seed, iteration), made ahead in threads.

Since nothing is remembered between batches, a resumed run sees exactly the batches of an unbroken one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mdtrain.data.augment import Sample, Sizes, augment, mosaic, plain_sample
from mdtrain.data.records import IGNORE_LABEL, Record

MEAN = torch.tensor([0.485, 0.456, 0.406])  # ImageNet statistics, RGB: the convention of torchvision's backbones
STD = torch.tensor([0.229, 0.224, 0.225])
THERMAL_MEAN, THERMAL_STD = 0.45, 0.22  # the mean of the above; one channel
BATCHES_AHEAD = 3


@dataclass(frozen=True)
class Batch:
    """One batch as the network takes it.

    Attributes:
        visible: (B, 3, H, W) normalised.
        thermal_full: (B, 1, H, W) normalised.
        thermal_low: (B, 1, h, w) normalised.
        boxes: per image (G, 4) xyxy pixels.
        classes: per image (G,).
        label_map: (B, H, W) int64, indices into LABEL_CLASSES or IGNORE_LABEL, which fills images without labels; None
            where no image has any.
        class_names: per image, of the whole pair; None where nothing says it.
    """

    visible: Tensor
    thermal_full: Tensor
    thermal_low: Tensor
    boxes: list[Tensor]
    classes: list[Tensor]
    label_map: Tensor | None = None
    class_names: Sequence[str | None] = ()

    def first(self, count: int) -> Batch:
        """The first `count` pairs."""
        return Batch(
            self.visible[:count],
            self.thermal_full[:count],
            self.thermal_low[:count],
            self.boxes[:count],
            self.classes[:count],
            None if self.label_map is None else self.label_map[:count],
            self.class_names[:count],
        )


def normalise_visible(image: Tensor) -> Tensor:
    """(B, H, W, 3) uint8 RGB to (B, 3, H, W) float, channels last in memory."""
    x = image.float().sub_(255 * MEAN.to(image.device)).div_(255 * STD.to(image.device))
    return x.permute(0, 3, 1, 2)


def normalise_thermal(image: Tensor) -> Tensor:
    """(B, h, w) uint8 to (B, 1, h, w) float."""
    return image.float().sub_(255 * THERMAL_MEAN).div_(255 * THERMAL_STD)[:, None]


def collate(samples: list[Sample], device: torch.device) -> Batch:
    """Stack samples, move their bytes to the device and normalise there."""

    def stack(images: list[NDArray[np.uint8]]) -> Tensor:
        return torch.from_numpy(np.stack(images)).to(device, non_blocking=True)

    return Batch(
        normalise_visible(stack([s.visible for s in samples])),
        normalise_thermal(stack([s.thermal_full for s in samples])),
        normalise_thermal(stack([s.thermal_low for s in samples])),
        [torch.from_numpy(s.boxes).to(device) for s in samples],
        [torch.from_numpy(s.classes).to(device) for s in samples],
        stack(label_maps).long() if (label_maps := _label_maps(samples)) else None,
        [s.class_name for s in samples],
    )


def _label_maps(samples: list[Sample]) -> list[NDArray[np.uint8]]:
    """One a sample, or none if no sample has one."""
    if all(sample.label_map is None for sample in samples):
        return []
    empty = np.full(samples[0].thermal_full.shape, IGNORE_LABEL, np.uint8)
    return [empty if sample.label_map is None else sample.label_map for sample in samples]


class TrainingBatches:
    """Random batches from `start` to `end` (iterations), each with its own random numbers.

    `share` (rank, processes) is this process's part of every batch: together they draw what one process would.
    """

    def __init__(
        self,
        records: list[Record],
        sizes: Sizes,
        batch_size: int,
        seed: int,
        *,
        mosaic_until: int,
        mosaic_share: float,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self._records = records
        self._sizes = sizes
        self._batch_size = batch_size
        self._seed = seed
        self._mosaic_until = mosaic_until
        self._mosaic_share = mosaic_share
        self._share = share

    def between(self, start: int, end: int, device: torch.device, threads: int = 1) -> Iterator[Batch]:
        """Batches of iterations start <= i < end; `threads` draw the next samples while the network works."""
        with ThreadPoolExecutor(threads) as pool:
            waiting: deque[Future[list[Sample]]] = deque()
            for iteration in range(start, end):
                waiting.append(pool.submit(self.samples, iteration))
                if len(waiting) > BATCHES_AHEAD:
                    yield collate(waiting.popleft().result(), device)
            while waiting:
                yield collate(waiting.popleft().result(), device)

    def samples(self, iteration: int) -> list[Sample]:
        """This process's samples of one iteration."""
        rank, processes = self._share
        return [self._sample(iteration, slot) for slot in range(rank, self._batch_size, processes)]

    def _sample(self, iteration: int, slot: int) -> Sample:
        rng = np.random.default_rng((self._seed, iteration, slot))
        if iteration < self._mosaic_until and rng.random() < self._mosaic_share:
            picks = rng.integers(0, len(self._records), 4)
            return mosaic([self._records[i] for i in picks], self._sizes, rng)
        return augment(self._pick(iteration * self._batch_size + slot), self._sizes, rng)

    def _pick(self, position: int) -> Record:
        """Record at `position` of an endless sequence of seeded shuffles; mosaics pass over theirs."""
        epoch, index = divmod(position, len(self._records))
        return self._records[int(_shuffle(self._seed, epoch, len(self._records))[index])]


@lru_cache(maxsize=4)  # a batch may lie in two epochs, and threads work at several batches
def _shuffle(seed: int, epoch: int, records: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, epoch)).permutation(records)


def evaluation_batches(
    records: Sequence[Record], sizes: Sizes, device: torch.device, batch_size: int = 8
) -> Iterator[Batch]:
    """All records in order, without augmentation."""
    for start in range(0, len(records), batch_size):
        yield collate([plain_sample(record, sizes) for record in records[start : start + batch_size]], device)
