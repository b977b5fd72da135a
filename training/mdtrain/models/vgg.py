"""VGG-16 with batch norm in two parts: to stride 8 (conv4_3), where streams fuse, and conv5 at stride 16.

Simonyan and Zisserman, Very Deep Convolutional Networks, ICLR 2015, configuration D. Parameter names and indices are
those of torchvision's `vgg16_bn.features`, so its state dicts load. GAFF fuses VGG-16 at a map of 512 channels; that
the shared part is conv5 follows from the parameter counts of its Table 5.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

BLOCKS = (2, 2, 3, 3, 3)  # convolutions a block; a pooling stands between blocks


def _block(first_index: int, in_channels: int, channels: int, convolutions: int) -> list[tuple[str, nn.Module]]:
    """Layers of one block, named by their place in torchvision's `features`."""
    layers: list[tuple[str, nn.Module]] = []
    for number in range(convolutions):
        index = first_index + 3 * number
        layers += [
            (str(index), nn.Conv2d(channels if number else in_channels, channels, 3, padding=1)),
            (str(index + 1), nn.BatchNorm2d(channels)),
            (str(index + 2), nn.ReLU(inplace=True)),
        ]
    return layers


class VGGStem(nn.Module):
    """From image to conv4_3: the map at stride 8. `widths` are the channels of the first four blocks."""

    is_backbone = True

    def __init__(self, in_channels: int, widths: tuple[int, int, int, int]) -> None:
        super().__init__()
        layers: list[tuple[str, nn.Module]] = []
        for block, width in enumerate(widths):
            if block:
                layers.append((str(len(layers)), nn.MaxPool2d(2)))
            layers += _block(len(layers), widths[block - 1] if block else in_channels, width, BLOCKS[block])
        self.features = nn.Sequential(OrderedDict(layers))

    @property
    def first(self) -> nn.Conv2d:
        """The convolution that sees the image."""
        return self.features[0]  # type: ignore[return-value]  # built above

    def replace_first(self, conv: nn.Module) -> None:
        """Put another convolution there; a property setter would be passed over by nn.Module."""
        self.features[0] = conv

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(B, C, H, W) normalised image to one map (B, w3, H/8, W/8)."""
        return (self.features(image),)


class VGGTop(nn.Module):
    """Pooling and conv5: from stride 8 to stride 16, channels kept."""

    is_backbone = True

    def __init__(self, widths: tuple[int, int, int, int]) -> None:
        super().__init__()
        pool = 3 * sum(BLOCKS[:4]) + 3  # index in torchvision's `features`: 33
        layers = [(str(pool), nn.MaxPool2d(2)), *_block(pool + 1, widths[3], widths[3], BLOCKS[4])]
        self.features = nn.Sequential(OrderedDict(layers))

    def forward(self, x: Tensor) -> Tensor:
        """(B, w3, H/8, W/8) to (B, w3, H/16, W/16)."""
        return self.features(x)  # type: ignore[no-any-return]  # nn.Module.__call__ is untyped
