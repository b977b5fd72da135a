"""Backbone weights from a file: ImageNet weights in torchvision's names, fitted to other input channels."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mdrun.errors import EngineError
from mdtrain.tensors import is_state_dict, read_tensors, refuse_broken

CLASSIFIERS = ("fc.", "classifier.", "head.", "pre_logits.")  # of ImageNet's classes: torchvision's names, and timm's
HOLDERS = ("state_dict", "model")  # where checkpoints of trainings keep it: Lightning and mmcls, timm and DeiT
WRAPPERS = ("module.", "model.", "backbone.")  # before every name: DataParallel's, Lightning's, mmcls's
COUNTER = "num_batches_tracked"  # files written before batch norm counted its batches lack it


def adapt_channels(kernel: Tensor, in_channels: int) -> Tensor:
    """First convolution (C, 3, k, k) for another number of input channels.

    6: duplicated and halved (Modality Distillation, section 4.2, footnote 3); 1: the mean over the colours.
    An image of three equal channels keeps its response with 6, one of a single channel has a third of it with 1.

    Raises:
        ValueError: another number of channels.
    """
    if in_channels == kernel.shape[1]:
        return kernel
    if in_channels == 2 * kernel.shape[1]:
        return torch.cat([kernel, kernel], 1) / 2
    if in_channels == 1:
        return kernel.mean(1, keepdim=True)
    raise ValueError(f"no rule to fit {kernel.shape[1]} input channels to {in_channels}")


def hash_weights(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 over names and bytes of all tensors, in name order: the same for equal weights in any file."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        plain = weights[name].detach().cpu().contiguous()
        digest.update(plain.flatten().view(torch.uint8).numpy().tobytes())  # as bytes: numpy has no bfloat16
    return digest.hexdigest()


def read_backbone(path: Path) -> dict[str, Tensor]:
    """Tensors of a state dict, `.safetensors` or a file of `torch.save`, without those of the ImageNet classifier.

    The state dict may be the `state_dict` or `model` of a checkpoint, and its names may begin with a wrapper's.

    Raises:
        EngineError: missing, damaged, no state dict, or holding code, NaN or infinity.
    """
    if not path.is_file():
        raise EngineError(f"{path}: no such file of backbone weights; torchvision's resnet18 or vgg16_bn is one")
    try:
        if path.suffix == ".safetensors":
            data: Any = load_file(path)
        else:
            data = read_tensors(path, "file of tensors", "save model.state_dict() alone")
    except (SafetensorError, OSError) as error:
        raise EngineError(f"{path}: not a readable safetensors file ({error}); copy it again") from error
    if isinstance(data, dict):
        data = next((data[key] for key in HOLDERS if isinstance(data.get(key), dict)), data)
    if not is_state_dict(data):
        raise EngineError(
            f"{path}: holds no state dict, wanted one, plain or as {' or '.join(HOLDERS)} of a checkpoint; "
            "save model.state_dict() alone"
        )
    weights = _unwrapped(data)
    if not weights:
        raise EngineError(f"{path}: holds no backbone, its names are those of a classifier; wanted a whole network")
    refuse_broken(weights, path)
    return weights


def _unwrapped(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the classifier, which may stand within a wrapper or beside it, and without wrappers' names."""
    plain = {name: value for name, value in weights.items() if not name.startswith(CLASSIFIERS)}
    while plain and (wrapper := next((w for w in WRAPPERS if all(name.startswith(w) for name in plain)), None)):
        bare = {name.removeprefix(wrapper): value for name, value in plain.items()}
        plain = {name: value for name, value in bare.items() if not name.startswith(CLASSIFIERS)}
    return plain


def load_backbone(model: nn.Module, path: Path) -> str:
    """Give every stem and top of a network all the weights of the file, or, with an error, none.

    Returns:
        SHA-256 of the file's weights.

    Raises:
        EngineError: naming the first differing names and shapes.
    """
    weights = read_backbone(path)
    parts = [(part, part.state_dict()) for part in model.modules() if getattr(part, "is_backbone", False)]
    if problems := _differences(weights, [own for _, own in parts]):
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise EngineError(
            f"{path}: another backbone: {', '.join(problems[:3])}{more}; wanted torchvision's resnet18 or vgg16_bn, "
            "as model.backbone says, and --set model.widths=[64,128,256,512] with it"
        )
    for part, own in parts:
        part.load_state_dict({k: _fitted(weights[k], value) if k in weights else value for k, value in own.items()})
    return hash_weights(weights)


def _differences(weights: Mapping[str, Tensor], parts: Sequence[Mapping[str, Tensor]]) -> list[str]:
    """What the file lacks, what it has besides, and what has another shape; once, however many streams there are."""
    wanted = [item for own in parts for item in own.items()]
    known = {name for name, _ in wanted}
    problems = [f"lacks {name}" for name, _ in wanted if name not in weights and not name.endswith(COUNTER)]
    problems += [f"has unknown {name}" for name in weights if name not in known and not name.endswith(COUNTER)]
    problems += [
        f"{name} is {tuple(weights[name].shape)}, wanted {tuple(own.shape)}"
        for name, own in wanted
        if name in weights and _fitted(weights[name], own).shape != own.shape
    ]
    return list(dict.fromkeys(problems))


def _fitted(value: Tensor, own: Tensor) -> Tensor:
    """The first convolution is the only tensor that may differ in its second dimension."""
    other_inputs = value.dim() == own.dim() == 4 and value.shape[1] == 3 and own.shape[1] in {1, 6}
    return adapt_channels(value, own.shape[1]) if other_inputs else value
