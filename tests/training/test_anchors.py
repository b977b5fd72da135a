from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mdtrain.models.anchors import RATIOS, SCALES, AnchorCount, decode, encode, make_anchors, pairwise_iou, to_xyxy

side = st.floats(2, 300)
place = st.floats(-50, 700)


@given(st.tuples(place, place, side, side), st.tuples(place, place, side, side))
def test_decode_inverts_encode(box: tuple[float, ...], anchor: tuple[float, ...]) -> None:
    boxes = to_xyxy(torch.tensor([box], dtype=torch.float64))
    anchors = torch.tensor([anchor], dtype=torch.float64)
    ratio = (boxes[:, 2:] - boxes[:, :2]) / anchors[:, 2:]
    if ratio.max() < 1000 / 16:
        torch.testing.assert_close(decode(encode(boxes, anchors), anchors), boxes, atol=1e-3, rtol=1e-5)


@given(st.tuples(place, place, side, side), st.tuples(place, place, side, side))
def test_iou_is_symmetric_and_bounded(a: tuple[float, ...], b: tuple[float, ...]) -> None:
    first, second = to_xyxy(torch.tensor([a])), to_xyxy(torch.tensor([b]))
    iou = pairwise_iou(first, second)
    torch.testing.assert_close(iou, pairwise_iou(second, first).T)
    assert 0 <= iou.item() <= 1.0001
    torch.testing.assert_close(pairwise_iou(first, first), torch.ones(1, 1), atol=1e-3, rtol=0)


@pytest.mark.parametrize("count", [3, 6, 9])
def test_anchors_follow_the_order_of_the_head(count: AnchorCount) -> None:
    """Level, then row, then column, then anchor: the order of the head's rows."""
    anchors = make_anchors(64, 96, (8, 16), count)
    assert len(SCALES[count]) * len(RATIOS) == count
    assert len(anchors) == (8 * 12 + 4 * 6) * count
    assert anchors[0, :2].tolist() == [4.0, 4.0]
    assert anchors[count, :2].tolist() == [12.0, 4.0]  # next column
    assert anchors[12 * count, :2].tolist() == [4.0, 12.0]  # next row
    assert anchors[8 * 12 * count, :2].tolist() == [8.0, 8.0]  # next level


def test_nine_anchors_are_retinanets() -> None:
    """Focal Loss, section 4: areas from 32^2 on P3 (stride 8), three scales an octave."""
    areas = make_anchors(8, 8, (8,), 9)[:, 2:].prod(1).sqrt()[::3]
    torch.testing.assert_close(areas, 32 * torch.tensor([1.0, 2 ** (1 / 3), 2 ** (2 / 3)]))


def test_anchor_areas_do_not_depend_on_the_ratio() -> None:
    sizes = make_anchors(8, 8, (8,))[:, 2:]
    torch.testing.assert_close(sizes.prod(1)[:3], torch.full((3,), 256.0))
    torch.testing.assert_close(sizes.prod(1)[3:], torch.full((3,), 512.0))
