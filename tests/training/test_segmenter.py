from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from mdtrain.models.backbone import OutputStride
from mdtrain.models.resnet import ResNetStem, ResNetTop
from mdtrain.models.segmenter import (
    BINS,
    PyramidPooling,
    SegmenterSpec,
    SegmentHead,
    Segments,
    label_map,
    pooling_weights,
)
from mdtrain.models.streams import DecisionLevel, Student, Teacher

SPEC = SegmenterSpec("resnet18", (8, 12, 16, 20), 16, 16, 9)


def convolution_weights(module: nn.Module) -> int:
    return sum(part.weight.numel() for part in module.modules() if isinstance(part, nn.Conv2d))


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_the_output_stride_is_that_asked_for(stride: OutputStride) -> None:
    spec = SPEC._replace(output_stride=stride)
    student = Student(spec).eval()
    out = student(torch.randn(2, 3, 96, 128), torch.randn(2, 1, 24, 32))
    assert out.output.logits.shape == (2, 9, 96 // stride, 128 // stride)
    fusion = min(stride, 16)
    assert spec.maps.fusion_stride == fusion
    assert out.feature.shape == (2, 16, 96 // fusion, 128 // fusion)
    taught = Teacher(spec).eval()(torch.randn(2, 3, 96, 128), torch.randn(2, 1, 96, 128))
    assert taught.feature.shape == out.feature.shape


def test_dilation_keeps_the_field_of_view() -> None:
    """Every second place of a dilated stage sees what the strided stage sees (same weights, away from borders)."""
    widths = (4, 6, 8, 10)
    torch.manual_seed(0)
    stem, strided = ResNetStem(3, widths).eval(), ResNetTop(widths).eval()
    dilated = ResNetTop(widths, 16).eval()
    dilated.load_state_dict(strided.state_dict())
    joint = stem(torch.randn(1, 3, 512, 512))[-1]
    fine, coarse = dilated(joint), strided(joint)
    assert fine.shape[-1] == 2 * coarse.shape[-1]
    torch.testing.assert_close(fine[..., ::2, ::2][..., 4:-4, 4:-4], coarse[..., 4:-4, 4:-4])


@pytest.mark.parametrize("size", [(6, 8), (60, 80), (7, 11), (3, 2)])
def test_pooling_is_adaptive_average_pooling(size: tuple[int, int]) -> None:
    """Also where bins do not divide the map, or are more than its places."""
    x = torch.randn(2, 5, *size, dtype=torch.float64)
    parts = torch.split(x.flatten(2) @ pooling_weights(*size).double(), [bins * bins for bins in BINS], dim=2)
    for bins, part in zip(BINS, parts, strict=True):
        wanted = F.adaptive_avg_pool2d(x, bins).flatten(2)
        torch.testing.assert_close(part, wanted, rtol=1e-6, atol=1e-6)


def test_pooling_of_an_even_map_is_the_map() -> None:
    pooled = pooling_weights(5, 9).sum(0)
    torch.testing.assert_close(pooled, torch.ones(50))


def test_weights_of_the_paper_networks_pyramid() -> None:
    """PSPNet on ResNet-18: 4 x 512 x 128 to reduce, 9 x 1024 x 128 to decode; the auxiliary head 9 x 256 x 128."""
    assert convolution_weights(PyramidPooling(512)) == 4 * 512 * 128
    head = SegmentHead(1024, 256, 128, 9)
    assert convolution_weights(head.decode) == 9 * 1024 * 128
    assert convolution_weights(head.auxiliary) == 9 * 256 * 128 + 128 * 9


def test_the_auxiliary_head_is_there_in_training_only() -> None:
    student = Student(SPEC)
    pair = torch.randn(2, 3, 96, 128), torch.randn(2, 1, 24, 32)
    output = student(*pair).output
    assert isinstance(output, Segments)
    assert output.auxiliary is not None
    assert output.auxiliary.shape == (2, 9, 6, 8)
    assert student.eval()(*pair).output.auxiliary is None


@pytest.mark.parametrize("training", [True, False])
def test_decision_level_averages_two_whole_segmenters(training: bool) -> None:
    network = DecisionLevel(SPEC).train(training)
    for part in network.modules():
        if isinstance(part, nn.Dropout2d):
            part.p = 0.0
    visible, thermal = torch.randn(2, 3, 96, 128), torch.randn(2, 1, 96, 128)
    out = network(visible, thermal).output
    one, other = network.visible(visible, None).output, network.thermal(visible, thermal).output
    torch.testing.assert_close(out.logits, (one.logits + other.logits) / 2)
    assert (out.auxiliary is not None) == training


def test_labels_are_the_best_class_at_the_size_asked_for() -> None:
    logits = torch.full((1, 9, 3, 4), -1.0)
    logits[:, 2, :, :2] = 1.0
    logits[:, 5, :, 2:] = 1.0
    labels = label_map(logits, (64, 48))
    assert labels.shape == (1, 48, 64)
    assert (labels[..., :24] == 2).all()
    assert (labels[..., 40:] == 5).all()


def test_untrained_classes_are_even() -> None:
    output = Student(SPEC).eval()(torch.randn(1, 3, 96, 128), torch.randn(1, 1, 24, 32)).output
    assert output.logits.softmax(1).std() < 0.05


def test_an_evaluation_before_a_training_spoils_nothing() -> None:
    """Pooling weights are kept: those made in inference mode could not be used for gradients."""
    pooling_weights.cache_clear()
    student = Student(SPEC)
    pair = torch.randn(2, 3, 96, 128), torch.randn(2, 1, 24, 32)
    with torch.inference_mode():
        student.eval()(*pair)
    student.train()(*pair).output.logits.sum().backward()
