"""The shipped detector on real pairs by day and by night: what half precision and INT8 really cost."""

from __future__ import annotations

from pathlib import Path

import pytest

from mdexport.convert.int8 import Target
from mdexport.fp16 import convert_half
from mdexport.int8 import Calibrated, Calibration, calibrate, convert_int8
from mdexport.pairs import PairSet, parse_pairs
from mdexport.proof import Ready, prepare
from mdrun.manifest import Parity
from tests.export.plan_models import SHIPPED

pytestmark = [pytest.mark.realdata, pytest.mark.slow]


@pytest.fixture(scope="module")
def msrs(real_data: Path) -> PairSet:
    return parse_pairs(str(real_data / "rgbt" / "msrs"))


@pytest.fixture(scope="module")
def shipped(msrs: PairSet) -> Ready:
    return prepare(SHIPPED, msrs)


@pytest.fixture(scope="module")
def calibrated(shipped: Ready, msrs: PairSet) -> Calibrated:
    return calibrate(shipped, Calibration(msrs, degraded=True).read(shipped.engine.manifest))


def losses(parity: Parity | None) -> dict[str, float]:
    assert parity is not None
    assert parity.passed
    assert parity.metrics["person/ap50"].reference > 0.7
    return {name: change.reference - change.engine for name, change in parity.metrics.items()}


@pytest.mark.parametrize("half", ["fp16", "bf16"])
def test_half_precision_costs_three_thousandths_at_most(half: str, shipped: Ready, tmp_path: Path) -> None:
    manifest = convert_half(shipped, tmp_path / "half.onnx", "fp16" if half == "fp16" else "bf16")
    assert max(losses(manifest.parity).values()) <= 0.003
    assert manifest.origin.kept == []


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
def test_int8_costs_a_hundredth_at_most(target: Target, shipped: Ready, calibrated: Calibrated, tmp_path: Path) -> None:
    manifest = convert_int8(shipped, tmp_path / "int8.onnx", calibrated, target)
    assert max(losses(manifest.parity).values()) <= 0.01
    times = "(32 by day, 32 by night)"
    described = f"64 pairs of msrs train {times}, some also with a failing camera, for {target}"
    assert manifest.origin.calibration == described
