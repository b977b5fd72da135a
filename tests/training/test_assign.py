from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mdtrain.assign import IGNORED, NEGATIVE, amplify, assign, keep_best_object


def test_worked_example() -> None:
    """One object, four anchors; numbers of docs/algorithms of Mutual Guidance, ACCV-era rule."""
    iou_anchor = torch.tensor([[0.70, 0.55, 0.45, 0.30]])
    iou_regressed = torch.tensor([[0.50, 0.90, 0.20, 0.80]])
    score = torch.tensor([[0.10, 0.20, 0.90, 0.60]])
    torch.testing.assert_close(
        amplify(iou_anchor, score), torch.tensor([[0.7126, 0.5839, 0.6446, 0.4305]]), atol=5e-5, rtol=0
    )
    result = assign(iou_anchor, iou_regressed, score)
    assert result.classification.tolist() == [IGNORED, 0, NEGATIVE, 0]
    assert result.regression.tolist() == [0, NEGATIVE, 0, NEGATIVE]


def test_without_objects_everything_is_negative() -> None:
    empty = torch.zeros(0, 5)
    result = assign(empty, empty, empty)
    assert result.classification.tolist() == result.regression.tolist() == [NEGATIVE] * 5


def test_an_object_no_anchor_fits_still_gets_one() -> None:
    """The best anchor of every object counts as overlap 1."""
    result = assign(torch.tensor([[0.1, 0.2, 0.05]]), torch.tensor([[0.0, 0.3, 0.1]]), torch.zeros(1, 3))
    assert (result.classification == 0).sum() == 1
    assert (result.regression == 0).sum() == 1


def test_every_anchor_keeps_one_object() -> None:
    table = keep_best_object(torch.tensor([[0.6, 0.5, 0.2], [0.3, 0.9, 0.4]]))
    assert ((table > 0).sum(0) <= 1).all()
    assert table[0, 0] == 1.0  # best anchor of object 0
    assert table[1, 1] == 1.0


@st.composite
def overlaps(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    seed, objects, anchors = draw(st.integers(0, 10_000)), draw(st.integers(1, 4)), draw(st.integers(4, 30))
    generator = torch.Generator().manual_seed(seed)
    a, b, c = (torch.rand(objects, anchors, generator=generator) for _ in range(3))
    return a, b, c


@given(overlaps())
def test_positives_are_as_many_as_with_static_matching(tables: tuple[Tensor, Tensor, Tensor]) -> None:
    result = assign(*tables)
    static = (keep_best_object(tables[0]) >= 0.5).sum(1)
    for index, wanted in enumerate(static.tolist()):
        assert (result.regression == index).sum() <= wanted
        assert (result.classification == index).sum() <= wanted
    assert not (result.regression == IGNORED).any()
