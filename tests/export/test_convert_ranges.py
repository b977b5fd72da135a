"""Ranges of values: those that really occurred, no narrower and no wider."""

from __future__ import annotations

import numpy as np
import pytest

from mdexport.convert.ranges import measure_ranges, too_large
from tests.export.graphs import SIDE, limits, make_graph, noise, scene, values

MAPS = ["sub_out", "first_out", "relu_out", "last_out"]


def test_ranges_are_the_smallest_and_the_largest_value() -> None:
    scenes = [noise(seed) for seed in range(3)]
    ranges = measure_ranges(make_graph(), scenes)
    found = [values(make_graph(), MAPS, of) for of in scenes]
    for name in MAPS:
        low, high = limits(ranges, name)
        assert low == pytest.approx(min(of[name].min() for of in found))
        assert high == pytest.approx(max(of[name].max() for of in found))


def test_more_scenes_never_narrow_a_range() -> None:
    few = measure_ranges(make_graph(), [noise(1)])
    more = measure_ranges(make_graph(), [noise(1), noise(2), scene(np.full((SIDE, SIDE), 255, np.uint8))])
    for name in MAPS:
        (low, high), (lower, higher) = limits(few, name), limits(more, name)
        assert lower <= low
        assert higher >= high
    assert limits(more, "relu_out") != limits(few, "relu_out")


def test_a_black_camera_widens_them_only_where_it_was_measured() -> None:
    """What `--degraded` is for: the mean-free image of a black camera lies outside the ranges of others."""
    bright = scene(np.full((SIDE, SIDE), 200, np.uint8))
    black = scene(np.zeros((SIDE, SIDE), np.uint8))
    assert limits(measure_ranges(make_graph(), [bright]), "sub_out")[0] > 0
    assert limits(measure_ranges(make_graph(), [bright, black]), "sub_out")[0] < 0


def test_scenes_are_shown_as_they_are_run() -> None:
    shown = []

    def show(scenes: object) -> object:
        for of in scenes:  # type: ignore[attr-defined]
            shown.append(of)
            yield of

    scenes = [noise(1), noise(2)]
    measure_ranges(make_graph(), scenes, show)  # type: ignore[arg-type]
    assert shown == scenes


def test_nodes_that_read_or_make_a_large_value() -> None:
    """The first map alone is large; what rescales it reads it, what follows does not."""
    small = make_graph({"first_w": np.full((4, 1, 3, 3), 10.0), "last_w": np.full((2, 4, 3, 3), 1e-4)})
    ranges = measure_ranges(small, [scene(np.full((SIDE, SIDE), 255, np.uint8))])
    largest = limits(ranges, "first_out")[1]
    assert largest > 20_000
    assert too_large(small, ranges, 20_000) == {"first", "relu", "resize", "last", "beside"}
    assert too_large(small, ranges, 2 * largest) == set()
    assert too_large(small, ranges, 100) == {"sub", "first", "relu", "resize", "last", "beside"}  # bytes always fit
