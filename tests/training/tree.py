"""Tiny labelled sets in the true layouts, for tests that train or read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

NAMES = {"train": ("00001D", "00002N", "00003D", "00004N"), "val": ("00005D", "00006N")}


def write_msrs(root: Path, size: tuple[int, int] = (160, 120), lists: Mapping[str, Sequence[str]] = NAMES) -> Path:
    """An MSRS-like set: a warm person-shaped ellipse that only the thermal image sees clearly; `size` is (w, h)."""
    width, height = size
    rng = np.random.default_rng(0)
    for part in ("vi", "ir", "labels/fusion"):
        (root / part).mkdir(parents=True, exist_ok=True)
    for split, names in lists.items():
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
        cv2.imwrite(str(root / "vi_crop_hr" / f"{name}.jpg"), np.full((300, 1000, 3), (40, 90, 140), np.uint8))
        cv2.imwrite(str(root / "ir_crop" / f"{name}.jpg"), np.full((100, 200), 90, np.uint8))
    document = {name: {"ir_crop": [200, 100], "boxes_crop_xyxy": boxes} for name, boxes in entries.items()}
    (root / "annotations.json").write_text(json.dumps(document))
    return root


def write_pair(visible: Path, thermal: Path, size: tuple[int, int] = (64, 48)) -> None:
    """A plain pair of images; `size` is (w, h)."""
    for path, shape, value in ((visible, (size[1], size[0], 3), (40, 90, 140)), (thermal, (size[1], size[0]), 90)):
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full(shape, value, np.uint8))


def write_kaist(root: Path, labels: str = "annotations_sanitized") -> Path:
    """A day and a night frame in the layout of the KAIST toolbox; the first has a person and what is left out."""
    texts = {
        "set00/V000/I00001": "person 64 128 32 64 0 0 0 0 0 0 0\npeople 1 1 40 60 0 0 0 0 0 0 0\n"
        "cyclist 9 9 40 60 0 0 0 0 0 0 0\nperson 5 5 4 12 0 0 0 0 0 0 0\n",
        "set03/V001/I00041": "",
    }
    (root / "imageSets").mkdir(parents=True, exist_ok=True)
    (root / "imageSets" / "train.txt").write_text("".join(f"{frame}\n" for frame in texts))
    for frame, text in texts.items():
        video, name = frame.rsplit("/", 1)
        folder = root / "images" / video
        write_pair(folder / "visible" / f"{name}.jpg", folder / "lwir" / f"{name}.jpg")
        sensors = ("visible", "lwir") if labels == "annotations_paired" else ("",)
        for sensor in sensors:
            path = root / labels / video / sensor / f"{name}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            shifted = text.replace("person 64", "person 96") if sensor == "lwir" else text
            path.write_text(f"% bbGt version=3\n{shifted}")
    return root


VOC = (
    "<annotation><size><width>64</width><height>48</height><depth>3</depth></size>"
    "<object><name>{name}</name><bndbox><xmin>16</xmin><ymin>12</ymin><xmax>32</xmax><ymax>36</ymax></bndbox></object>"
    "<object><name>dog</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>"
)


def write_flir(root: Path) -> Path:
    """One pair of FLIR-aligned."""
    write_pair(root / "JPEGImages" / "FLIR_00002_RGB.jpg", root / "JPEGImages" / "FLIR_00002_PreviewData.jpeg")
    (root / "Annotations").mkdir()
    (root / "Annotations" / "FLIR_00002_PreviewData.xml").write_text(VOC.format(name="car"))
    (root / "align_train.txt").write_text("FLIR_00002_PreviewData\n")
    return root


def write_llvip(root: Path) -> Path:
    """One pair each for training and test."""
    (root / "Annotations").mkdir(parents=True, exist_ok=True)
    for part, name in (("train", "010001"), ("test", "190001")):
        write_pair(root / "visible" / part / f"{name}.jpg", root / "infrared" / part / f"{name}.jpg")
        (root / "Annotations" / f"{name}.xml").write_text(VOC.format(name="person"))
    return root


def write_coco(root: Path) -> Path:
    """Own pairs: a night frame with a pedestrian, an unknown class and a crowd, and a day frame with nothing."""
    for name in ("gate_1", "gate_2"):
        write_pair(root / "visible" / f"{name}.png", root / "thermal" / f"{name}.jpg")
    document = {
        "images": [
            {"id": 7, "file_name": "gate_1.png", "width": 64, "height": 48, "night": 1},
            {"id": 9, "file_name": "gate_2.png", "width": 64, "height": 48, "night": 0},
        ],
        "categories": [{"id": 1, "name": "Pedestrian"}, {"id": 2, "name": "tree"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 1, "bbox": [16, 12, 16, 24]},
            {"id": 2, "image_id": 7, "category_id": 2, "bbox": [1, 1, 9, 9]},
            {"id": 3, "image_id": 7, "category_id": 1, "bbox": [1, 1, 60, 40], "iscrowd": 1},
        ],
    }
    for split in ("train", "val"):
        (root / f"{split}.json").write_text(json.dumps(document))
    return root


def write_own(root: Path, pairs: int = 4, size: tuple[int, int] = (160, 120)) -> Path:
    """Own pairs with own categories: a bright `Forklift` of the visible image, a warm dog of the thermal one.

    `pairs` for training and as many to judge on; `size` is (w, h).
    """
    width, height = size
    rng = np.random.default_rng(0)
    for camera in ("visible", "thermal"):
        (root / camera).mkdir(parents=True, exist_ok=True)
    for split, first in (("train", 0), ("val", 100)):
        images, boxes = [], []
        for index in range(first, first + pairs):
            visible = rng.integers(0, 60, (height, width, 3), dtype=np.uint8)
            thermal = rng.integers(60, 90, (height, width), dtype=np.uint8)
            lift, dog = (int(rng.uniform(0.05, 0.15) * width), int(rng.uniform(0.55, 0.65) * width))
            box = [lift, height // 4, width // 4, height // 2]
            cv2.rectangle(visible, box, (30, 220, 220), thickness=-1)
            warm = [dog, height // 2, width // 4, height // 4]
            cv2.rectangle(thermal, warm, 220, thickness=-1)
            cv2.imwrite(str(root / "visible" / f"{index:03d}.png"), visible)
            cv2.imwrite(str(root / "thermal" / f"{index:03d}.png"), thermal)
            images.append({"id": index, "file_name": f"{index:03d}.png", "width": width, "height": height})
            boxes += [
                {"id": 2 * index + place, "image_id": index, "category_id": place, "bbox": bbox}
                for place, bbox in enumerate((box, warm))
            ]
        names = [{"id": 0, "name": "Forklift"}, {"id": 1, "name": "dogs"}, {"id": 2, "name": "people"}]
        document = {"images": images, "categories": names, "annotations": boxes}
        (root / f"{split}.json").write_text(json.dumps(document))
    return root


def write_counts(root: Path) -> Path:
    """Own pairs whose thermal images are 16-bit counts: a ramp, noise and a warm person."""
    write_coco(root)
    rng = np.random.default_rng(0)
    for name in ("gate_1", "gate_2"):
        (root / "thermal" / f"{name}.jpg").unlink()
        counts = 7500 + 3 * np.arange(64) + rng.integers(0, 40, (48, 64))
        counts[12:36, 16:32] += 600
        cv2.imwrite(str(root / "thermal" / f"{name}.png"), counts.astype(np.uint16))
    return root


def write_class_folders(root: Path, pairs: int = 4, size: tuple[int, int] = (160, 120)) -> Path:
    """Own pairs in a folder a class, no lists: `warm` ones have a body that only the thermal image sees, `cold` none.

    Visible images are PNG files, thermal ones JPEG; `pairs` of each class, `size` is (w, h).
    """
    width, height = size
    rng = np.random.default_rng(0)
    for kind in ("cold", "warm"):
        for camera in ("visible", "thermal"):
            (root / camera / kind).mkdir(parents=True, exist_ok=True)
        for index in range(pairs):
            visible = rng.integers(0, 60, (height, width, 3), dtype=np.uint8)
            thermal = rng.integers(60, 90, (height, width), dtype=np.uint8)
            if kind == "warm":
                centre = int(rng.uniform(0.3, 0.7) * width), int(rng.uniform(0.4, 0.6) * height)
                cv2.ellipse(thermal, centre, (width // 6, height // 4), 0, 0, 360, 220, thickness=-1)
            cv2.imwrite(str(root / "visible" / kind / f"{index:03d}.png"), visible)
            cv2.imwrite(str(root / "thermal" / kind / f"{index:03d}.jpg"), thermal)
    return root


MFNET_LISTS = {
    "train": ("00001D", "00002N", "00001D_flip"),
    "val": ("00003D", "00004N"),
    "test": ("00005D", "00006N"),
    "test_day": ("00005D",),
    "test_night": ("00006N",),
}


def write_mfnet(root: Path, size: tuple[int, int] = (64, 48)) -> Path:
    """MFNet's layout: a red car and a warm person, each a rectangle, on what is unlabelled; `size` is (w, h)."""
    width, height = size
    for part in ("images", "labels"):
        (root / part).mkdir(parents=True, exist_ok=True)
    for split, names in MFNET_LISTS.items():
        (root / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
        for name in names:
            labels = np.zeros((height, width), np.uint8)
            labels[height // 2 :, : width // 2] = 1
            labels[height // 4 :, width * 3 // 4 :] = 2
            if name.endswith("_flip"):
                labels = labels[:, ::-1].copy()
            pair = np.full((height, width, 4), (40, 60, 80, 50), np.uint8)  # BGR and thermal
            pair[labels == 1, :3] = (30, 60, 230)
            pair[labels == 2, 3] = 220
            cv2.imwrite(str(root / "images" / f"{name}.png"), pair)
            cv2.imwrite(str(root / "labels" / f"{name}.png"), labels)
    return root
