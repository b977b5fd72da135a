"""Exact rewrites of a trained network: fewer operations in the graph, the same numbers up to rounding.

One file each. A rewrite looks at what it is given before it changes anything, and refuses with `RewriteError` where
the numbers would be others. All of them together are proven once more by the parity check of every export.

- `thermal_kernels`: three equal thermal channels are one channel with the sum of their kernels;
- `input_scale`: 1/255 and 1/std are folded into the first convolution;
- `pixel_blocks`: a 7x7 first convolution with stride 2 is a 4x4 one over blocks of 2x2 pixels;
- `input_mean`: the mean is subtracted from the cameras' bytes, before any zero padding, by the blocks' own bias;
- `top_boxes`: top-k runs on logits, sigmoid and box decoding only on the boxes that are left;
- `label_map`: upsampling and argmax run in the engine, one number a pixel leaves it;
- `top_classes`: top-k runs on logits, softmax and energy share one logarithm of a sum.
"""

from mdexport.rewrites.base import RewriteError
from mdexport.rewrites.input_mean import MeanSubtraction, to_planes
from mdexport.rewrites.input_scale import fold_scale
from mdexport.rewrites.label_map import LabelMap
from mdexport.rewrites.pixel_blocks import read_blocks
from mdexport.rewrites.thermal_kernels import sum_thermal_kernels
from mdexport.rewrites.top_boxes import TopBoxes
from mdexport.rewrites.top_classes import TopClasses

__all__ = [
    "LabelMap",
    "MeanSubtraction",
    "RewriteError",
    "TopBoxes",
    "TopClasses",
    "fold_scale",
    "read_blocks",
    "sum_thermal_kernels",
    "to_planes",
]
