from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from mdtrain.build import build_student, build_teacher, spec_of
from mdtrain.config import load_config
from mdtrain.data.augment import simulate_sensor
from mdtrain.data.batches import normalise_thermal
from mdtrain.models.backbone import BackboneName
from mdtrain.models.detector import DetectorSpec
from mdtrain.models.sizes import SIZES, SizeName
from mdtrain.models.streams import DecisionLevel, Inputs, Student, Teacher

SPEC = DetectorSpec("resnet18", (8, 12, 16, 20), 16, 1, True, 6, 4, 3)
VGG = SPEC._replace(backbone="vgg16")


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("spec", [SPEC, VGG, SPEC._replace(anchors=9, levels=5, shared_tower=False)])
@pytest.mark.parametrize("thermal", [(160, 128), (80, 64)])
def test_student_predicts_one_row_an_anchor_for_any_thermal_size(spec: DetectorSpec, thermal: tuple[int, int]) -> None:
    student = Student(spec).eval()
    out = student(torch.randn(2, 3, 96, 128), torch.randn(2, 1, thermal[1], thermal[0]))
    assert out.output.logits.shape == (2, len(spec.make_anchors((128, 96))), 3)
    assert out.output.deltas.shape == (2, out.output.logits.shape[1], 4)
    stride = spec.maps.fusion_stride
    assert out.attention is not None
    assert out.attention.shape == (2, 1, 96 // stride, 128 // stride)


@pytest.mark.parametrize("spec", [SPEC, VGG])
def test_teacher_and_student_maps_can_be_compared(spec: DetectorSpec) -> None:
    teacher, student = Teacher(spec).eval(), Student(spec).eval()
    visible = torch.randn(1, 3, 96, 128)
    taught = teacher(visible, torch.randn(1, 1, 96, 128))
    assert taught.feature.shape == student(visible, torch.randn(1, 1, 32, 40)).feature.shape
    assert taught.fusion is not None


def test_a_narrower_student_imitates_through_an_adapter() -> None:
    """Only what is compared with the teacher passes it: the boxes are those of a student without."""
    torch.manual_seed(0)
    student = Student(SPEC, imitates=24).eval()
    plain = Student(SPEC).eval()
    plain.load_state_dict({k: v for k, v in student.state_dict().items() if not k.startswith("adapter.")})
    pair = torch.randn(1, 3, 96, 128), torch.randn(1, 1, 32, 40)
    out = student(*pair)
    assert out.feature.shape == (1, 24, 6, 8)
    torch.testing.assert_close(out.output.logits, plain(*pair).output.logits)
    assert Student(SPEC, imitates=16).adapter is None  # equal widths need none


def test_untrained_scores_start_at_the_prior() -> None:
    out = Student(SPEC._replace(tower=2)).eval()(torch.randn(1, 3, 96, 128), torch.randn(1, 1, 32, 40))
    assert out.output.logits.sigmoid().mean().item() == pytest.approx(0.01, rel=0.3)


@pytest.mark.parametrize(("inputs", "channels"), [("both", 6), ("visible", 3), ("thermal", 3)])
def test_students_of_one_sensor_ignore_the_other(inputs: Inputs, channels: int) -> None:
    student = Student(SPEC, inputs).eval()
    assert student.stem.first.in_channels == channels
    visible, thermal = torch.randn(1, 3, 64, 64), torch.randn(1, 1, 16, 16)
    out = student(visible, thermal).output.logits
    assert torch.equal(out, student(torch.randn(1, 3, 64, 64), thermal).output.logits) == (inputs == "thermal")
    assert torch.equal(out, student(visible, torch.randn(1, 1, 16, 16)).output.logits) == (inputs == "visible")


def test_a_student_of_both_sensors_wants_both() -> None:
    with pytest.raises(ValueError, match="wants a thermal image"):
        Student(SPEC)(torch.randn(1, 3, 64, 64), None)
    assert Student(SPEC, "visible").eval()(torch.randn(1, 3, 64, 64), None).output.logits.shape[0] == 1


@pytest.mark.parametrize("seed", range(4))  # the sensor of a training is drawn
def test_low_resolution_thermal_is_the_reduced_and_enlarged_one(seed: int) -> None:
    """The graph's small thermal input and the paper's image, reduced and enlarged bilinearly, give the same tensor."""
    rng, visible = np.random.default_rng(seed), torch.randn(1, 3, 96, 128)
    full = rng.integers(0, 256, (96, 128), np.uint8)
    reduced = cv2.resize(full, (32, 24), interpolation=cv2.INTER_LINEAR).astype(np.float32)
    enlarged = cv2.resize(reduced, (128, 96), interpolation=cv2.INTER_LINEAR)
    paper = torch.cat([visible, *3 * [normalise_thermal(torch.from_numpy(enlarged)[None])]], 1)
    sensor = simulate_sensor(full, (32, 24), rng, coarser_share=0, shrink="bilinear")
    graph = Student(SPEC).fuse_images(visible, normalise_thermal(torch.from_numpy(sensor)[None]))
    torch.testing.assert_close(graph, paper, rtol=0, atol=1e-4)


def test_gaff_is_all_that_two_streams_with_gaff_have_more_than_their_sum() -> None:
    """GAFF Table 5: 54 C + 4 parameters at one fusion point; 13,828 at C = 256."""
    wide = SPEC._replace(widths=(8, 8, 256, 8))
    assert parameters(Teacher(wide, "gaff")) - parameters(Teacher(wide, "addition")) == 13_828


def test_the_sum_of_streams_ignores_their_order() -> None:
    teacher = Teacher(SPEC, "addition").eval()
    one, other = torch.randn(1, 16, 6, 8), torch.randn(1, 16, 6, 8)
    assert torch.equal(teacher.fusion(one, other), teacher.fusion(other, one))
    assert teacher(torch.randn(1, 3, 96, 128), torch.randn(1, 1, 96, 128)).fusion is None


def test_decision_level_averages_two_whole_detectors() -> None:
    network = DecisionLevel(SPEC).eval()
    visible, thermal = torch.randn(1, 3, 96, 128), torch.randn(1, 1, 96, 128)
    out = network(visible, thermal)
    alone = network.visible(visible, None), network.thermal(visible, thermal)
    torch.testing.assert_close(out.output.logits, (alone[0].output.logits + alone[1].output.logits) / 2)
    torch.testing.assert_close(out.output.deltas, (alone[0].output.deltas + alone[1].output.deltas) / 2)


@pytest.mark.parametrize("size", sorted(SIZES))
@pytest.mark.parametrize("backbone", ["resnet18", "vgg16"])
def test_every_named_size_can_be_built_and_overridden(size: SizeName, backbone: BackboneName) -> None:
    config = load_config(None, (f"model.size={size}", f"model.backbone={backbone}", "model.neck=24"))
    spec = spec_of(config)
    assert isinstance(spec, DetectorSpec)
    assert (spec.neck, spec.widths) == (24, SIZES[size]["widths"])
    assert parameters(build_student(config)) > 0
    assert parameters(build_teacher(config)) > parameters(build_student(config))


def test_sizes_are_ordered_by_their_weights() -> None:
    counts = [
        parameters(build_student(load_config(None, (f"model.size={s}",)))) for s in ("nano", "slim", "r18-fast", "r18")
    ]
    assert counts == sorted(counts)
