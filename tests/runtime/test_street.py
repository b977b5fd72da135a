"""The rendered street: the same for everybody, labelled truly, dark where it should be, warm where it should be."""

from __future__ import annotations

import subprocess
import sys
from functools import lru_cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mdrun.errors import UsageError
from mdrun.street import DETECTION_CLASSES, LABEL_NAMES, LABEL_PALETTE, Labels, Street, StreetConfig, random_config
from mdrun.street.scene import make_scene

PERSON_ID = 2


@lru_cache(maxsize=16)
def street(seed: int, time: str = "night", width: int = 320, height: int = 256) -> Street:
    return Street(StreetConfig(seed=seed, time=time, width=width, height=height))


def lonely_people(labels: Labels, tall: int) -> list[NDArray[np.float32]]:
    """Boxes of unhidden persons at least `tall` px high, away from the border and from every other box."""
    height, width = labels.label_map.shape
    found = []
    for i, box in enumerate(labels.boxes_xyxy):
        grown = box + np.array([-6, -6, 6, 6], np.float32)
        apart = [
            j != i and bool((grown[:2] < o[2:]).all() and (o[:2] < grown[2:]).all())
            for j, o in enumerate(labels.boxes_xyxy)
        ]
        inside = grown[0] > 0 and grown[1] > 0 and grown[2] < width and grown[3] < height
        if (
            labels.classes[i] == 0
            and labels.occlusion[i] == 0
            and inside
            and box[3] - box[1] >= tall
            and not any(apart)
        ):
            found.append(box)
    return found


def crop(image: NDArray[np.uint8], box: NDArray[np.float32], grow: int = 0) -> NDArray[np.uint8]:
    x0, y0, x1, y1 = (int(v) for v in box)
    return image[max(y0 - grow, 0) : y1 + grow, max(x0 - grow, 0) : x1 + grow]


MOMENTS = [(seed, float(t)) for seed in (1, 3, 8, 9) for t in np.linspace(0.0, 40.0, 9)]


def test_two_instances_give_the_same_bytes_in_any_order() -> None:
    config = StreetConfig(seed=5, time="dusk", width=160, height=128)
    one = Street(config)
    make_scene.cache_clear()
    two = Street(config)
    times = (0.0, 2.5, 0.7)
    first = {t: (one.visible(t), one.thermal(t), one.labels(t)) for t in times}
    for t in reversed(times):
        assert np.array_equal(two.thermal(t), first[t][1])
        assert np.array_equal(two.visible(t), first[t][0])
        assert np.array_equal(two.labels(t).label_map, first[t][2].label_map)
        assert np.array_equal(two.labels(t).boxes_xyxy, first[t][2].boxes_xyxy)


def test_both_cameras_of_a_street_share_its_scene() -> None:
    config = StreetConfig(seed=5, time="dusk", width=160, height=128)
    make_scene.cache_clear()
    Street(config), Street(config)
    assert make_scene.cache_info().misses == 1


def test_seeds_and_times_differ() -> None:
    assert not np.array_equal(street(1).visible(0), street(3).visible(0))
    assert not np.array_equal(street(1).visible(0), street(1).visible(0.5))
    assert not np.array_equal(street(1).thermal(0), street(1).thermal(0.5))


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    time=st.sampled_from(("day", "dusk", "night")),
    moment=st.floats(0, 1e5),
    size=st.sampled_from(((96, 64), (65, 83), (128, 96))),
)
def test_any_seed_at_any_time_has_its_form(seed: int, time: str, moment: float, size: tuple[int, int]) -> None:
    width, height = size
    scene = Street(StreetConfig(seed, time, width, height, thermal_width=32, thermal_height=24))
    visible, thermal, labels = scene.visible(moment), scene.thermal(moment), scene.labels(moment)
    assert visible.shape == (height, width, 3)
    assert thermal.shape == (24, 32)
    assert {str(a.dtype) for a in (visible, thermal, labels.label_map)} == {"uint8"}
    dtypes = [str(a.dtype) for a in (labels.boxes_xyxy, labels.classes, labels.occlusion)]
    assert dtypes == ["float32", "int64", "float32"]
    count = len(labels.classes)
    assert labels.boxes_xyxy.shape == (count, 4)
    assert labels.occlusion.shape == (count,)
    assert labels.label_map.shape == (height, width)
    x0, y0, x1, y1 = labels.boxes_xyxy.T
    assert (x0 >= 0).all()
    assert (y0 >= 0).all()
    assert (x1 <= width).all()
    assert (y1 <= height).all()
    assert (y1 - y0 >= 8).all()
    assert (x1 > x0).all()
    assert ((labels.occlusion >= 0) & (labels.occlusion <= 0.85 + 1e-6)).all()
    assert labels.label_map.max() < len(LABEL_NAMES)
    assert set(labels.classes.tolist()) <= set(range(len(DETECTION_CLASSES)))


def test_a_lonely_persons_box_is_the_extent_of_its_label_pixels() -> None:
    checked = 0
    for seed, t in MOMENTS:
        labels = street(seed).labels(t)
        for box in lonely_people(labels, 20):
            rows, columns = np.nonzero(crop(labels.label_map, box, grow=5) == PERSON_ID)
            tight = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) + (box[[0, 1, 0, 1]] - 5)
            assert np.abs(tight - box).max() <= 2, (seed, t, box)
            checked += 1
    assert checked >= 5


def test_all_nine_labels_and_three_classes_occur() -> None:
    labels = [street(seed).labels(t) for seed in (1, 3, 8, 9, 2, 4, 6, 7) for t in (0.0, 9.0)]
    assert set(np.unique(np.concatenate([np.unique(x.label_map) for x in labels])).tolist()) == set(range(9))
    assert set(np.concatenate([x.classes for x in labels]).tolist()) == {0, 1, 2}
    assert len(LABEL_PALETTE) == len(LABEL_NAMES) == 9


@pytest.mark.parametrize("seed", [1, 3, 8])
def test_the_street_stays_populated(seed: int) -> None:
    counts = np.array([np.bincount(street(seed).labels(t).classes, minlength=3) for t in np.linspace(0, 400, 9)])
    assert (counts[:, 0] >= 2).all()
    assert counts[:, 2].mean() >= 1


def test_cars_move_smoothly_and_people_do_not_jump() -> None:
    labels = [street(3).labels(t) for t in np.arange(0, 1.5, 1 / 30)]
    for before, after in pairwise(labels):
        for box in lonely_people(before, 25):
            people = after.boxes_xyxy[after.classes == 0]
            assert np.abs(people - box).max(axis=1).min() < 6


@pytest.mark.parametrize("seed", [1, 8])
def test_night_is_darker_than_dusk_and_dusk_than_day(seed: int) -> None:
    night, dusk, day = (float(street(seed, time).visible(1.0).mean()) for time in ("night", "dusk", "day"))
    assert night < dusk < day
    assert night < 0.6 * day


def test_people_are_warmer_than_the_ground_around_them_at_night() -> None:
    checked = 0
    for seed, t in MOMENTS:
        labels = street(seed).labels(t)
        thermal = street(seed).thermal_at(t, 320, 256, 0.0)
        for box in lonely_people(labels, 20):
            feet = box.copy()
            feet[1] = box[3] - 6
            body = crop(thermal, box)[crop(labels.label_map, box) == PERSON_ID]
            ground = crop(thermal, feet, grow=5)[crop(labels.label_map, feet, grow=5) == 0]
            assert body.mean() > ground.mean() + 15, (seed, t, box)
            checked += 1
    assert checked >= 5


def test_the_hottest_thermal_pixel_of_a_lonely_person_lies_in_the_visible_box() -> None:
    checked = 0
    for seed, t in MOMENTS:
        labels = street(seed).labels(t)
        thermal = street(seed).thermal_at(t, 160, 128, 0.0)
        for box in lonely_people(labels, 24):
            small = box / 2
            x0, y0 = (int(v) - 3 for v in small[:2])
            part = thermal[y0 : int(small[3]) + 3, x0 : int(small[2]) + 3]
            row, column = np.unravel_index(int(part.argmax()), part.shape)
            x, y = x0 + column + 0.5, y0 + row + 0.5
            assert small[0] - 1 <= x <= small[2] + 1, (seed, t, box)
            assert small[1] - 1 <= y <= small[3] + 1, (seed, t, box)
            checked += 1
    assert checked >= 4


def test_night_hides_from_the_visible_camera_what_the_thermal_one_shows() -> None:
    """Contrast of persons against their surroundings, visible over thermal, in grey levels."""
    seen: list[float] = []
    felt: list[float] = []
    for seed, t in MOMENTS:
        labels, scene = street(seed).labels(t), street(seed)
        grey, thermal = scene.visible(t).mean(axis=2), scene.thermal_at(t, 320, 256, 0.0)
        for box in lonely_people(labels, 20):
            inside = crop(labels.label_map, box, 5) == PERSON_ID
            for image, into in ((grey, seen), (thermal, felt)):
                part = crop(image, box, 5).astype(float)
                into.append(abs(part[inside].mean() - part[~inside].mean()))
    assert np.median(felt) > 2 * np.median(seen)


def test_the_shutter_repeats_the_last_image_and_then_moves_on() -> None:
    scene = Street(StreetConfig(seed=2, width=160, height=128, ffc_every_s=4.0, ffc_s=0.6))
    frames = [0.017 + k / 9 for k in range(60)]
    last_open = max(t for t in frames if t < 4.0)
    closed = [t for t in frames if scene.shutter_closed(t)]
    assert [t for t in closed if t < 8] == [t for t in frames if 4.0 <= t < 4.6]
    for t in closed[:4]:
        assert np.array_equal(scene.thermal(t), scene.thermal(last_open))
    opened = min(t for t in frames if t >= 4.6)
    assert not np.array_equal(scene.thermal(opened), scene.thermal(last_open))
    assert not scene.shutter_closed(0.0)


def test_noise_is_scaled_and_can_be_off() -> None:
    scene = street(1)
    clean, common, bad = (scene.thermal_at(1.0, 160, 128, n).astype(float) for n in (0.0, 1.0, 4.0))
    assert np.array_equal(scene.thermal_at(1.0, 160, 128, 0.0), clean)
    assert 0.3 < np.abs(common - clean).mean() < np.abs(bad - clean).mean()


def test_any_resolution_shows_the_same_scene() -> None:
    """Few pixels are the mean of many: the low-resolution image is the high-resolution one made small."""
    fine = street(1).thermal_at(2.0, 320, 256, 0.0).astype(float)
    coarse = street(1).thermal_at(2.0, 80, 64, 0.0).astype(float)
    mean = fine.reshape(64, 4, 80, 4).mean(axis=(1, 3))
    shifts = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    alike = {s: np.corrcoef(np.roll(mean, s, (0, 1)).ravel(), coarse.ravel())[0, 1] for s in shifts}
    assert max(alike, key=lambda s: alike[s]) == (0, 0)
    assert alike[0, 0] > 0.95


def test_random_configurations_vary_and_repeat() -> None:
    configs = [random_config(seed, 320, 256) for seed in range(40)]
    assert configs == [random_config(seed, 320, 256) for seed in range(40)]
    assert {c.time for c in configs} == {"day", "dusk", "night"}
    assert (configs[0].thermal_width, configs[0].thermal_height) == (80, 64)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"time": "noon"}, "noon"),
        ({"seed": -1}, "-1"),
        ({"width": 4}, "4 px"),
        ({"thermal_fps": 0.0}, "0.0 Hz"),
        ({"noise": -1.0}, "-1.0"),
        ({"ffc_every_s": 0.5, "ffc_s": 0.6}, "0.6 s every 0.5 s"),  # would never open
        ({"noise": float("nan")}, "nan"),
    ],
)
def test_impossible_configurations_are_refused(wrong: dict[str, object], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        StreetConfig(**wrong)  # type: ignore[arg-type]


def test_importing_mdrun_does_not_load_the_renderer() -> None:
    code = "import sys, mdrun; sys.exit(any(m in sys.modules for m in ('cv2', 'mdrun.street')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
