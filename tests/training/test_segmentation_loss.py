from __future__ import annotations

import math

import pytest
import torch

from mdtrain.config import load_config
from mdtrain.data.batches import Batch
from mdtrain.data.records import IGNORE_LABEL
from mdtrain.losses.segmentation import enet_weights, foreground_share, pixel_cross_entropy
from mdtrain.models.segmenter import Segments
from mdtrain.tasks import make_task


def test_even_logits_cost_the_logarithm_of_the_classes() -> None:
    labels = torch.randint(0, 9, (2, 32, 48))
    assert pixel_cross_entropy(torch.zeros(2, 9, 4, 6), labels).item() == pytest.approx(math.log(9))


def test_certain_and_right_costs_nothing() -> None:
    labels = torch.zeros(1, 32, 48, dtype=torch.int64)
    logits = torch.zeros(1, 9, 4, 6)
    logits[:, 0] = 50.0
    assert pixel_cross_entropy(logits, labels).item() == pytest.approx(0.0, abs=1e-6)


def test_ignored_pixels_neither_cost_nor_count() -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 9, 32, 48)
    labels = torch.randint(0, 9, (1, 32, 48))
    half = labels.clone()
    half[:, 16:] = IGNORE_LABEL
    expected = torch.nn.functional.cross_entropy(logits[:, :, :16], labels[:, :16])
    torch.testing.assert_close(pixel_cross_entropy(logits, half), expected)


def test_a_batch_without_labels_is_no_division_by_zero() -> None:
    logits = torch.randn(1, 9, 4, 6, requires_grad=True)
    loss = pixel_cross_entropy(logits, torch.full((1, 32, 48), IGNORE_LABEL))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == 0.0
    assert not gradient.any()


def test_foreground_is_every_class_but_the_background() -> None:
    labels = torch.zeros(1, 16, 32, dtype=torch.int64)
    labels[:, :8, :8] = 3  # a quarter of the left place
    labels[:, :, 16:] = IGNORE_LABEL
    share = foreground_share(labels, 16)
    assert share.shape == (1, 1, 1, 2)
    assert share.flatten().tolist() == [0.25, 0.0]


def test_weights_of_classes() -> None:
    """1 / ln(1.02 + p) for p = 1, 0.5, 0."""
    weights = enet_weights(torch.tensor([50, 50, 0]))
    assert weights.tolist() == pytest.approx([1 / math.log(1.52), 1 / math.log(1.52), 1 / math.log(1.02)])
    assert enet_weights(torch.tensor([7, 0]))[0].item() == pytest.approx(1 / math.log(2.02))


def test_weights_count_in_loss_and_in_its_mean() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 9, 8, 8), torch.randint(0, 9, (2, 8, 8))
    weights = torch.rand(9) + 0.1
    expected = torch.nn.functional.cross_entropy(logits, labels, weights)
    torch.testing.assert_close(pixel_cross_entropy(logits, labels, weights), expected)
    torch.testing.assert_close(
        pixel_cross_entropy(logits, labels, torch.full((9,), 3.0)), pixel_cross_entropy(logits, labels)
    )


def test_the_auxiliary_head_counts_two_fifths() -> None:
    """Even logits of nine classes cost ln 9, the auxiliary ones 0.4 ln 9 (PSPNet section 3.3)."""
    image, labels = torch.zeros(1, 1, 32, 32), torch.zeros(1, 32, 32, dtype=torch.int64)
    task = make_task(load_config(None, ("task=segment", "data.sets=[mfnet]")))
    even = torch.zeros(1, 9, 2, 2)
    losses = task.losses(Segments(even, even), Batch(image, image, image, [], [], labels))
    assert losses["segmentation"].item() == pytest.approx(math.log(9))
    assert losses["auxiliary"].item() == pytest.approx(0.4 * math.log(9))
