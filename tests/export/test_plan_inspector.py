"""The engine inspector's JSON, as TensorRT 10 and TensorRT 11 write it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mdexport.plan.inspector import read_count


def layer(kind: str, *inputs: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"Name": "n", "LayerType": kind, "Inputs": list(inputs), "Outputs": [], **more}


def ten(text: str) -> dict[str, Any]:
    return {"Name": "t", "Location": "Device", "Dimensions": [1, 8, 4, 4], "Format/Datatype": text}


def eleven(text: str) -> dict[str, Any]:
    return {
        "Name": "t",
        "Dimensions": [1, 8, 4, 4],
        "Format": "Row major linear FP32 format (kLINEAR)",
        "Datatype": text,
    }


@pytest.mark.parametrize(
    ("described", "counted"),
    [
        (layer("CaskConvolution", ten("Half")), {"fp16": 1}),
        (layer("CaskConvolution", ten("Channel major FP16 format where channel % 8 == 0")), {"fp16": 1}),  # 8 and 10
        (layer("CaskConvolution", ten("Row major linear FP32 format")), {"fp32": 1}),
        (layer("CaskConvolution", ten("Int8"), ten("Half")), {"int8": 1}),  # and a residual in halves
        (layer("CaskConvolution", eleven("Half")), {"fp16": 1}),  # the format's FP32 is not the type
        (layer("CaskConvolution", eleven("BFloat16")), {"bf16": 1}),
        (layer("gemm", eleven("Float")), {"fp32": 1}),
        (layer("fusion", ten("Int8"), TacticName="sm80_xmma_gemm_i8i8_i8i32_f32_tn"), {"int8": 1}),
        (layer("kgen", ten("Half"), TacticName="__myl_AddRelu"), {}),  # no convolution, no product
        (layer("Reformat", ten("Float"), ParameterType="Reformat"), {}),
        (layer("Convert", ten("Float")), {}),
        (layer("MatrixMultiply", ten("Int32"), ten("Half")), {"fp16": 1}),  # indices say nothing
        (layer("CaskConvolution"), {"untyped": 1}),
        (layer("CaskConvolution", ten("N/A due to dynamic shapes")), {"untyped": 1}),
        (layer("CaskConvolution", eleven("N/A due to dynamic shapes")), {"untyped": 1}),
        (layer("Reformat", ten("N/A due to dynamic shapes")), {}),
    ],
)
def test_layers_are_counted_by_the_type_they_work_on(described: dict[str, Any], counted: dict[str, int]) -> None:
    assert read_count(json.dumps({"Layers": [described], "Bindings": ["visible"]})).layers == counted


def test_share() -> None:
    count = read_count(json.dumps({"Layers": [layer("conv", ten(text)) for text in ("Half", "Half", "Float", "Int8")]}))
    assert count.share("fp16") == 0.5
    assert count.share("bf16") == 0
    assert count.describe("fp16").endswith(
        "2 of 4 convolution and matrix layers of the engine in fp16 (others: fp32 1, int8 1)"
    )


def test_one_layer_that_is_told_does_not_speak_for_all() -> None:
    texts = ["Half", *["N/A due to dynamic shapes"] * 3]
    count = read_count(json.dumps({"Layers": [layer("CaskConvolution", ten(text)) for text in texts]}))
    assert count.share("fp16") == 0.25
    assert count.describe("fp16").startswith("1 of 4 ")
    assert count.describe("fp16").endswith(" in fp16 (others: untyped 3)")
