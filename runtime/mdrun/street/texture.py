"""Noise that tiles, and soft edges: the materials of roads, walls and leaves."""

from __future__ import annotations

import cv2
import numpy as np

from mdrun.street.arrays import Floats


def value_noise(rng: np.random.Generator, size: int, cells: int, octaves: int = 3) -> Floats:
    """Tileable value noise, (size, size) float32 with mean 0.5, about 0 to 1; `cells` across in the first octave."""
    total = np.zeros((size, size), np.float32)
    weight = 1.0
    for octave in range(octaves):
        n = min(cells << octave, size)
        pad = 3
        grid = np.pad(rng.random((n, n), dtype=np.float32), pad, mode="wrap")
        step = size / n
        big = cv2.resize(grid, None, fx=step, fy=step, interpolation=cv2.INTER_CUBIC)
        edge = round(pad * step)
        total += weight * (cv2.resize(big[edge : edge + size, edge : edge + size], (size, size)) - 0.5)
        weight *= 0.55
    return (0.5 + total / max(float(total.std()) * 5.0, 1e-6)).astype(np.float32)


def sample(tile: Floats, x: Floats, y: Floats) -> Floats:
    """Look a tile up at (x, y), in tile widths, repeating for ever."""
    size = tile.shape[0]
    column = (np.mod(x, 1.0) * size).astype(np.float32)
    row = (np.mod(y, 1.0) * size).astype(np.float32)
    return np.asarray(cv2.remap(tile, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP), np.float32)


def band(x: Floats, low: float | Floats, high: float | Floats, footprint: Floats) -> Floats:
    """Share of a pixel of width `footprint` at `x` that lies between `low` and `high`."""
    left = np.clip((x - low) / footprint + 0.5, 0, 1)
    right = np.clip((high - x) / footprint + 0.5, 0, 1)
    return np.asarray(left * right, np.float32)


def stripes(x: Floats, period: float, fill: float, footprint: Floats) -> Floats:
    """Share of a pixel covered by stripes: `fill` of every `period`; far away their mean."""
    phase = np.mod(x, period).astype(np.float32)
    near = band(phase, 0.0, period * fill, footprint)
    blur = np.clip(footprint / period, 0, 1)
    return np.asarray(near * (1 - blur) + fill * blur, np.float32)


def smoothstep(low: float, high: float, x: Floats) -> Floats:
    """Smooth ramp from 0 at `low` to 1 at `high`."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)
