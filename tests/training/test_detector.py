from __future__ import annotations

import pytest
import torch

from mdtrain.models.anchors import make_anchors
from mdtrain.models.detector import STRIDES, Student, Teacher
from mdtrain.models.resnet import PAPER_WIDTHS, Stem, stage

WIDTHS = (8, 12, 16, 20)


def test_resnet18_has_the_published_parameter_count() -> None:
    """Torchvision's ResNet-18 without its 513,000 classifier weights: 11,176,512."""
    stem, layer4 = Stem(3, PAPER_WIDTHS), stage(256, 512, 2)
    assert sum(p.numel() for m in (stem, layer4) for p in m.parameters()) == 11_176_512
    names = stem.state_dict().keys()
    assert {"conv1.weight", "bn1.running_mean", "layer2.0.downsample.0.weight", "layer3.1.conv2.weight"} <= names


@pytest.mark.parametrize("thermal", [(160, 128), (80, 64)])
def test_student_predicts_one_row_an_anchor_for_any_thermal_size(thermal: tuple[int, int]) -> None:
    student = Student(WIDTHS, 16, 1, 3).eval()
    out = student(torch.randn(2, 3, 96, 128), torch.randn(2, 1, thermal[1], thermal[0]))
    assert out.logits.shape == (2, len(make_anchors(96, 128, STRIDES)), 3)
    assert out.deltas.shape == (2, out.logits.shape[1], 4)
    assert out.joint is not None
    assert student.attention_logits(out.joint).shape == (2, 1, 6, 8)


def test_teacher_and_student_maps_can_be_compared() -> None:
    teacher, student = Teacher(WIDTHS, 16, 1, 3).eval(), Student(WIDTHS, 16, 1, 3).eval()
    visible = torch.randn(1, 3, 96, 128)
    taught = teacher(visible, torch.randn(1, 1, 96, 128))
    assert taught.feature.shape == student(visible, torch.randn(1, 1, 32, 40)).feature.shape
    assert taught.fusion is not None


def test_untrained_scores_start_at_the_prior() -> None:
    out = Student(WIDTHS, 16, 2, 3).eval()(torch.randn(1, 3, 96, 128), torch.randn(1, 1, 32, 40))
    assert out.logits.sigmoid().mean().item() == pytest.approx(0.01, rel=0.3)


def test_visible_only_student_takes_no_thermal() -> None:
    student = Student(WIDTHS, 16, 1, 3, thermal=False).eval()
    assert student.stem.conv1.in_channels == 3
    assert student(torch.randn(1, 3, 64, 64), None).logits.shape[0] == 1


def test_low_resolution_thermal_is_the_upsampled_one() -> None:
    """The deployed low-resolution input and the paper's down-and-up image give the same tensor."""
    visible, low = torch.randn(1, 3, 96, 128), torch.randn(1, 1, 24, 32)
    up = torch.nn.functional.interpolate(low, (96, 128), mode="bilinear", align_corners=False)
    torch.testing.assert_close(Student.fuse_images(visible, low), Student.fuse_images(visible, up))
