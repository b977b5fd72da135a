from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mdrun.errors import EngineError
from mdtrain.models.backbone import PAPER_WIDTHS, BackboneName, make_stem, make_top, maps_of
from mdtrain.models.detector import DetectorSpec
from mdtrain.models.streams import Student, Teacher
from mdtrain.models.weights import adapt_channels, hash_weights, load_backbone

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


def imagenet(widths: tuple[int, int, int, int] = TINY, backbone: BackboneName = "resnet18") -> dict[str, Tensor]:
    """A state dict as torchvision writes it: backbone and classifier."""
    torch.manual_seed(1)
    network = nn.ModuleList([make_stem(backbone, 3, widths), make_top(backbone, widths)])
    weights = {name.partition(".")[2]: value for name, value in network.state_dict().items()}
    classifier = "fc" if backbone == "resnet18" else "classifier.6"
    return weights | {f"{classifier}.weight": torch.randn(10, widths[3]), f"{classifier}.bias": torch.randn(10)}


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


def test_vggs_published_file_loads_with_its_classifier(tmp_path: Path) -> None:
    weights = imagenet(backbone="vgg16")
    torch.save(weights, tmp_path / "vgg16_bn.pth")
    student = Student(SPEC._replace(backbone="vgg16"))
    load_backbone(student, tmp_path / "vgg16_bn.pth")
    torch.testing.assert_close(student.top.state_dict()["features.40.weight"], weights["features.40.weight"])


def test_a_file_of_dataparallel_is_the_file_without(tmp_path: Path) -> None:
    torch.save(imagenet(), tmp_path / "plain.pth")
    torch.save({f"module.{name}": value for name, value in imagenet().items()}, tmp_path / "wrapped.pth")
    assert load_backbone(Student(SPEC), tmp_path / "wrapped.pth") == load_backbone(
        Student(SPEC), tmp_path / "plain.pth"
    )


@pytest.mark.parametrize(
    ("holder", "wrapper", "classifier"),
    [
        ("state_dict", "", ""),
        ("model", "", ""),
        ("state_dict", "model.", "model."),
        ("state_dict", "model.module.", "model.module."),
        ("state_dict", "backbone.", "head."),
    ],
)
def test_the_checkpoint_of_a_training_is_the_file_within(
    holder: str, wrapper: str, classifier: str, tmp_path: Path
) -> None:
    """As timm and DeiT keep it, and, with a wrapper in the names, Lightning and mmcls (its classifier beside it)."""
    torch.save(imagenet(), tmp_path / "plain.pth")
    names = {name: (classifier if name.startswith("fc.") else wrapper) + name for name in imagenet()}
    weights = {names[name]: value for name, value in imagenet().items()}
    torch.save({"epoch": 3, holder: weights, "optimizer": {"state": {}}}, tmp_path / "checkpoint.pth")
    assert load_backbone(Student(SPEC), tmp_path / "checkpoint.pth") == load_backbone(
        Student(SPEC), tmp_path / "plain.pth"
    )


def test_hashes_are_over_names_and_bytes_of_any_type() -> None:
    weights = {"b": torch.tensor(3), "a": torch.tensor([[1.0, 2.0]], dtype=torch.bfloat16)}
    assert hash_weights(weights) == hashlib.sha256(b"a\x80\x3f\x00\x40b" + (3).to_bytes(8, "little")).hexdigest()


def test_what_every_stream_lacks_is_said_once(tmp_path: Path) -> None:
    weights = imagenet()
    del weights["layer2.0.conv1.weight"]
    torch.save(weights, tmp_path / "missing.pth")
    with pytest.raises(EngineError, match=r"another backbone: lacks layer2\.0\.conv1\.weight; wanted"):
        load_backbone(Teacher(SPEC), tmp_path / "missing.pth")


def write_deeper(path: Path) -> None:
    """ResNet-34's layer1 has a third block; all that ResNet-18 wants is there too."""
    weights = imagenet()
    block = {name.replace("1.1", "1.2", 1): value for name, value in weights.items() if name.startswith("layer1.1.")}
    torch.save(weights | block, path)


def write_infinite(path: Path) -> None:
    weights = imagenet()
    weights["layer1.0.conv1.weight"][0, 0, 0, 0] = torch.inf
    torch.save(weights, path)


def write_wider(path: Path) -> None:
    torch.save(imagenet((8, 12, 24, 20)), path)


def write_without_layer4(path: Path) -> None:
    torch.save({name: value for name, value in imagenet().items() if not name.startswith("layer4.")}, path)


def write_wrapped_twice(path: Path) -> None:
    torch.save({"state_dict": {"model": imagenet()}, "epoch": 3}, path)


def write_code(path: Path) -> None:
    torch.save({"model": Path("x")}, path)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (write_wider, r"layer3\.0\.conv1\.weight is \(24, 12, 3, 3\), wanted \(16, 12, 3, 3\)"),
        (write_without_layer4, r"lacks layer4\.0\.conv1\.weight"),
        (write_deeper, r"another backbone: has unknown layer1\.2\.conv1\.weight, .* and 7 more; wanted torchvision's"),
        (write_infinite, r"NaN or infinity in layer1\.0\.conv1\.weight, wanted finite"),
        (write_wrapped_twice, "no state dict, wanted one, plain or as state_dict or model of a checkpoint; save"),
        (lambda path: torch.save({1: torch.ones(1)}, path), "holds no state dict"),
        (write_code, "not a readable file of tensors"),
        (lambda path: path.write_bytes(b"PK\x03\x04 cut off"), "not a readable file of tensors"),
        (lambda path: path.write_bytes(b""), r"not a readable file of tensors \(it is empty\)"),
        (lambda path: path.write_bytes(b"hello" * 9), r"of tensors \(nothing that torch.save wrote\); save model"),
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
