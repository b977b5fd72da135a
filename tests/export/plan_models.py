"""ONNX engines for the tests of `mdexport plan`: the shipped student in three precisions, and graphs of one node."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mdexport.engine_file import stamp, write_engine
from mdrun.manifest import Manifest
from mdrun.onnx_file import read_manifest
from tests.runtime.engines import make_manifest

SHIPPED = Path(__file__).resolve().parents[2] / "runtime" / "mdrun" / "engines" / "md-r18-slim.onnx"


def in_precision(manifest: Manifest, precision: str | None) -> Manifest:
    return dataclasses.replace(manifest, origin=dataclasses.replace(manifest.origin, precision=precision))


def write_fp16(path: Path) -> Path:
    """The shipped student with halves as weights; inputs and outputs stay as they are."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of weights that are rounded to zero
        model = convert_float_to_float16(onnx.load(SHIPPED), keep_io_types=True, disable_shape_infer=True)
    write_engine(model, stamp(model, in_precision(read_manifest(SHIPPED), "fp16")), path)
    return path


def write_int8(path: Path) -> Path:
    """The shipped student with quantised convolutions, calibrated on noise."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Noise(CalibrationDataReader):  # type: ignore[misc]  # no type information
        left = 1

        def get_next(self) -> dict[str, Any] | None:
            if not self.left:
                return None
            self.left -= 1
            rng = np.random.default_rng(0)
            shapes = {"visible": (1, 384, 512, 3), "thermal": (1, 128, 160)}
            return {name: rng.integers(0, 256, shape).astype(np.uint8) for name, shape in shapes.items()}

    raw = path.with_name("raw.onnx")
    options = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False}
    quantize_static(
        SHIPPED,
        raw,
        Noise(),
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        op_types_to_quantize=["Conv"],
        extra_options=options,
    )
    model = onnx.load(raw)
    raw.unlink()
    write_engine(model, stamp(model, in_precision(read_manifest(SHIPPED), "int8")), path)
    return path


def write_conv(
    path: Path, precision: str | None = "fp32", batch: int | str = 1, height: int | str = 72, operator: str = "Conv"
) -> Path:
    """One convolution over the visible image, in single precision whatever the manifest says."""
    visible = helper.make_tensor_value_info("visible", TensorProto.UINT8, [batch, height, 96, 3])
    heat = helper.make_tensor_value_info("heat", TensorProto.FLOAT, [batch, 4, "h", "w"])
    domain = "" if operator == "Conv" else "elsewhere"
    nodes = [
        helper.make_node("Cast", ["visible"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node(operator, ["planes", "kernel"], ["heat"], name="the_node", domain=domain),
    ]
    kernel = numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "kernel")
    graph = helper.make_graph(nodes, "conv", [visible], [heat], [kernel])
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("elsewhere", 1)]
    model = helper.make_model(graph, opset_imports=sets, ir_version=9)
    write_engine(model, stamp(model, in_precision(make_manifest("conv"), precision)), path)
    return path
