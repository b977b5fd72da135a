"""RoadScene: 640x512 thermal frames, the crops that were made of them, and the known homography between both."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from mdrun.calibrate.imports import Choice, import_calibration
from mdrun.registration import Registration


@pytest.mark.realdata
def test_a_known_homography_makes_the_known_image(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "rgbt" / "roadscene"
    entries = json.loads((folder / "annotations.json").read_text())
    names = [name for name in entries if (folder / "ir_full" / f"{name}.jpg").exists()][:12]
    registered, stretched, differences = [], [], []
    for name in names:
        entry = entries[name]
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps({"H_full_to_crop": entry["H_full_to_crop"]}))
        sizes = Choice(visible_size=tuple(entry["ir_crop"]), thermal_size=tuple(entry["ir_full"]))
        registration = import_calibration(path, sizes)
        full = np.asarray(cv2.imread(str(folder / "ir_full" / f"{name}.jpg"), cv2.IMREAD_GRAYSCALE))
        crop = np.asarray(cv2.imread(str(folder / "ir_crop" / f"{name}.jpg"), cv2.IMREAD_GRAYSCALE))
        size = (crop.shape[1], crop.shape[0])
        aligned = registration.align(full, size)
        assert registration.coverage > 0.99
        registered.append(np.corrcoef(aligned.ravel(), crop.ravel())[0, 1])
        plain = Registration.identity(registration.visible_size, registration.thermal_size).align(full, size)
        stretched.append(np.corrcoef(plain.ravel(), crop.ravel())[0, 1])
        differences.append(np.median(np.abs(aligned.astype(int) - crop)))
    assert len(names) == 12
    assert min(registered) > 0.99  # measured: 0.995 to 0.999
    assert np.median(stretched) < 0.8  # measured: 0.62
    assert max(differences) <= 4  # grey levels; both are JPEG
