"""Camera images to engine inputs: resizing, and nothing that the graph does itself.

Thermal upsampling, channel layout and the arithmetic of normalisation are compiled into the engine (docs/manifest.md),
so only two small uint8 arrays are made here, in buffers that live as long as the engine. 16-bit thermal counts become
8 bits first, by the manifest's rule (docs/thermal.md).
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from mdrun.backends.base import Feeds, Inputs, input_shape
from mdrun.backends.cuda_array import CudaArray, Image, OnDevice, is_on_device
from mdrun.errors import DataError, EngineError
from mdrun.manifest import InputSpec, Manifest
from mdrun.thermal.normalise import Rule, normalise

MODEL_LAYOUTS = {"visible": ("uint8", "NHWC", "RGB"), "thermal": ("uint8", "NHW", "grey")}


class Preprocess:
    """Resizes both images to the engine's inputs. Not for use by two threads at once."""

    def __init__(self, manifest: Manifest) -> None:
        """Check that the manifest asks only for what is done here, and allocate the inputs.

        Raises:
            EngineError: an input of another type or layout, or an unknown thermal rule.
        """
        for name, spec in manifest.inputs.items():
            _check_layout(manifest.engine_name, name, spec)
        self._rule = thermal_rule(manifest)
        self._buffers: Feeds = {name: np.empty(input_shape(spec), np.uint8) for name, spec in manifest.inputs.items()}

    def __call__(self, visible: NDArray[Any], thermal: NDArray[Any] | None, *, normalised: bool = False) -> Feeds:
        """Engine inputs of one pair; the next call overwrites them.

        Args:
            visible: (H, W, 3) uint8 RGB.
            thermal: (h, w) as the manifest's rule takes it: uint8, or uint16 counts, which are normalised by
                themselves; ignored by an engine without a thermal input.
            normalised: `thermal` is uint8 because the manifest's rule was applied already.

        Raises:
            DataError: an image of another type or shape, or no thermal image for an engine that takes one.
        """
        return cast("Feeds", self.inputs(visible, thermal, normalised=normalised))

    def inputs(self, visible: Image, thermal: Image | None, *, normalised: bool = False) -> Inputs:
        """The same for images that may lie on a GPU: those are at the engine's own size, and stay where they are.

        Raises:
            DataError: as above; also counts on a GPU, for the rule is applied on the host.
        """
        inputs: dict[str, NDArray[Any] | CudaArray] = {**self._buffers}
        if is_on_device(visible):
            inputs["visible"] = self._take("visible", visible)
        else:
            resize_into(_checked_visible(visible), self._buffers["visible"][0])
        if "thermal" in self._buffers:
            rule = Rule() if normalised else self._rule
            if is_on_device(thermal) and not rule.takes_counts:
                inputs["thermal"] = self._take("thermal", thermal)
            else:
                resize_into(_in_8_bits(thermal, rule), self._buffers["thermal"][0])
        return inputs

    def _take(self, name: str, image: OnDevice) -> CudaArray:
        buffer = self._buffers[name]
        return CudaArray.take(name, image, buffer.shape, buffer.dtype)


def thermal_rule(manifest: Manifest) -> Rule:
    """How thermal images become the 8 bits that an engine takes; `agc8` for one without a thermal input.

    Raises:
        EngineError: a rule that this version does not know.
    """
    spec = manifest.inputs.get("thermal")
    if spec is None or spec.normalisation is None:
        return Rule()
    try:
        return Rule.parse(spec.normalisation)
    except ValueError as error:
        raise EngineError(
            f"{manifest.engine_name}: input thermal: {error}; "
            "export again with `mdexport onnx` or install a newer mdrun"
        ) from error


def resize_into(image: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Resize an image into `out`, in place, without aliasing.

    A shrink by more than two averages whole blocks of pixels first and interpolates the rest: at 1280x1024 to 384x288
    ten times faster than cv2's area filter at a fractional factor, and as free of aliasing.

    Args:
        image: (H, W) or (H, W, 3).
        out: (h, w) or (h, w, 3), contiguous.
    """
    import cv2

    height, width = out.shape[:2]
    block_y, block_x = (_block(a, b) for a, b in zip(image.shape[:2], out.shape[:2], strict=True))
    if block_y * block_x > 1:
        size = (image.shape[1] // block_x, image.shape[0] // block_y)
        if size == (width, height):
            cv2.resize(image, size, dst=out, interpolation=cv2.INTER_AREA)
            return
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    if image.shape == out.shape:
        np.copyto(out, image)
        return
    shrink = max(image.shape[0] / height, image.shape[1] / width)
    cv2.resize(image, (width, height), dst=out, interpolation=cv2.INTER_AREA if shrink > 2 else cv2.INTER_LINEAR)


def _block(source: int, target: int) -> int:
    """Largest whole factor that divides `source` and leaves at least `target`; 1 where a shrink is at most two."""
    if source <= 2 * target:
        return 1
    return next(factor for factor in range(source // target, 0, -1) if source % factor == 0)


def _check_layout(engine: str, name: str, spec: InputSpec) -> None:
    got = (spec.dtype, spec.layout, spec.colour_order)
    if got != MODEL_LAYOUTS[name]:
        raise EngineError(
            f"{engine}: input {name} is {' '.join(got)}, this mdrun gives {' '.join(MODEL_LAYOUTS[name])}; "
            "export again with `mdexport onnx`"
        )


def _checked_visible(image: object) -> NDArray[np.uint8]:
    if (
        not isinstance(image, np.ndarray)
        or image.ndim != 3
        or image.shape[2] != 3
        or image.dtype != np.uint8
        or not image.size
    ):
        raise DataError(f"visible image is {_describe(image)}, wanted uint8 (H, W, 3) in RGB order")
    return image


def _in_8_bits(thermal: Image | None, rule: Rule) -> NDArray[np.uint8]:
    if thermal is None:
        raise DataError("no thermal image, and the engine takes one; give it or use a visible-only engine")
    if is_on_device(thermal):
        raise DataError(
            f"thermal image is on a GPU, and the engine's rule {rule} is applied on the host; give a NumPy array, or "
            "apply the rule on the GPU and say normalised=True"
        )
    if not isinstance(thermal, np.ndarray):
        raise DataError(f"thermal image is {_describe(thermal)}, wanted uint8 or uint16 (h, w), one channel")
    return normalise(thermal, rule)


def _describe(image: object) -> str:
    return f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
