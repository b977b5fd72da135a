"""Labelled pairs for calibration and the parity gate, and students that were really trained on them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from mdexport.onnx_export import export_onnx
from mdexport.pairs import FEWEST
from mdtrain.data.sets.folders import write_lists
from mdtrain.recipes import baseline
from tests.training.test_classify import config_of as classify_config
from tests.training.test_recipes import tiny
from tests.training.test_segment import config_of
from tests.training.tree import write_class_folders, write_msrs

PERSON = 2  # of LABEL_CLASSES
SHORT = ("data.mosaic_share=0", "optimiser.learning_rate=0.003", "name=tiny")


class Made(NamedTuple):
    """A student of a short training that finds every person of its pairs, and what it was made of."""

    pairs: Path
    weights: Path
    engine: Path


def write_pairs(root: Path, pairs: int = FEWEST) -> Path:
    """MSRS' layout with label maps beside it, as the street has: `pairs` for training and as many to judge on."""
    lists = {"train": _names(1, pairs), "val": _names(101, pairs)}
    write_msrs(root, lists=lists)
    (root / "label_maps").mkdir()
    for name in (name for names in lists.values() for name in names):
        _, *box = (float(value) for value in (root / "labels" / "fusion" / f"{name}.txt").read_text().split())
        cx, cy, width, height = (value * side for value, side in zip(box, (160, 120, 160, 120), strict=True))
        label_map = np.zeros((120, 160), np.uint8)
        corners = (int(cx - width / 2), int(cy - height / 2)), (int(cx + width / 2), int(cy + height / 2))
        cv2.rectangle(label_map, *corners, PERSON, thickness=-1)
        cv2.imwrite(str(root / "label_maps" / f"{name}.png"), label_map)
    return root


def _names(first: int, count: int) -> tuple[str, ...]:
    return tuple(f"{first + index:05d}{'DN'[index % 2]}" for index in range(count))


def make_detector(folder: Path) -> Made:
    """150 steps: AP50 is 1 and the detections are confident."""
    pairs = write_pairs(folder / "data" / "msrs")
    config = tiny(folder, *SHORT, "optimiser.iterations=150", "evaluate_every=150")
    return _export(folder, pairs, baseline.train(config, folder / "run", "mdtrain train baseline").weights)


def make_segmenter(folder: Path) -> Made:
    pairs = write_pairs(folder / "street")
    config = config_of(pairs, *SHORT, "optimiser.iterations=60", "evaluate_every=60")
    return _export(folder, pairs, baseline.train(config, folder / "run", "mdtrain train baseline").weights)


def make_classifier(folder: Path) -> Made:
    """60 steps: it tells warm pairs from cold ones."""
    pairs = write_class_folders(folder / "data" / "folders", 2 * FEWEST)
    write_lists(pairs, 0.5, seed=0)
    settings = ("name=tiny", "optimiser.learning_rate=0.003", "optimiser.iterations=60", "evaluate_every=60")
    config = classify_config(pairs.parent, *settings)
    weights = baseline.train(config, folder / "run", "mdtrain train baseline").weights
    engine = folder / "tiny.onnx"
    export_onnx(weights, engine, str(pairs / "visible" / "warm"), str(pairs / "thermal" / "warm"), pairs=8)
    return Made(pairs, weights, engine)


def _export(folder: Path, pairs: Path, weights: Path) -> Made:
    engine = folder / "tiny.onnx"
    export_onnx(weights, engine, str(pairs / "vi"), str(pairs / "ir"), pairs=8)
    return Made(pairs, weights, engine)
