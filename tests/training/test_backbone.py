from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mdrun.errors import EngineError
from mdtrain.models.backbone import PAPER_WIDTHS, BackboneName, make_stem, make_top, maps_of
from mdtrain.models.detector import DetectorSpec
from mdtrain.models.streams import Student, Teacher
from mdtrain.models.weights import adapt_channels, load_backbone

TINY = (8, 12, 16, 20)
SPEC = DetectorSpec("resnet18", TINY, 16, 1, True, 6, 4, 3)


@pytest.mark.parametrize(
    ("backbone", "published", "names"),
    [
        # torchvision's ResNet-18 without its 513,000 classifier weights
        (
            "resnet18",
            11_176_512,
            {"conv1.weight", "bn1.running_mean", "layer2.0.downsample.0.weight", "layer4.1.conv2.weight"},
        ),
        # torchvision's vgg16_bn.features: 14,714,688 of the convolutions, 8,448 of the norms
        (
            "vgg16",
            14_723_136,
            {"features.0.weight", "features.1.running_var", "features.30.bias", "features.40.weight"},
        ),
    ],
)
def test_backbones_have_the_published_parameters_under_torchvisions_names(
    backbone: BackboneName, published: int, names: set[str]
) -> None:
    parts = make_stem(backbone, 3, PAPER_WIDTHS), make_top(backbone, PAPER_WIDTHS)
    assert sum(p.numel() for part in parts for p in part.parameters()) == published
    assert names <= parts[0].state_dict().keys() | parts[1].state_dict().keys()


@pytest.mark.parametrize(("backbone", "stride"), [("resnet18", 16), ("vgg16", 8)])
def test_the_fusion_point_is_where_the_maps_say(backbone: BackboneName, stride: int) -> None:
    """ResNet-18 after layer3, VGG-16 after conv4_3 (docs/training.md)."""
    maps = maps_of(backbone, TINY)
    assert maps.fusion_stride == stride
    found = make_stem(backbone, 3, TINY)(torch.randn(1, 3, 64, 96))
    assert [m.shape[1] for m in found] == list(maps.stem)
    assert found[-1].shape[2:] == (64 // stride, 96 // stride)
    assert make_top(backbone, TINY)(found[-1]).shape == (1, maps.top, 32 // stride, 48 // stride)


def test_first_convolution_for_other_channels() -> None:
    kernel, image = torch.randn(4, 3, 7, 7), torch.randn(1, 3, 32, 32)
    wanted = torch.nn.functional.conv2d(image, kernel)
    twice = torch.nn.functional.conv2d(torch.cat([image, image], 1), adapt_channels(kernel, 6))
    torch.testing.assert_close(twice, wanted, atol=1e-4, rtol=1e-4)  # duplicated and halved
    grey = image[:, :1]
    once = torch.nn.functional.conv2d(grey, adapt_channels(kernel, 1))
    torch.testing.assert_close(  # the mean of three kernels on one channel is a third of them on three equal ones
        3 * once, torch.nn.functional.conv2d(grey.expand(-1, 3, -1, -1), kernel), atol=1e-4, rtol=1e-4
    )
    with pytest.raises(ValueError, match="3 input channels to 4"):
        adapt_channels(kernel, 4)


def imagenet(widths: tuple[int, int, int, int] = TINY) -> dict[str, Tensor]:
    """A state dict as torchvision writes it: backbone and classifier."""
    torch.manual_seed(1)
    network = nn.ModuleList([make_stem("resnet18", 3, widths), make_top("resnet18", widths)])
    weights = {name.partition(".")[2]: value for name, value in network.state_dict().items()}
    return weights | {"fc.weight": torch.randn(10, widths[3]), "fc.bias": torch.randn(10)}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_imagenet_weights_reach_every_stream(tmp_path: Path, suffix: str) -> None:
    weights, path = imagenet(), tmp_path / f"resnet18{suffix}"
    if suffix == ".pth":
        torch.save(weights, path)
    else:
        save_file(weights, path)
    student, teacher = Student(SPEC), Teacher(SPEC)
    for model in (student, teacher):
        load_backbone(model, path)
    torch.testing.assert_close(student.stem.first.weight, torch.cat([weights["conv1.weight"]] * 2, 1) / 2)
    torch.testing.assert_close(teacher.visible.first.weight, weights["conv1.weight"])
    torch.testing.assert_close(teacher.thermal.first.weight, weights["conv1.weight"].mean(1, keepdim=True))
    for model in (student, teacher):
        torch.testing.assert_close(model.top.state_dict()["layer4.1.conv2.weight"], weights["layer4.1.conv2.weight"])


def test_files_that_predate_the_batch_counter_load(tmp_path: Path) -> None:
    weights = {name: value for name, value in imagenet().items() if not name.endswith("num_batches_tracked")}
    torch.save(weights, tmp_path / "old.pth")
    student = Student(SPEC)
    load_backbone(student, tmp_path / "old.pth")
    torch.testing.assert_close(student.top.state_dict()["layer4.0.bn1.bias"], weights["layer4.0.bn1.bias"])
    assert student.stem.state_dict()["bn1.num_batches_tracked"] == 0


def write_wider(path: Path) -> None:
    torch.save(imagenet((8, 12, 24, 20)), path)


def write_without_layer4(path: Path) -> None:
    torch.save({name: value for name, value in imagenet().items() if not name.startswith("layer4.")}, path)


def write_wrapped(path: Path) -> None:
    torch.save({"state_dict": imagenet(), "epoch": 3}, path)


def write_code(path: Path) -> None:
    torch.save({"model": Path("x")}, path)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (write_wider, r"layer3\.0\.conv1\.weight is \(24, 12, 3, 3\), wanted \(16, 12, 3, 3\)"),
        (write_without_layer4, r"lacks layer4\.0\.conv1\.weight"),
        (write_wrapped, "no plain state dict"),
        (write_code, "not a readable file of tensors"),
        (lambda path: path.write_bytes(b"PK\x03\x04 cut off"), "not a readable file of tensors"),
        (lambda path: None, "no such file of backbone weights"),
    ],
)
def test_weights_of_another_kind_are_refused_and_change_nothing(write: object, message: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    assert callable(write)
    write(path)
    student = Student(SPEC)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    with pytest.raises(EngineError, match=message):
        load_backbone(student, path)
    after = student.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
