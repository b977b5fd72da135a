from __future__ import annotations

import math

import pytest
import torch

from mdtrain.models.gaff import GAFF, Fusion


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_parameter_count_of_the_paper() -> None:
    """GAFF Table 5: 23,765,553 - 23,751,725 with ResNet-18, 31,430,705 - 31,403,053 with VGG-16."""
    assert parameters(GAFF(256)) == 13_828
    assert parameters(GAFF(512)) == 27_652


def test_fusion_of_zero_weights_is_a_scaled_mean() -> None:
    """All masks 1/2: fused = mean of f (1 + 1/2) (1 + 1/2)."""
    gaff = GAFF(8)
    for p in gaff.parameters():
        torch.nn.init.zeros_(p)
    visible, thermal = torch.randn(2, 8, 5, 4), torch.randn(2, 8, 5, 4)
    torch.testing.assert_close(gaff(visible, thermal).fused, 2.25 * (visible + thermal) / 2)


def test_fusion_known_answer() -> None:
    """One pixel, visible 1, thermal 2: intra masks 0.8 and 0.75, selection 1/4 and 3/4, each to its own sensor."""
    gaff = GAFF(1)
    for p in gaff.parameters():
        torch.nn.init.zeros_(p)
    centre = 1, 1
    gaff.intra_visible.weight.data[0, 0][centre] = math.log(4)  # score of ln 4 * 1
    gaff.intra_thermal.weight.data[0, 0][centre] = math.log(3) / 2  # of ln 3 / 2 * 2
    gaff.inter.weight.data[0, 0][centre] = math.log(3) / 2  # thermal logit, from the thermal map: ln 3 against 0
    fusion = gaff(torch.full((1, 1, 1, 1), 1.0), torch.full((1, 1, 1, 1), 2.0))
    assert fusion.intra_visible.item() == pytest.approx(0.8)
    assert fusion.intra_thermal.item() == pytest.approx(0.75)
    assert fusion.fused.item() == pytest.approx((1 * 1.8 * 1.25 + 2 * 1.75 * 1.75) / 2)


def test_what_a_student_imitates_known_answer() -> None:
    """Eq. 3: each sensor's mask times its own share of the selection, 0.5 * 1/4 + 0.8 * 3/4."""
    visible, thermal = torch.full((1, 1, 1, 1), 0.5), torch.full((1, 1, 1, 1), 0.8)
    logits = torch.tensor([math.log(3), 0.0]).reshape(1, 2, 1, 1)  # thermal first
    mask = Fusion(torch.zeros(1, 4, 1, 1), visible, thermal, logits).teacher_mask()
    assert mask.item() == pytest.approx(0.5 * 0.25 + 0.8 * 0.75)


def test_masks_are_probabilities_and_selection_sums_to_one() -> None:
    fusion = GAFF(8)(torch.randn(2, 8, 5, 4), torch.randn(2, 8, 5, 4))
    for mask in (fusion.intra_visible, fusion.intra_thermal, fusion.teacher_mask()):
        assert mask.shape == (2, 1, 5, 4)
        assert mask.min() >= 0
        assert mask.max() <= 1
    torch.testing.assert_close(fusion.inter_logits.softmax(1).sum(1), torch.ones(2, 5, 4))


def test_swapping_the_sensors_and_their_weights_changes_nothing() -> None:
    gaff, swapped = GAFF(4), GAFF(4)
    swapped.intra_visible, swapped.intra_thermal = gaff.intra_thermal, gaff.intra_visible
    weight = gaff.inter.weight.data
    swapped.inter.weight.data = torch.cat([weight[:, 4:], weight[:, :4]], 1).flip(0)
    assert gaff.inter.bias is not None
    swapped.inter.bias = torch.nn.Parameter(gaff.inter.bias.detach().flip(0))
    a, b = torch.randn(1, 4, 6, 6), torch.randn(1, 4, 6, 6)
    torch.testing.assert_close(gaff(a, b).fused, swapped(b, a).fused)
