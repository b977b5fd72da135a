"""Networks by name: the widths of the backbone's stages, and what follows it in a detector and in a segmenter."""

from __future__ import annotations

from typing import Any, Literal

SizeName = Literal["slim", "r18", "r18-fast", "nano"]
RESNET18 = (64, 128, 256, 512)


def _size(
    widths: tuple[int, int, int, int], detector: tuple[int, int, bool, int, int], segmenter: tuple[int, int]
) -> dict[str, Any]:
    """Keys of `model` in a configuration."""
    neck, tower, shared_tower, anchors, levels = detector
    output_stride, decoder = segmenter
    return {
        "widths": widths,
        "neck": neck,
        "tower": tower,
        "shared_tower": shared_tower,
        "anchors": anchors,
        "levels": levels,
        "output_stride": output_stride,
        "decoder": decoder,
    }


SIZES: dict[SizeName, dict[str, Any]] = {
    # what ships: narrow enough for 16 MB and for two CPU cores
    "slim": _size((32, 64, 160, 224), (96, 2, True, 6, 4), (16, 96)),
    # the paper's: ResNet-18, the standard RetinaNet head, PSPNet at output stride 8
    "r18": _size(RESNET18, (256, 4, False, 9, 5), (8, 128)),
    # the same backbone with light heads
    "r18-fast": _size(RESNET18, (128, 2, True, 3, 4), (16, 128)),
    # less work than the smallest YOLO11
    "nano": _size((16, 32, 64, 128), (48, 1, True, 3, 4), (16, 48)),
}


def matching_size(values: dict[str, Any]) -> SizeName | None:
    """The size that has all of these values; keys that no size has are passed over."""
    for name, size in SIZES.items():
        if all(size.get(key, value) == value for key, value in values.items()):
            return name
    return None
