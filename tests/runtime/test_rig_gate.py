"""The energy gate obeys the manifest's threshold for the engine's own precision."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from mdrun.frames import Verdict
from mdrun.rig.gate import EnergyGate
from tests.runtime.engines import make_manifest


def gate(precision: str | None, energy: dict[str, float] | None, falls_back: bool = False) -> EnergyGate:
    manifest = make_manifest()
    origin = replace(manifest.origin, precision=precision)
    return EnergyGate(replace(manifest, origin=origin, energy=energy), falls_back)


@pytest.mark.parametrize(("precision", "limit"), [("fp32", -3.0), ("int8", -2.5)])
def test_the_threshold_is_that_of_the_precision(precision: str, limit: float) -> None:
    judge = gate(precision, {"fp32": -3.0, "int8": -2.5}).judge
    assert judge(limit) is Verdict.PASS
    assert judge(math.nextafter(limit, 0)) is Verdict.FLAG


def test_strange_may_fall_back_and_no_number_is_strange() -> None:
    judge = gate("fp32", {"fp32": -3.0}, falls_back=True).judge
    assert judge(-1.0) is Verdict.FALLBACK
    assert judge(math.nan) is Verdict.FALLBACK
    assert judge(-math.inf) is Verdict.FALLBACK


def test_without_energy_or_threshold_there_is_no_verdict() -> None:
    assert gate("fp32", {"fp32": -3.0}).judge(None) is None
    assert gate("fp16", {"fp32": -3.0}).judge(-9.0) is None
    assert gate("fp32", None).judge(-9.0) is None
