from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from mdtrain.config import load_config
from mdtrain.losses.attention import (
    IGNORE,
    dice_loss,
    ellipse_mask,
    guidance_loss,
    modality_label,
    selection_loss,
)
from mdtrain.losses.detection import BALANCED_BETA, assign_image, balanced_l1, detection_loss, focal_loss
from mdtrain.losses.distill import attention_transfer, focal_mse_transfer, mse_transfer
from mdtrain.models.anchors import encode, make_anchors
from mdtrain.models.gaff import Fusion
from mdtrain.recipes.distill import _semantic_loss


def test_focal_loss_without_focus_is_half_the_cross_entropy() -> None:
    """Gamma 0 and alpha 1/2."""
    logits, targets = torch.randn(50, 3), torch.randint(0, 2, (50, 3)).float()
    plain = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    torch.testing.assert_close(focal_loss(logits, targets, alpha=0.5, gamma=0.0), plain / 2)


def test_focal_loss_known_answers() -> None:
    """Alpha 1/4 of positives, 3/4 of negatives; gamma 1. Scores 0.8, 0.8, 0.2 are logits ln 4, ln 4, -ln 4."""
    logits = torch.tensor([math.log(4), math.log(4), -math.log(4)])
    found = focal_loss(logits, torch.tensor([1.0, 0.0, 0.0]))
    wanted = [0.25 * 0.2 * -math.log(0.8), 0.75 * 0.8 * -math.log(0.2), 0.75 * 0.2 * -math.log(0.8)]
    assert found.tolist() == pytest.approx(wanted)  # 0.0112, 0.9657, 0.0335


def test_focal_loss_of_easy_examples_shrinks_with_gamma() -> None:
    logits, targets = torch.full((4, 1), 4.0), torch.ones(4, 1)
    assert (focal_loss(logits, targets, gamma=2.0) < focal_loss(logits, targets, gamma=1.0) / 10).all()


@pytest.mark.parametrize(
    ("distance", "wanted"),
    [
        (0.05, 0.5 / 19.0855 * (19.0855 * 0.05 + 1) * math.log(19.0855 * 0.05 / 0.11 + 1) - 0.5 * 0.05),  # below beta
        (0.5, 1.5 * 0.5 + 1.5 / 19.0855 - 0.5 * 0.11),
        (1.0, 1.5 + 1.5 / 19.0855 - 0.5 * 0.11),
    ],
)
def test_balanced_l1_known_answers(distance: float, wanted: float) -> None:
    """Alpha 0.5, gamma 1.5, beta 0.11, so b = e^3 - 1 = 19.0855; either side of the target alike."""
    for sign in (1, -1):
        assert balanced_l1(torch.tensor([sign * distance]), torch.zeros(1)).item() == pytest.approx(wanted, rel=1e-5)


def test_balanced_l1_meets_at_beta_and_is_zero_at_zero() -> None:
    below, above = (balanced_l1(torch.tensor([BALANCED_BETA + e]), torch.zeros(1)).item() for e in (-1e-5, 1e-5))
    assert above == pytest.approx(below, abs=1e-4)
    assert balanced_l1(torch.ones(3), torch.ones(3)).item() == pytest.approx(0.0, abs=1e-6)


def test_balanced_l1_grows_with_slope_gamma_far_out() -> None:
    far = [balanced_l1(torch.tensor([x]), torch.zeros(1)).item() for x in (3.0, 4.0)]
    assert far[1] - far[0] == pytest.approx(1.5, abs=1e-5)


def test_selection_label_of_the_worked_example() -> None:
    """M = 1, masks 0.8 and 0.6: thermal is better; 0.75: too close to call; 0.95: visible."""
    truth = torch.ones(1, 1, 1, 3)
    thermal = torch.full((1, 1, 1, 3), 0.8)
    visible = torch.tensor([0.6, 0.75, 0.95]).reshape(1, 1, 1, 3)
    assert modality_label(thermal, visible, truth).flatten().tolist() == [0, IGNORE, 1]


def test_guidance_known_answer() -> None:
    """One pixel of an object: masks 0.8 (thermal) and 0.6 (visible), selection 3/4 thermal, which is right."""
    intra_visible, intra_thermal = torch.full((1, 1, 1, 1), 0.6), torch.full((1, 1, 1, 1), 0.8)
    logits = torch.tensor([math.log(3), 0.0]).reshape(1, 2, 1, 1)
    fusion = Fusion(torch.zeros(1, 4, 1, 1), intra_visible, intra_thermal, logits)
    intra, selection = guidance_loss(fusion, torch.ones(1, 1, 1, 1))
    visible, thermal = 1 - (2 * 0.6 + 1) / (0.6 + 1 + 1), 1 - (2 * 0.8 + 1) / (0.8 + 1 + 1)
    assert intra.item() == pytest.approx((visible + thermal) / 2)
    assert selection.item() == pytest.approx(-math.log(0.75))


def test_untrained_masks_leave_selection_unsupervised() -> None:
    mask = torch.full((1, 1, 8, 8), 0.5)
    label = modality_label(mask, mask, torch.zeros_like(mask))
    assert (label == IGNORE).all()
    assert selection_loss(torch.randn(1, 2, 8, 8), label).item() == 0.0


def test_the_selection_label_carries_no_gradient() -> None:
    mask = torch.rand(1, 1, 4, 4, requires_grad=True)
    logits = torch.randn(1, 2, 4, 4, requires_grad=True)
    selection_loss(logits, modality_label(mask, torch.rand(1, 1, 4, 4), torch.ones(1, 1, 4, 4))).backward()  # type: ignore[no-untyped-call]
    assert mask.grad is None
    assert logits.grad is not None


def test_dice_limits() -> None:
    ones, zeros = torch.ones(2, 1, 20, 20), torch.zeros(2, 1, 20, 20)
    assert dice_loss(ones, ones).item() == 0.0
    assert dice_loss(zeros, zeros).item() == 0.0
    assert dice_loss(ones, zeros).item() > 0.99


def test_dice_known_answer() -> None:
    """Two pixels, masks (0.5, 0) and (1, 1): an overlap of 0.5 of 0.5 + 2, smoothed by 1; sums, not sums of squares."""
    mask, target = torch.tensor([0.5, 0.0]).reshape(1, 1, 1, 2), torch.ones(1, 1, 1, 2)
    assert dice_loss(mask, target).item() == pytest.approx(1 - (2 * 0.5 + 1) / (0.5 + 2 + 1))


@pytest.mark.parametrize(
    ("box", "inside", "outside"),
    [
        ((32.0, 32.0, 96.0, 96.0), (4, 4), (2, 2)),  # centre of the ellipse; corner of its box
        ((66.0, 66.0, 69.0, 75.0), (4, 4), (5, 5)),  # smaller than a cell: the cell under its centre
        ((120.0, 120.0, 140.0, 140.0), (7, 7), (0, 0)),  # centre beyond the image: clamped to the last cell
    ],
)
def test_ellipse_mask(box: tuple[float, ...], inside: tuple[int, int], outside: tuple[int, int]) -> None:
    mask = ellipse_mask([torch.tensor([box])], 128, 128, 16)
    assert mask.shape == (1, 1, 8, 8)
    assert mask[0, 0][inside] == 1
    assert mask[0, 0][outside] == 0


def test_focal_mse_of_equal_errors_is_plain_mse() -> None:
    """The same distance everywhere: softmax weights are all 1 / (H W)."""
    student, teacher = torch.zeros(2, 6, 5, 4), torch.full((2, 6, 5, 4), 0.3)
    torch.testing.assert_close(focal_mse_transfer(student, teacher), mse_transfer(student, teacher))


def test_focal_mse_looks_at_the_hard_place() -> None:
    """One place far off: plain MSE divides it by all places, focal MSE does not."""
    student, teacher = torch.zeros(1, 4, 8, 8), torch.zeros(1, 4, 8, 8)
    teacher[0, :, 3, 3] = 3.0
    assert focal_mse_transfer(student, teacher).item() == pytest.approx(9.0, rel=1e-3)
    assert mse_transfer(student, teacher).item() == pytest.approx(9.0 / 64, rel=1e-3)


def test_focal_mse_ranges_from_the_hardest_place_to_plain_mse() -> None:
    """Temperature towards 0: only the worst place counts; towards infinity: all alike."""
    student, teacher = torch.randn(2, 6, 5, 4), torch.randn(2, 6, 5, 4)
    worst = (student - teacher).pow(2).mean(1).flatten(1).amax(1).mean()
    torch.testing.assert_close(focal_mse_transfer(student, teacher, 1e-3), worst)
    torch.testing.assert_close(focal_mse_transfer(student, teacher, 1e9), mse_transfer(student, teacher))


def test_perfect_imitation_costs_nothing() -> None:
    feature = torch.randn(2, 4, 6, 6)
    assert focal_mse_transfer(feature, feature).item() == 0.0
    assert attention_transfer(torch.full((1, 1, 30, 30), 30.0), torch.ones(1, 1, 30, 30)).item() < 1e-6


def test_detection_loss_of_perfect_predictions_is_almost_zero() -> None:
    anchors = make_anchors(64, 64, (8, 16))
    truth, labels = torch.tensor([[10.0, 12.0, 26.0, 44.0]]), torch.tensor([1])
    deltas = encode(truth.expand(len(anchors), 4), anchors)[None]
    logits = torch.full((1, len(anchors), 3), -20.0)
    missed, box = detection_loss(logits, deltas, anchors, [truth], [labels])
    assert box.item() == pytest.approx(0.0, abs=1e-6)
    assert missed > 1.0
    # which anchors classify is decided by the boxes alone, so raising their scores changes nothing else
    positive = assign_image(truth, labels, anchors, logits[0], deltas[0]).classification >= 0
    logits[0, positive, 1] = 20.0
    classification, box = detection_loss(logits, deltas, anchors, [truth], [labels])
    assert positive.sum() > 0
    assert classification.item() == pytest.approx(0.0, abs=1e-6)
    assert box.item() == pytest.approx(0.0, abs=1e-6)


def test_box_loss_is_the_mean_over_the_four_coordinates() -> None:
    """One of the four is off by 1 in every anchor: a quarter of Balanced L1 at 1, however many anchors are positive."""
    anchors = make_anchors(64, 64, (8, 16))
    truth, labels = torch.tensor([[10.0, 12.0, 26.0, 44.0]]), torch.tensor([1])
    deltas = (encode(truth.expand(len(anchors), 4), anchors) + torch.tensor([0.0, 0.0, 0.0, 1.0]))[None]
    _, box = detection_loss(torch.zeros(1, len(anchors), 3), deltas, anchors, [truth], [labels])
    assert box.item() == pytest.approx((1.5 + 1.5 / 19.0855 - 0.5 * 0.11) / 4, rel=1e-5)


def test_detection_loss_of_a_batch_is_that_of_its_images_weighted_by_their_positives() -> None:
    anchors = make_anchors(64, 64, (8, 16))
    truth = [torch.tensor([[10.0, 12.0, 26.0, 44.0]]), torch.tensor([[2.0, 2.0, 20.0, 16.0], [30.0, 30.0, 60.0, 50.0]])]
    labels = [torch.tensor([1]), torch.tensor([0, 2])]
    logits, deltas = torch.randn(2, len(anchors), 3), torch.randn(2, len(anchors), 4)
    alone = [detection_loss(logits[i : i + 1], deltas[i : i + 1], anchors, [truth[i]], [labels[i]]) for i in range(2)]
    found = [assign_image(truth[i], labels[i], anchors, logits[i], deltas[i]) for i in range(2)]
    for loss, parts, counts in zip(
        detection_loss(logits, deltas, anchors, truth, labels),
        zip(*alone, strict=True),
        zip(*([(a.classification >= 0).sum(), (a.regression >= 0).sum()] for a in found), strict=True),
        strict=True,
    ):
        weighted = sum(part * count for part, count in zip(parts, counts, strict=True))
        torch.testing.assert_close(loss, weighted / sum(counts))


def test_detection_loss_without_any_object_teaches_background_only() -> None:
    anchors = make_anchors(64, 64, (8, 16))
    logits = torch.zeros(2, len(anchors), 3, requires_grad=True)
    deltas = torch.zeros(2, len(anchors), 4, requires_grad=True)
    none = [torch.zeros(0, 4)] * 2
    classification, box = detection_loss(logits, deltas, anchors, none, [torch.zeros(0, dtype=torch.int64)] * 2)
    assert classification.item() > 0
    assert box.item() == 0.0


@pytest.mark.parametrize(
    ("settings", "channels"),
    [
        (("model.size=nano",), 64),
        (("model.size=nano", "model.imitates=160"), 160),  # through an adapter
        (("model.size=r18", "model.backbone=vgg16"), 512),  # fuses behind its fourth block
        (("model.size=r18", "task=segment", "data.sets=[mfnet]"), 256),
    ],
)
def test_the_mean_temperature_is_the_channels_of_the_maps_that_are_compared(
    settings: tuple[str, ...], channels: int
) -> None:
    student, teacher = torch.randn(2, channels, 3, 4), torch.randn(2, channels, 3, 4)
    loss = _semantic_loss(load_config(None, (*settings, "distill.temperature=mean")))
    torch.testing.assert_close(loss(student, teacher), focal_mse_transfer(student, teacher, channels))
