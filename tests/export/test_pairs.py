"""Pairs for calibration and for the gate: which are chosen, what becomes of them, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mdexport.int8 import Calibration
from mdexport.pairs import (
    ALTERED_EVERY,
    FEWEST,
    INTACT,
    PairSet,
    Scene,
    altered,
    count_different,
    intact,
    parse_pairs,
    refuse_blank,
    refuse_shared,
    spread,
)
from mdexport.proof import gate_scenes
from mdexport.recordings import Recording
from mdrun.errors import DataError, MdrunError, SourceError, UsageError
from mdtrain.data.records import ImageFile, Record, make_record
from tests.export.labelled import write_pairs
from tests.runtime.engines import make_manifest

BOTH = make_manifest(thermal_wh=(32, 24))
VISIBLE = make_manifest()


def record(name: str, night: bool | None = None) -> Record:
    return make_record(name, (Path("vi"), Path("ir")), np.zeros((0, 4)), np.zeros(0, np.int64), night=night)


def in_memory(visible_wh: tuple[int, int], thermal_wh: tuple[int, int], value: int = 0) -> Record:
    """A pair of plain images; red is `value`, so is the thermal image."""
    visible = np.zeros((visible_wh[1], visible_wh[0], 3), np.uint8)
    visible[..., 0] = value
    thermal = np.full(thermal_wh[::-1], value, np.uint8)
    files = ImageFile(Path("vi/a.png"), colour=True, kept=visible), ImageFile(Path("ir/a.png"), False, kept=thermal)
    return replace(record("a"), visible_file=files[0], thermal_file=files[1])


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs") / "mine")


@pytest.mark.parametrize(
    ("folder", "inside", "text", "name"),
    [
        ("msrs", [], "msrs", "msrs"),  # the name alone
        ("rgbt/kaist", [], "rgbt/kaist", "kaist"),
        ("mine", ["vi", "ir"], "mine", "msrs"),  # what is in it
        ("mine", ["vi", "ir", "label_maps"], "mine", "street"),
        ("msrs", ["vi", "ir", "label_maps"], "street=msrs", "street"),  # said so, whatever the name
        ("mine", [], "coco=mine", "coco"),
        ("a=b", ["vi", "ir"], "a=b", "msrs"),  # an equals sign in a folder's name
        ("street", [], "street/", "street"),
    ],
)
def test_the_layout_is_named_or_seen(
    folder: str, inside: list[str], text: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for part in (".", *inside):
        Path(folder, part).mkdir(parents=True, exist_ok=True)
    assert parse_pairs(text) == PairSet(name, Path(folder))  # type: ignore[arg-type]  # one of the names


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nowhere", "nowhere: no such folder, wanted labelled pairs"),
        ("msrs=nowhere", "nowhere: no such folder"),
        ("mine", r"mine: its layout is not known .* say which of msrs, .* it has: msrs=mine"),
        ("yolo=mine", r"yolo=mine: yolo is no set, wanted one of msrs, .*street$"),
        ("file", "file: no such folder"),
    ],
)
def test_what_is_no_set_is_refused(text: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine", "vi").mkdir(parents=True)
    Path("file").touch()
    with pytest.raises(UsageError, match=words):
        parse_pairs(text)


def test_reports_do_not_say_where_the_exporting_machine_has_its_pairs() -> None:
    assert str(PairSet("msrs", Path("/home/somebody/data/msrs"))) == "msrs"
    assert str(PairSet("street", Path("/home/somebody/drawn"))) == "street drawn"


def test_reports_name_the_kind_of_boxes_of_a_set_with_several() -> None:
    pairs = PairSet("kaist", Path("/data/kaist"))
    assert pairs.describe("val", "detect") == "kaist val, sanitized labels"
    assert pairs._replace(labels="paired").describe("val", "detect") == "kaist val, paired labels"
    assert pairs.describe("val", "segment") == "kaist val"
    assert PairSet("llvip", Path("/data/llvip")).describe("val", "detect") == "llvip val"


@given(
    nights=st.lists(st.sampled_from([True, False, None]), min_size=FEWEST, max_size=90),
    count=st.integers(FEWEST, 120),
)
def test_pairs_are_spread_over_day_and_night(nights: list[bool | None], count: int) -> None:
    records = [record(str(index), night) for index, night in enumerate(nights)]
    chosen = spread(records, count)
    places = [int(of.name) for of in chosen]
    assert len(chosen) == min(count, len(records))
    assert places == sorted(set(places))  # each once, in the order of the list
    by_night, others = sum(bool(of.night) for of in chosen), sum(not of.night for of in chosen)
    half = len(chosen) // 2
    for found, there in ((by_night, sum(map(bool, nights))), (others, sum(not night for night in nights))):
        assert found >= min(half, there)  # half of each, or all there are


@given(size=st.integers(FEWEST, 200), count=st.integers(FEWEST, 60))
def test_they_reach_from_the_first_to_the_last(size: int, count: int) -> None:
    places = [int(of.name) for of in spread([record(str(index)) for index in range(size)], count)]
    assert places[0] == 0
    assert places[-1] == size - 1
    gaps = np.diff(places)
    assert gaps.max() - gaps.min() <= 1


def test_a_pair_that_a_list_names_twice_is_two_pairs() -> None:
    records = [record("same"), *(record(str(index)) for index in range(FEWEST - 2)), record("same")]
    assert len(spread(records, FEWEST)) == FEWEST


@pytest.mark.parametrize(("there", "asked"), [(FEWEST - 1, 64), (64, FEWEST - 1), (0, 64)])
def test_too_few_pairs_are_refused(there: int, asked: int) -> None:
    with pytest.raises(UsageError, match=f"got {min(there, asked)} pairs, wanted at least {FEWEST}"):
        spread([record(str(index)) for index in range(there)], asked)


def test_scenes_are_what_the_runtime_gives_the_engine(labelled: Path) -> None:
    records = parse_pairs(str(labelled)).read("val")
    scenes = intact(BOTH, records)
    assert [scene.record for scene in scenes] == records
    assert {scene.condition for scene in scenes} == {INTACT}
    for scene in scenes:
        assert scene.feeds["visible"].shape == (1, 72, 96, 3)
        assert scene.feeds["thermal"].shape == (1, 24, 32)
    assert not np.array_equal(scenes[0].feeds["thermal"], scenes[1].feeds["thermal"])  # no shared buffer
    assert set(intact(VISIBLE, records)[0].feeds) == {"visible"}


@pytest.mark.parametrize(("visible", "thermal", "told"), [((4, 3), (4, 3), "vi"), ((160, 120), (4, 3), "ir")])
def test_images_of_a_few_pixels_are_refused(visible: tuple[int, int], thermal: tuple[int, int], told: str) -> None:
    with pytest.raises(DataError, match=rf"{told}/a\.png: is \dx\d pixels, wanted at least 4x4"):
        intact(BOTH, [in_memory(visible, thermal)])


@pytest.mark.parametrize(("camera", "folder"), [("visible", "vi"), ("thermal", "ir")])
def test_a_camera_that_shows_nothing_is_refused(camera: str, folder: str) -> None:
    """A blank image now and then is a shutter."""
    rng = np.random.default_rng(0)

    def scene(*, blank: bool) -> Scene:
        feeds = {
            "visible": rng.integers(0, 9, (1, 8, 8, 3), np.uint8),
            "thermal": rng.integers(0, 9, (1, 4, 4), np.uint8),
        }
        if blank:
            feeds[camera] = np.full_like(feeds[camera], 7)
        return Scene(feeds, in_memory((8, 8), (8, 8)), INTACT)

    refuse_blank([scene(blank=index < 2) for index in range(20)])
    with pytest.raises(DataError, match=rf"^{folder}/a\.png: has one value everywhere, as 3 of 20 {camera} images"):
        refuse_blank([scene(blank=index < 3) for index in range(20)])


def test_a_folder_of_one_camera_is_told_before_its_labels(tmp_path: Path) -> None:
    (tmp_path / "vi").mkdir()
    (tmp_path / "train.txt").write_text("00001D\n")
    with pytest.raises(SourceError, match="ir: no such folder, wanted vi/ and ir/"):
        PairSet("msrs", tmp_path).read("train")


def scenes_of(count: int, *, thermal: bool = True) -> list[Scene]:
    """Scene i is i everywhere."""

    def feeds(index: int) -> dict[str, NDArray[np.uint8]]:
        made = {"visible": np.full((1, 8, 8, 3), index, np.uint8), "thermal": np.full((1, 4, 4), index, np.uint8)}
        return made if thermal else {"visible": made["visible"]}

    return [Scene(feeds(index + 1), record(str(index)), INTACT) for index in range(count)]


def test_failing_cameras_are_black_or_show_the_scene_before() -> None:
    scenes = scenes_of(2 * ALTERED_EVERY)
    made = altered(scenes)
    assert [scene.condition for scene in made] == 2 * ["visible black", "thermal black", "thermal frozen"]
    for place, (visible, black, frozen) in ((0, made[:3]), (ALTERED_EVERY, made[3:])):
        scene, before = scenes[place], scenes[place - 1]
        assert not visible.feeds["visible"].any()
        assert not black.feeds["thermal"].any()
        assert np.array_equal(frozen.feeds["thermal"], before.feeds["thermal"])
        for changed, other in ((visible, "thermal"), (black, "visible"), (frozen, "visible")):
            assert np.array_equal(changed.feeds[other], scene.feeds[other])
            assert changed.record is scene.record
    assert all(scene.feeds["visible"].all() for scene in scenes)  # those they are made of stay


def test_a_visible_only_engine_has_one_camera_that_can_fail() -> None:
    assert [scene.condition for scene in altered(scenes_of(5, thermal=False))] == 2 * ["visible black"]


def test_a_camera_that_stands_still_gives_one_pair(tmp_path: Path) -> None:
    """Nobody learns a range from it, nor a rate."""
    pairs, manifest = write_pairs(tmp_path / "msrs"), make_manifest()
    for split in ("train", "val"):
        scenes = Calibration(parse_pairs(str(pairs)), split).read(manifest).scenes
        assert count_different(scenes) == len(scenes)
    for camera in ("vi", "ir"):
        files = sorted((pairs / camera).iterdir())
        for file in files[1:]:
            file.write_bytes(files[0].read_bytes())
    told = "got 1 different pairs, wanted at least 16 different ones"
    with pytest.raises(UsageError, match=told):
        Calibration(parse_pairs(str(pairs))).read(manifest)
    with pytest.raises(UsageError, match=told):
        Calibration(Recording(str(pairs / "vi"), str(pairs / "ir"))).read(manifest)
    with pytest.raises(UsageError, match=told):
        gate_scenes(manifest, parse_pairs(str(pairs)), "val")


def test_pairs_that_calibrate_do_not_judge(tmp_path: Path) -> None:
    """Links to one image are one; scenes with a failing camera are no further pairs."""
    pairs, apart = write_pairs(tmp_path / "msrs"), write_pairs(tmp_path / "apart" / "msrs")
    manifest = make_manifest()
    train, val, others = (
        intact(manifest, parse_pairs(str(folder)).read(split))
        for folder, split in ((pairs, "train"), (pairs, "val"), (apart, "val"))
    )
    refuse_shared(train, val + altered(val), "msrs val")
    refuse_shared(others, val, "msrs val")  # other files with the same names
    link = apart / "ir" / "00103D.jpg"
    link.unlink()
    link.symlink_to(pairs / "ir" / "00103D.jpg")
    with pytest.raises(DataError, match=r"vi/00103D\.jpg: 1 of the 16 pairs that judge \(msrs val\) calibrate as well"):
        refuse_shared(others, val + altered(val), "msrs val")


@pytest.mark.parametrize(
    ("visible", "thermal", "fits"),
    [
        ((640, 480), (160, 120), True),
        ((640, 512), (160, 128), True),
        ((640, 480), (160, 128), True),  # 4:3 and 5:4, 6.7 % apart
        ((108, 100), (100, 100), True),
        ((100, 108), (100, 100), True),
        ((1488, 864), (530, 277), True),  # a pair of RoadScene, 11.1 % apart
        ((640, 480), (150, 100), False),  # 4:3 and 3:2, 12.5 % apart
        ((100, 113), (100, 100), False),
        ((1280, 720), (160, 120), False),  # 16:9 beside 4:3, the usual mistake
    ],
)
def test_images_of_one_pair_have_one_field_of_view(
    visible: tuple[int, int], thermal: tuple[int, int], fits: bool
) -> None:
    pair = in_memory(visible, thermal, 7)
    if fits:
        (scene,) = intact(BOTH, [pair])
        assert (scene.feeds["visible"][..., 0] == 7).all()
        assert (scene.feeds["thermal"] == 7).all()
    else:
        with pytest.raises(DataError, match=r"ir/a\.png: is .* times as wide as high, its visible image"):
            intact(BOTH, [pair])
    assert len(intact(VISIBLE, [pair])) == 1  # does not look at the thermal image


@pytest.mark.realdata
def test_roadscene_is_taken_as_it_is(real_data: Path) -> None:
    """Its registered images differ in proportions, each way, and 85 of 149 pairs by more than 10 %."""
    pairs = parse_pairs(str(real_data / "rgbt" / "roadscene"))
    records = pairs.read("train")[::10]
    assert len(intact(BOTH, records)) == len(records) == 15


def damage_remove(path: Path) -> None:
    path.unlink()


def damage_truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


def damage_stretch(path: Path) -> None:
    cv2.imwrite(str(path), np.full((120, 300), 90, np.uint8))


@pytest.mark.parametrize(
    ("damage", "kind", "words"),
    [
        (damage_remove, SourceError, r"00104N\.jpg is missing"),
        (damage_truncate, SourceError, r"00104N\.jpg"),
        (damage_stretch, DataError, r"00104N\.jpg: is 2\.50 times as wide as high, its visible image 1\.33"),
    ],
)
def test_a_bad_thermal_image_is_named(
    damage: object, kind: type[MdrunError], words: str, labelled: Path, tmp_path: Path
) -> None:
    import shutil

    folder = shutil.copytree(labelled, tmp_path / "mine")
    assert callable(damage)
    damage(folder / "ir" / "00104N.jpg")
    with pytest.raises(kind, match=words):
        intact(BOTH, parse_pairs(str(folder)).read("val"))
