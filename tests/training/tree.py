"""Tiny labelled sets in the true layouts, for tests that train or read."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

NAMES = {"train": ("00001D", "00002N", "00003D", "00004N"), "val": ("00005D", "00006N")}


def write_msrs(root: Path, size: tuple[int, int] = (160, 120)) -> Path:
    """An MSRS-like set: a warm person-shaped ellipse that only the thermal image sees clearly; `size` is (w, h)."""
    width, height = size
    rng = np.random.default_rng(0)
    for part in ("vi", "ir", "labels/fusion"):
        (root / part).mkdir(parents=True, exist_ok=True)
    for split, names in NAMES.items():
        (root / f"{split}.txt").write_text("\n".join(names))
        for name in names:
            visible = rng.integers(0, 60, (height, width, 3), dtype=np.uint8)
            thermal = rng.integers(60, 90, (height, width), dtype=np.uint8)
            cx, cy = int(rng.uniform(0.3, 0.7) * width), int(rng.uniform(0.4, 0.6) * height)
            cv2.ellipse(thermal, (cx, cy), (width // 20, height // 5), 0, 0, 360, 220, thickness=-1)
            cv2.imwrite(str(root / "vi" / f"{name}.jpg"), visible)
            cv2.imwrite(str(root / "ir" / f"{name}.jpg"), thermal)
            label = f"0 {cx / width:.4f} {cy / height:.4f} 0.1000 0.4000\n"
            (root / "labels" / "fusion" / f"{name}.txt").write_text(label)
    return root


def write_roadscene(root: Path) -> Path:
    """A RoadScene-like set: one pair with boxes, one without (no negative), one with a class that is not learnt."""
    for part in ("vi_crop_hr", "ir_crop"):
        (root / part).mkdir(parents=True, exist_ok=True)
    entries = {
        "FLIR_00001": [[1, 10.0, 20.0, 30.0, 80.0, 0.0], [3, 50.0, 50.0, 90.0, 80.0, 0.1]],
        "FLIR_00002": [],
        "FLIR_00003": [[17, 10.0, 20.0, 30.0, 80.0, 0.0]],
    }
    for name in entries:
        cv2.imwrite(str(root / "vi_crop_hr" / f"{name}.jpg"), np.full((300, 1000, 3), 90, np.uint8))
        cv2.imwrite(str(root / "ir_crop" / f"{name}.jpg"), np.full((100, 200), 90, np.uint8))
    document = {name: {"ir_crop": [200, 100], "boxes_crop_xyxy": boxes} for name, boxes in entries.items()}
    (root / "annotations.json").write_text(json.dumps(document))
    return root
