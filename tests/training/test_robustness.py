from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib import pyplot as plt
from numpy.typing import NDArray

from mdrun.command import run_command
from mdrun.street import Street, random_config
from mdtrain.cli import mdtrain
from mdtrain.data.records import CLASSES
from mdtrain.data.street_set import write_street_set
from mdtrain.metrics.robustness import (
    BLACKOUTS,
    MEASURES,
    SHIFTS_PX,
    SKEWS_MS,
    Image,
    Outcome,
    black_side,
    black_surround,
    draw_curves,
    shifted,
    skewed_scenes,
)
from tests.runtime.engines import VISIBLE_WH, WARM, write_areas, write_blob
from tests.training.evaluating import Eval, refused
from tests.training.test_evaluate_cli import write_engine
from tests.training.tree import write_mfnet, write_msrs


def test_a_third_of_the_width_is_black() -> None:
    image = np.full((48, 60, 3), 200, np.uint8)
    left, right = black_side(image, left=True), black_side(image, left=False)
    assert (left[:, :20] == 0).all()
    assert (left[:, 20:] == 200).all()
    np.testing.assert_array_equal(right, left[:, ::-1])
    assert (image == 200).all()  # the original is left alone


def test_the_surround_is_that_of_the_published_code() -> None:
    """120 of 640 columns and 96 of 512 rows on each edge."""
    kept = black_surround(np.full((512, 640), 7, np.uint8))
    assert (kept[96:-96, 120:-120] == 7).all()
    assert kept.sum() == 7 * (512 - 2 * 96) * (640 - 2 * 120)


@pytest.mark.parametrize("condition", BLACKOUTS)
def test_sides_never_black_the_same_place_in_both_images(condition: str) -> None:
    visible, thermal = np.full((48, 60, 3), 9, np.uint8), np.full((24, 30), 9, np.uint8)
    seen, warm = BLACKOUTS[condition](visible, thermal)
    dark = (seen[::2, ::2, 0] == 0) & (warm == 0)
    assert not dark.any()
    assert (condition == "none") == bool((seen == 9).all() and (warm == 9).all())


def test_a_shift_moves_the_thermal_image_by_pixels_of_the_visible_one() -> None:
    """A dot in a thermal image of half the size moves by half as many of its own pixels."""
    visible, thermal = np.zeros((96, 128, 3), np.uint8), np.zeros((48, 64), np.uint8)
    thermal[24, 32] = 255
    alter = shifted(8.0)
    for _ in range(5):
        same, moved = alter(visible, thermal)
        assert same is visible
        weight = moved.astype(float)
        y, x = (float((weight * axis).sum() / weight.sum()) for axis in np.mgrid[:48, :64])
        assert np.hypot(y - 24, x - 32) == pytest.approx(4.0, abs=0.1)
    np.testing.assert_array_equal(shifted(0.0)(visible, thermal)[1], thermal)


@pytest.mark.slow
def test_dusk_counts_as_night_here_and_in_drawn_sets(tmp_path: Path) -> None:
    seeds = {random_config(seed * 100_003, 640, 480).time: seed for seed in range(20)}
    assert set(seeds) == {"day", "dusk", "night"}
    for time, seed in seeds.items():
        ((skewed,),) = skewed_scenes(1, (0,), seed).values()
        (name,) = write_street_set(tmp_path / time, scenes=1, seed=seed)
        assert (skewed.night, name[-1]) == ((False, "D") if time == "day" else (True, "N"))


def test_skewed_scenes_differ_in_the_thermal_image_alone() -> None:
    scenes = skewed_scenes(2, (0, 200))
    for now, late in zip(scenes[0], scenes[200], strict=True):
        assert now.visible is late.visible
        np.testing.assert_array_equal(now.boxes, late.boxes)
    assert any((now.thermal != late.thermal).any() for now, late in zip(scenes[0], scenes[200], strict=True))


def test_the_command_measures_every_condition_and_draws(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data, plot = write_msrs(tmp_path / "msrs"), tmp_path / "plots" / "loss.png"
    engine = write_engine(tmp_path / "hottest.onnx", ["car", "person"])
    arguments = ["eval", "robustness", "--data", str(data), "--engine", str(engine), "--scenes", "1", "--json"]
    assert run_command(mdtrain, "mdtrain", [*arguments, "--plot", str(plot)]) == 0
    outcomes = json.loads(capfd.readouterr().out)
    assert len(outcomes) == len(BLACKOUTS) + len(SHIFTS_PX) + len(SKEWS_MS)
    assert {outcome["group"] for outcome in outcomes} == {"blackout", "misalignment", "skew"}
    assert outcomes[0]["scores"]["all"]["images"] == 2
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert run_command(mdtrain, "mdtrain", [*arguments[:-2], "0"]) == 0
    assert "thermal black" in capfd.readouterr().out
    assert run_command(mdtrain, "mdtrain", ["eval", "robustness", "--data", str(data), "--engine", "none.onnx"]) == 3


@pytest.mark.slow
def test_the_plot_shows_blackouts_as_bars(tmp_path: Path) -> None:
    """Only the upper panel changes with a blackout's accuracy; what a set lacks is left out, its colours stay."""

    def draw(name: str, black: float, car: float | None, *, lines: bool = True) -> NDArray[np.uint8]:
        outcomes = []
        for group, conditions in (("blackout", BLACKOUTS), ("misalignment", SHIFTS_PX), ("skew", SKEWS_MS)):
            for condition in conditions:
                person = black if condition == "thermal black" else 0.9
                classes = {
                    kind: {"ap50": value} for kind, value in (("person", person), ("bicycle", None), ("car", car))
                }
                scores = {key: {"classes": classes} for key in ("all", "day", "night")}
                value = 0.0 if isinstance(condition, str) else float(condition)
                outcomes.append(Outcome(group, str(condition), value, scores))
        drawn = [outcome for outcome in outcomes if lines or outcome.group == "blackout"]
        draw_curves("detect", drawn, "engine on set", tmp_path / name)
        image = cv2.imread(str(tmp_path / name))
        assert image is not None
        return np.asarray(image[..., ::-1], np.uint8)

    def share(image: NDArray[np.uint8], colour: tuple[int, int, int]) -> float:
        return float((image == colour).all(axis=2).mean())

    blue, green = (31, 119, 180), (44, 160, 44)  # person and car, the first and third of the cycle
    high, low = draw("high.png", 0.9, 0.5), draw("low.png", 0.1, 0.5)
    changed = np.flatnonzero((high != low).any(axis=(1, 2)))
    half = len(high) // 2
    assert len(changed) > 100
    assert changed.max() < half
    assert share(high[:half], blue) > share(low[:half], blue) > 0.05
    persons = draw("persons.png", 0.9, None)
    assert share(persons[:half], blue) > 1.9 * share(high[:half], blue)  # its bars take the room
    assert share(persons, green) == 0
    bare = draw("bare.png", 0.9, 0.5, lines=False)
    assert len(np.unique(bare[half + 60 : -60])) == 1  # nothing was measured there


@pytest.mark.parametrize("rated", [False, True])
def test_the_plot_shows_miss_rates_where_pairs_have_them(
    rated: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """KAIST's by all, day and night; drawn scenes never have one, nor has a list without a pair by night."""
    plain = {key: {"classes": {kind: {"ap50": 0.5} for kind in CLASSES}} for key in ("all", "day", "night")}
    rates = {"miss_rate": {"all": 0.2, "day": 0.3, "night": None}} if rated else {}
    outcomes = [
        Outcome(group, "none", 0, plain if group == "skew" else plain | rates)
        for group in ("blackout", "misalignment", "skew")
    ]
    monkeypatch.setattr(plt, "close", lambda _: None)
    draw_curves("detect", outcomes, "engine on set", tmp_path / "plot.png")
    told = {axis.get_title().split()[0]: axis for axis in plt.gcf().axes}
    monkeypatch.undo()
    plt.close("all")
    name = "miss rate, lower is better" if rated else "AP50"
    curves = ["miss rate", "MR by day"] if rated else list(CLASSES)
    assert {group: axis.get_ylabel() for group, axis in told.items()} == {
        "blackout": name,
        "misalignment": name,
        "skew": "AP50",
    }
    assert [told[group].get_legend_handles_labels()[1] for group in told] == [curves, curves, list(CLASSES)]


def test_skewed_scenes_have_the_label_map_of_the_visible_image() -> None:
    for late in skewed_scenes(1, (200,))[200]:
        index = int(late.name)
        street = Street(random_config(9 * 100_003 + index, 640, 480))
        time_s = 1.0 + float(np.random.default_rng((9, index)).uniform(0, 30))
        np.testing.assert_array_equal(late.label_map, street.labels(time_s).label_map)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Eval:
    return Eval(capsys)


@pytest.fixture
def mfnet(tmp_path: Path) -> Path:
    """A red car and a warm person by day and by night, as the engine of `write_areas` sees them."""
    return write_mfnet(tmp_path / "mfnet", VISIBLE_WH)


@pytest.fixture
def areas(tmp_path: Path) -> Path:
    return write_areas(tmp_path / "areas.onnx")


@pytest.mark.slow
def test_label_maps_under_every_condition(run: Eval, mfnet: Path, areas: Path, tmp_path: Path) -> None:
    plot = tmp_path / "loss.png"
    data = ("robustness", "--data", mfnet, "--engine", areas, "--scenes", "1")
    outcome = run(*data, "--plot", plot, "--json")
    assert outcome.code == 0, outcome.err
    outcomes = {entry["condition"]: entry for entry in outcome.json}
    assert len(outcomes) == len(BLACKOUTS) + len(SHIFTS_PX) + len(SKEWS_MS)
    assert [outcomes["16 px"]["value"], outcomes["200 ms"]["value"]] == [16, 200]

    def accuracy(condition: str, name: str, group: str = "all") -> float:
        return float(outcomes[condition]["scores"][group]["classes"][name]["accuracy"])

    for group in ("all", "day", "night"):
        assert outcomes["none"]["scores"][group]["mean_accuracy"] == pytest.approx(3 / 9)
        assert (accuracy("visible black", "person", group), accuracy("visible black", "car", group)) == (1, 0)
        assert (accuracy("thermal black", "person", group), accuracy("thermal black", "car", group)) == (0, 1)
    # the car fills the left half, a third of the width is black; the person the right quarter, all of it black
    half = "left of visible, right of thermal black"
    assert accuracy(half, "car") == pytest.approx(1 / 3, abs=0.02)
    assert accuracy(half, "person") == 0
    shifted_by = [accuracy(f"{pixels} px", "person") for pixels in SHIFTS_PX]
    assert shifted_by[0] == 1
    assert shifted_by[-1] < shifted_by[1] < 1
    image = cv2.imread(str(plot))
    assert image is not None
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 3


def test_the_table_of_label_maps(run: Eval, mfnet: Path, areas: Path) -> None:
    outcome = run("robustness", "--data", mfnet, "--engine", areas, "--scenes", "0", "--thermal-size", "32x24")
    words = " ".join(outcome.out.split())
    assert words.startswith("Acc (recall) in % of areas, mfnet test, thermal at 32x24 mean over all 9 classes")
    assert "condition ┃ mean ┃ by day ┃ by night ┃ person ┃ car" in words
    assert "ms rows" not in words
    row = next(line for line in outcome.out.splitlines() if "visible black" in line)
    assert row.replace("│", " ").split() == ["visible", "black", "22.2", "22.2", "22.2", "100.0", "0.0"]


@pytest.mark.slow
def test_late_thermal_images_cost_label_maps_something(run: Eval, tmp_path: Path, areas: Path) -> None:
    """The engine's persons are what is warm: the older the thermal image, the fewer of their pixels it covers."""
    scenes = skewed_scenes(6, (0, 200))
    warmest = {age: MEASURES["segment"].judge(areas, records, None, hot) for age, records in scenes.items()}
    now, late = (warmest[age]["all"]["classes"]["person"]["accuracy"] for age in (0, 200))
    assert now > late > 0


def hot(visible: Image, thermal: Image) -> tuple[Image, Image]:
    """Stretches a thermal image so that its warmest twentieth is above the engine's limit."""
    limit = max(float(np.quantile(thermal, 0.95)), 1.0)
    return visible, np.clip(thermal * (WARM / limit), 0, 255).astype(np.uint8)


@pytest.mark.slow
def test_a_street_is_read_by_name_and_by_option(run: Eval, tmp_path: Path, areas: Path) -> None:
    list(write_street_set(tmp_path / "street", scenes=1, seed=0, validation=1))
    by_name = run("robustness", "--data", tmp_path / "street", "--engine", areas, "--scenes", "0", "--json")
    assert by_name.code == 0, by_name.err
    (tmp_path / "street").rename(tmp_path / "night")
    data = ("robustness", "--data", tmp_path / "night", "--engine", areas, "--scenes", "0", "--json")
    assert run(*data, "--set", "street").json == by_name.json
    refused(run(*data), 2, "its name 'night' is no layout with label maps", "--set: mfnet or street")
    detector = write_blob(tmp_path / "blob.onnx")
    boxes = run("robustness", "--data", tmp_path / "night", "--engine", detector, "--set", "street", "--scenes", "0")
    assert "AP50 of blob, night val ┏" in " ".join(boxes.out.split())  # no word of ms rows, which are not there
    for path in (tmp_path / "night" / "label_maps").iterdir():
        path.unlink()
    (tmp_path / "night" / "label_maps").rmdir()
    refused(run(*data, "--set", "street"), 5, "has no label_maps/")


def test_bad_input(run: Eval, mfnet: Path, areas: Path, tmp_path: Path) -> None:
    msrs = write_msrs(tmp_path / "msrs")
    detector = write_blob(tmp_path / "blob.onnx")
    data = ("robustness", "--data", mfnet, "--engine")
    refused(run(*data, detector, "--set", "mfnet"), 2, "--set mfnet, which has no boxes to judge blob by", "street")
    refused(run(*data, detector), 4, "00003D.txt")  # read as msrs
    refused(run(*data, areas, "--set", "msrs"), 2, "--set msrs, which has no label maps", "mfnet or street")
    refused(run("robustness", "--data", msrs, "--engine", areas), 2, "'msrs' is no layout with label maps")
    refused(run(*data, areas, "--set", "kaist"), 2, "--set kaist, which has no label maps", "mfnet or street")
    refused(run(*data, areas, "--set", "folders"), 2, "kaist", "msrs", "mfnet", "street")
    refused(run(*data, areas, "--split", "dusk"), 4, "dusk.txt", "lists that are there: test, test_day, test_night")
    refused(run(*data, areas, "--labels", "fusion"), 2, "got --labels fusion for mfnet")
    refused(run(*data, areas, "--scenes", "-1"), 2, "--scenes")
    refused(run(*data, tmp_path / "none.onnx"), 3, "none.onnx")
    refused(run(*data, areas, "--plot", tmp_path), 6, "is a folder")
