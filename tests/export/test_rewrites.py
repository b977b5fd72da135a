"""Every rewrite gives the numbers of what it replaces, and refuses where it would not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from mdexport.deploy import DeployedDetector
from mdexport.rewrites import (
    LabelMap,
    MeanSubtraction,
    RewriteError,
    TopBoxes,
    fold_scale,
    read_blocks,
    sum_thermal_kernels,
    to_planes,
)
from mdtrain.build import build_student
from mdtrain.config import load_config
from mdtrain.data.batches import MEAN, STD, THERMAL_MEAN, normalise_thermal, normalise_visible
from mdtrain.models.anchors import decode, make_anchors
from mdtrain.models.streams import Student
from tests.training.test_recipes import TINY

SIZE = (48, 32)  # width, height


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(20261124)


def assert_equal_numbers(got: Tensor, wanted: Tensor) -> None:
    """Equal up to the rounding of the type: two orders above its epsilon, of the largest value."""
    torch.testing.assert_close(
        got, wanted, rtol=0, atol=100 * torch.finfo(wanted.dtype).eps * float(wanted.detach().abs().max())
    )


def conv(channels: int, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, 8, 7, 2, 3, groups=groups, dtype=torch.float64)


def image(channels: int) -> Tensor:
    return torch.randn(2, channels, *SIZE[::-1], dtype=torch.float64)


def pixels(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8)


def refuses(words: str, make: Callable[[], object]) -> None:
    with pytest.raises(RewriteError, match=words) as caught:
        make()
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).startswith("cannot ")


def test_thermal_kernels() -> None:
    before, grey = conv(6), image(1)
    fused = torch.cat([image(3), grey.expand(-1, 3, -1, -1)], 1)
    after = sum_thermal_kernels(before, fused)
    assert after.in_channels == 4
    assert_equal_numbers(after(fused[:, :4]), before(fused))
    assert before.in_channels == 6  # the network itself is as it was


def test_thermal_kernels_of_another_network() -> None:
    equal = image(1).expand(-1, 6, -1, -1)
    refuses("takes 4 channels in 1 group, wanted 6", lambda: sum_thermal_kernels(conv(4), equal))
    refuses("takes 6 channels in 2 groups, wanted 6 in 1", lambda: sum_thermal_kernels(conv(6, groups=2), equal))
    refuses("differ, wanted three equal ones", lambda: sum_thermal_kernels(conv(6), image(6)))
    refuses("differ, wanted three equal ones", lambda: sum_thermal_kernels(conv(6), equal[:, :5]))


@pytest.mark.parametrize("channels", [3, 4])
def test_pixel_blocks(channels: int) -> None:
    """Also at the border, where zeros are padded, and with odd numbers of blocks."""
    before, mean = conv(channels), torch.rand(channels, dtype=torch.float64) * 255
    for size in ((32, 48), (2, 6), (34, 30)):
        seen = torch.randn(2, channels, *size, dtype=torch.float64)
        got = read_blocks(before, mean)(seen + mean[:, None, None])
        torch.testing.assert_close(got, before(seen), rtol=0, atol=1e-12)


def test_pixel_blocks_of_another_convolution() -> None:
    for other in (
        nn.Conv2d(4, 8, 3, 2, 1),
        nn.Conv2d(4, 8, 7, 1, 3),
        nn.Conv2d(4, 8, 7, 2, 2),
        nn.Conv2d(4, 8, 7, 2, 3, dilation=2),
        conv(4, groups=2),
        nn.Conv2d(4, 8, 7, 2, 3, padding_mode="reflect"),
    ):
        refuses("wanted", lambda other=other: read_blocks(other, torch.zeros(4)))  # type: ignore[misc]


def test_scale() -> None:
    """Also at the border, where zeros are padded."""
    before, scale = conv(4), torch.tensor([58.4, 57.1, 57.4, 56.1], dtype=torch.float64)
    given = image(4)
    assert_equal_numbers(fold_scale(before, scale)(given * scale[:, None, None]), before(given))


@pytest.mark.parametrize(("scale", "words"), [([1.0, 0.0], r"\[1\.0, 0\.0\]"), ([1.0, float("inf")], "inf")])
def test_scale_that_divides_nothing(scale: list[float], words: str) -> None:
    refuses(words, lambda: fold_scale(conv(2), torch.tensor(scale, dtype=torch.float64)))


def test_scale_of_another_image() -> None:
    refuses("takes 6 channels in 1 group, wanted 4", lambda: fold_scale(conv(6), torch.ones(4)))
    refuses("takes 4 channels in 2 groups, wanted 4 in 1", lambda: fold_scale(conv(4, groups=2), torch.ones(4)))


def test_mean() -> None:
    colour = pixels(2, *SIZE[::-1], 3)
    got = MeanSubtraction(MEAN * 255)(to_planes(colour))
    assert_equal_numbers(got, normalise_visible(colour) * 255 * STD[:, None, None])
    # the mean commutes with an upsampling
    grey, mean = pixels(2, 8, 12), THERMAL_MEAN * 255
    upsampled = F.interpolate(to_planes(grey), SIZE[::-1], mode="bilinear", align_corners=False)
    before = F.interpolate(to_planes(grey) - mean, SIZE[::-1], mode="bilinear", align_corners=False)
    assert_equal_numbers(MeanSubtraction(torch.tensor([mean]))(upsampled), before)


def test_mean_of_another_image() -> None:
    for make in (MeanSubtraction, lambda mean: read_blocks(conv(len(mean)), mean)):
        refuses("wanted that of bytes, 0 to 255", lambda make=make: make(torch.tensor([32768.0])))  # type: ignore[misc]
        refuses("nan", lambda make=make: make(torch.tensor([float("nan")])))  # type: ignore[misc]


@pytest.mark.parametrize("batch", [1, 3])
def test_top_boxes(batch: int) -> None:
    """Chosen among logits and then decoded, as well as decoded and then chosen among scores."""
    anchors = make_anchors(SIZE[1], SIZE[0], (8, 16))
    logits, deltas = torch.randn(batch, len(anchors), 3), torch.randn(batch, len(anchors), 4)
    boxes, scores, classes = TopBoxes(anchors, 3, 20)(logits, deltas)
    best, index = logits.sigmoid().flatten(1).topk(20, dim=1)
    for row in range(batch):
        assert_equal_numbers(scores[row], best[row])
        assert_equal_numbers(boxes[row], decode(deltas[row], anchors)[index[row] // 3])
        assert classes[row].tolist() == (index[row] % 3).tolist()


def test_top_boxes_of_a_small_image() -> None:
    refuses("4 anchors of 3 classes are 12, wanted 13", lambda: TopBoxes(torch.ones(4, 4), 3, 13))


def test_label_map() -> None:
    """Argmax over logits as well as over probabilities of the whole image."""
    logits = torch.randn(2, 9, 6, 8)
    got = LabelMap(9, (8, 6), SIZE)(logits)
    full = F.interpolate(logits, SIZE[::-1], mode="bilinear", align_corners=False)
    assert got.dtype == torch.int32
    assert torch.equal(got.long(), full.softmax(1).argmax(1))


def test_label_map_that_would_lose_something() -> None:
    refuses("logits of 8x60 are larger than the label map, 48x32", lambda: LabelMap(9, (8, 60), SIZE))
    refuses("257 classes, wanted 1 to 256", lambda: LabelMap(257, (8, 6), SIZE))


@pytest.mark.parametrize("inputs", ["both", "visible"])
def test_all_rewrites_of_the_first_convolution(inputs: str) -> None:
    """From bytes to the first map, against the network as it was trained."""
    student = build_student(load_config(None, (*TINY, f"inputs={inputs}"))).eval()
    deployed = DeployedDetector(student, (128, 96), 10)
    visible, thermal = pixels(2, 96, 128, 3), pixels(2, 24, 32)
    with torch.inference_mode():
        fused = student.fuse_images(normalise_visible(visible), normalise_thermal(thermal))
        got = deployed.student.stem.first(deployed.image(visible, thermal))
        assert_equal_numbers(got, student.stem.first(fused))


def test_a_student_that_fuses_otherwise() -> None:
    class Tinted(Student):
        """Its thermal channels are not equal."""

        def fuse_images(self, visible: Tensor, thermal: Tensor | None) -> Tensor:
            return super().fuse_images(visible, thermal) * torch.arange(1, 7)[:, None, None]

    student = build_student(load_config(None, TINY))
    refuses("differ", lambda: DeployedDetector(Tinted(student.spec), (128, 96), 10))
