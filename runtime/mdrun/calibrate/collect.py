"""A few seconds of both cameras, live or recorded: what a calibration looks at."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdrun.errors import DataError, SourceTimeoutError, UsageError
from mdrun.frames import Frame, Modality, StateChange
from mdrun.rig.config import RigConfig, read_rigs
from mdrun.sources.base import NS_PER_MS, NS_PER_S, open_source

TimedImage = tuple[int, NDArray[Any]]  # capture time in nanoseconds, (h, w) grey
ImagePair = tuple[NDArray[Any], NDArray[Any]]  # (H, W, 3) visible RGB, (h, w) thermal

SKEW_MS = 60.0  # as pairing's own limit: half a period of a 9 Hz camera
MOTION_WIDTH = 160  # pixels: enough to see that a person moves, and 20 s fit into memory
PATIENCE_S = 15.0  # for the first image of both: longer than a camera that answers needs to connect
POLL_S = 0.2


def rig_of(visible: str | None, thermal: str | None, rig: Path | None) -> RigConfig:
    """The cameras that were named by their sources, or by a rig file.

    Raises:
        UsageError: neither, both, or several rigs in the file.
        RigError: the file cannot be used.
    """
    if rig is not None:
        if visible is not None or thermal is not None:
            raise UsageError("--rig names both cameras; leave --visible and --thermal out")
        rigs = read_rigs(rig)
        if len(rigs) != 1 or rigs[0].camera(Modality.THERMAL) is None:
            raise UsageError(f"{rig} has {len(rigs)} rigs; wanted one with a thermal camera")
        return rigs[0]
    if not visible or not thermal:
        raise UsageError("no cameras; give --visible and --thermal, or --rig")
    cameras = {"cam0": {"source": visible, "role": "visible"}, "cam1": {"source": thermal, "role": "thermal"}}
    return RigConfig.model_validate({"cameras": cameras})


def collect_motion(config: RigConfig, seconds: float) -> tuple[list[TimedImage], list[TimedImage]]:
    """Capture times and small grey images of some seconds, visible and thermal; without closed shutters.

    Raises:
        SourceError: a camera gives nothing.
        DataError: images that cannot belong to their camera.
    """
    kept: dict[Modality, list[TimedImage]] = {modality: [] for modality in Modality}
    for frame in _frames(config, seconds):
        if not frame.shutter:
            kept[frame.modality].append((frame.captured_ns, small_grey(frame.image)))
    return kept[Modality.VISIBLE], kept[Modality.THERMAL]


def collect_pairs(config: RigConfig, seconds: float, count: int) -> list[ImagePair]:
    """At most `count` pairs of images, evenly spread over some seconds, each captured at one moment.

    Raises:
        SourceError: a camera gives nothing.
        DataError: no two images belong together.
    """
    step_ns, due_ns = seconds * NS_PER_S / count, 0.0
    last: dict[Modality, Frame] = {}
    pairs: list[ImagePair] = []
    for frame in _frames(config, seconds):
        last[frame.modality] = frame
        if len(last) < 2 or frame.captured_ns < due_ns or frame.shutter:
            continue
        visible, thermal = last[Modality.VISIBLE], last[Modality.THERMAL]
        if abs(visible.captured_ns - thermal.captured_ns) <= SKEW_MS * NS_PER_MS:
            pairs.append((visible.image, thermal.image))
            due_ns = frame.captured_ns + step_ns
            if len(pairs) == count:
                break
    if not pairs:
        raise DataError(f"no visible and thermal image within {SKEW_MS:.0f} ms; run `mdrun calibrate time` first")
    return pairs


def read_boards(visible: str, thermal: str) -> list[ImagePair]:
    """Images of two folders in natural order, the first with the first; names need not agree.

    Raises:
        SourceError: a folder without images.
        DataError: images that cannot belong to their camera, or other numbers of them.
    """
    images = []
    for text, modality in ((visible, Modality.VISIBLE), (thermal, Modality.THERMAL)):
        with open_source(text, modality) as source:
            images.append([frame.image for frame in iter(source.read, None)])
    if len(images[0]) != len(images[1]):
        raise DataError(f"{len(images[0])} visible and {len(images[1])} thermal board images; wanted pairs")
    return list(zip(*images, strict=True))


def small_grey(image: NDArray[Any], width: int = MOTION_WIDTH) -> NDArray[Any]:
    """(h, w) grey and at most `width` pixels wide; 16 bits stay."""
    import cv2

    grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    if grey.shape[1] > width:
        height = max(1, round(grey.shape[0] * width / grey.shape[1]))
        grey = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(grey)


def _frames(config: RigConfig, seconds: float) -> Iterator[Frame]:
    """Frames of both cameras in the order of arrival, from the moment at which both have given one."""
    from mdrun.rig.cameras import open_feed

    started, said = time.monotonic(), ""
    first: dict[Modality, int] = {}
    with open_feed(config).feed as feed:
        while not feed.ended:
            event = feed.next(POLL_S)
            if isinstance(event, StateChange):
                said = event.message or said
            if isinstance(event, Frame):
                first.setdefault(event.modality, event.captured_ns)
                if event.captured_ns > max(first.values()) + seconds * NS_PER_S and len(first) == 2:
                    return
                yield event
            elif len(first) < 2 and time.monotonic() - started > PATIENCE_S:
                break
    if len(first) < 2:
        silent = " and ".join(modality.value for modality in Modality if modality not in first)
        raise SourceTimeoutError(f"no image of the {silent} camera{': ' + said if said else ''}; check its source")
