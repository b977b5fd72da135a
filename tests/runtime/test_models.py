"""The engine that runs where none is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mdrun.errors import EngineError, UsageError
from mdrun.manifest import Manifest
from mdrun.models import default, default_ladder
from tests.runtime.engines import make_manifest, write_areas, write_blob, write_constant


def test_the_default_is_the_detector_whatever_ships_beside_it(tmp_path: Path) -> None:
    detector = write_blob(tmp_path / "blob.onnx")
    assert default(tmp_path) == detector
    write_blob(tmp_path / "blob_int8.onnx", precision="int8")  # the same network for those who ask for it
    for name in ("areas", "zones"):  # before and behind it
        write_areas(tmp_path / f"{name}.onnx", name)
    assert default(tmp_path) == detector


def in_int8() -> Manifest:
    """Of a visible-only engine with one box."""
    manifest = make_manifest("alone", 1)
    return replace(manifest, origin=replace(manifest.origin, precision="int8"))


def test_a_detector_that_needs_no_thermal_image_stands_behind_the_default(tmp_path: Path) -> None:
    nothing = (np.zeros((1, 4), np.float32), np.zeros(1, np.float32), np.zeros(1, np.int32))
    alone = write_constant(tmp_path / "alone.onnx", *nothing)
    assert default_ladder(tmp_path) == [alone]
    both = write_blob(tmp_path / "both.onnx")
    assert default(tmp_path) == both
    assert default_ladder(tmp_path) == [both, alone]
    write_constant(tmp_path / "a_int8.onnx", *nothing, manifest=in_int8())
    assert default_ladder(tmp_path) == [both, alone]
    alone.unlink()
    assert default_ladder(tmp_path) == [both, tmp_path / "a_int8.onnx"]


@pytest.mark.parametrize("names", [(), ("areas",), ("areas", "blob0", "blob1")])
def test_without_a_single_detector_there_is_no_default(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (write_blob if name.startswith("blob") else write_areas)(tmp_path / f"{name}.onnx", name)
    listed = f"shipped: {', '.join(names)}" if names else "none ships"
    with pytest.raises(UsageError, match=rf"--engine is missing .*\({listed}"):
        default(tmp_path)


def test_a_damaged_engine_is_named(tmp_path: Path) -> None:
    write_blob(tmp_path / "blob.onnx")
    (tmp_path / "areas.onnx").write_bytes(b"\x08")
    with pytest.raises(EngineError, match=r"areas\.onnx"):
        default(tmp_path)
