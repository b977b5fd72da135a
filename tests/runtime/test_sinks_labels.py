"""Label maps in result files and pictures."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mdrun.files import PartialFolder
from mdrun.frames import Result, Segmentation
from mdrun.sinks import LabelSink, Look, SheetSink, VideoSink, legend
from mdrun.sinks.jsonl import to_line
from mdrun.sinks.labels import class_palette, encode_png, label_map_name
from mdrun.sinks.scene import GAP, INK, PALETTE, count_caption, draw_scene
from mdrun.sinks.text import shorten, text_width
from mdrun.street.config import LABEL_PALETTE
from tests.runtime.engines import CLASSES, LABELS
from tests.runtime.test_sinks import KEYS
from tests.runtime.test_statistics import make_result

LOOK = Look("areas", LABELS, 0.5, thermal_used=True, task="segment")
ALL = np.repeat(np.arange(9, dtype=np.uint8), 8)[None].repeat(48, 0)  # nine stripes of eight pixels


def read_labels(path: Path, classes: list[str] = LABELS) -> NDArray[np.uint8]:
    """Indices of a file with a palette: OpenCV turns each into its colour, and no colour stands for two."""
    assert path.read_bytes()[24:26] == bytes([8, 3])  # bit depth and colour type of IHDR
    shown = cv2.imread(str(path), cv2.IMREAD_COLOR)
    assert shown is not None
    palette = class_palette(classes)
    labels: NDArray[np.uint8] = (shown[..., None, ::-1] == palette).all(axis=-1).argmax(axis=-1).astype(np.uint8)
    np.testing.assert_array_equal(palette[labels], shown[..., ::-1])
    return labels


def labelled(sequence: int = 0, labels: NDArray[np.uint8] | None = None) -> Result:
    """A result of 72x96 pixels whose left half is person, but for one pixel of car."""
    if labels is None:
        labels = np.zeros((72, 96), np.uint8)
        labels[:, :48] = 2
        labels[0, 0] = 1
    return replace(make_result(sequence), task="segment", detections=None, segmentation=Segmentation(labels))


def test_the_line_of_a_label_map() -> None:
    line = to_line(labelled(412), LABELS, "gate", label_maps=True)
    assert list(line) == KEYS
    assert (line["task"], line["detections"], line["label_map"]) == ("segment", None, "labels/000412.png")
    assert line["areas"] == {"unlabelled": 0.5, "car": 0.000145, "person": 0.499855}
    assert to_line(labelled(), LABELS, "gate")["label_map"] is None  # where none are written
    assert json.loads(json.dumps(line, allow_nan=False)) == line


def test_the_line_of_a_detector_has_the_same_keys() -> None:
    line = to_line(make_result(), CLASSES, "gate", label_maps=True)
    assert list(line) == KEYS
    assert (line["label_map"], line["areas"]) == (None, None)


def test_names_of_long_runs() -> None:
    assert label_map_name(7) == "labels/000007.png"
    assert label_map_name(12_345_678) == "labels/12345678.png"


@pytest.mark.parametrize("classes", [LABELS, ["road", "pavement"], [f"class {index}" for index in range(256)]])
def test_files_hold_the_index_and_show_colours(tmp_path: Path, classes: list[str]) -> None:
    palette = class_palette(classes)
    assert len({tuple(colour) for colour in palette.tolist()}) == len(classes)
    assert palette[0].tolist() == [0, 0, 0]
    labels = np.random.default_rng(0).integers(0, len(classes), (33, 47)).astype(np.uint8)
    path = tmp_path / "map.png"
    path.write_bytes(encode_png(labels, palette))
    np.testing.assert_array_equal(read_labels(path, classes), labels)


def test_colours_of_the_files() -> None:
    assert class_palette(LABELS).tolist() == [list(colour) for colour in LABEL_PALETTE]
    voc = class_palette([f"class {index}" for index in range(21)])
    assert voc[[1, 2, 15, 20]].tolist() == [[128, 0, 0], [0, 128, 0], [192, 128, 128], [0, 64, 128]]


def test_the_folder_has_its_name_only_when_complete(tmp_path: Path) -> None:
    sink = LabelSink(tmp_path / "labels", LABELS)
    assert (sink.name, sink.written) == ("labels/", False)
    for sequence in (0, 2, 3):
        sink.write(labelled(sequence))
    sink.finish()
    assert [path.name.startswith(".labels.") for path in tmp_path.iterdir()] == [True]
    assert sink.commit() == tmp_path / "labels"
    assert [path.name for path in tmp_path.iterdir()] == ["labels"]
    names = sorted(path.name for path in (tmp_path / "labels").iterdir())
    assert names == ["000000.png", "000002.png", "000003.png"]


def test_the_folder_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    for sequences in (range(5), range(3, 7)):
        sink = LabelSink(tmp_path / "labels", LABELS)
        for sequence in sequences:
            sink.write(labelled(sequence))
        sink.finish()
        sink.commit()
    assert [path.name for path in tmp_path.iterdir()] == ["labels"]
    assert sorted(path.stem for path in (tmp_path / "labels").iterdir()) == [f"{n:06}" for n in range(3, 7)]


def test_a_discarded_folder_leaves_the_older_one(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "000000.png").touch()
    sink = LabelSink(tmp_path / "labels", LABELS)
    for sequence in range(3):
        sink.write(labelled(sequence))
    sink.discard()
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png")] == ["labels/000000.png"]
    assert [path.name for path in tmp_path.iterdir()] == ["labels"]


def test_without_results_there_is_no_folder(tmp_path: Path) -> None:
    sink = LabelSink(tmp_path / "labels", LABELS)
    sink.finish()
    assert sink.commit() is None
    assert not list(tmp_path.iterdir())


def test_a_rename_that_fails_puts_the_older_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "000000.png").touch()
    folder = PartialFolder(tmp_path / "labels")
    folder.part.mkdir()
    rename = Path.rename

    def refuse(source: Path, target: Path) -> Path:
        if source == folder.part:
            raise PermissionError(13, "Permission denied")
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(Exception, match=r"labels: cannot be replaced \(Permission denied\); choose another --output"):
        folder.commit()
    assert (tmp_path / "labels" / "000000.png").exists()


def test_labelled_pixels_are_tinted_on_both_panes() -> None:
    """Nearly half of the colour over the image; what has no label stays as it was."""
    bare = draw_scene(replace(labelled(), segmentation=None), LOOK, (96, 72)).astype(int)
    drawn = draw_scene(labelled(), LOOK, (96, 72)).astype(int)
    for left in (0, 96 + GAP):
        before, after = bare[30:, left : left + 96], drawn[30:, left : left + 96]  # below the captions of the panes
        np.testing.assert_array_equal(after[:, 48:], before[:, 48:])
        np.testing.assert_allclose(after[:, :48], 0.55 * before[:, :48] + 0.45 * np.array(PALETTE[1]), atol=1)


def test_every_class_has_its_colour() -> None:
    drawn = draw_scene(labelled(labels=ALL), LOOK, (72, 48))
    tints = [tuple(colour) for colour in drawn[40, 4:72:8].tolist()]
    assert len(set(tints)) == 9
    assert LOOK.colour(0) == INK


def test_colours_are_far_apart() -> None:
    """In CIELAB, also under a tint of 45 %."""
    for opacity, least in ((1.0, 30), (0.45, 15)):
        mixed = np.array(PALETTE) * opacity + 90 * (1 - opacity)
        lab = cv2.cvtColor((mixed[None] / 255).astype(np.float32), cv2.COLOR_RGB2LAB)[0]
        gaps = [np.linalg.norm(first - second) for first, second in itertools.combinations(lab, 2)]
        assert len(gaps) == 28
        assert min(gaps) > least


def test_captions_tell_the_area_largest_first() -> None:
    labels = np.zeros((10, 100), np.uint8)
    labels[:, :12], labels[:, 12:53] = 1, 2
    labels[0, 99] = 3
    assert count_caption(labelled(labels=labels), LOOK) == "person 41 % · car 12 % · bike <1 %"
    assert count_caption(labelled(labels=np.zeros((4, 4), np.uint8)), LOOK) == "nothing found"


def test_captions_are_cut_where_there_is_no_room() -> None:
    text = "car 12 % · person 1 % · bike <1 %"
    assert shorten(text, 13, text_width(text, 13)) == text
    cut = shorten(text, 13, text_width(text, 13) - 1)
    assert cut == "car 12 % · person 1 % · …"
    assert shorten(text, 13, 0) == "car 12 % · …"


@pytest.mark.parametrize("width", [862, 1692, 300])
def test_the_legend_stays_within_the_sheet(width: int) -> None:
    entries = LOOK.legend()
    assert [name for name, _ in entries] == LABELS[1:]
    beside, *below = legend.lay_out(entries, width // 2, width)
    assert [*beside, *(entry for line in below for entry in line)] == entries
    assert legend.line_width(beside) <= width // 2
    assert all(line and legend.line_width(line) <= width for line in below)


@pytest.mark.parametrize("count", [1, 4])
def test_pictures_of_nine_classes(tmp_path: Path, count: int) -> None:
    """The narrow sheet of a single moment needs a second line for its legend; nothing is drawn into its margins."""
    sheet, video = SheetSink(tmp_path / "o.png", LOOK, timed=True), VideoSink(tmp_path / "o.mp4", LOOK, timed=True)
    for sequence in range(count):
        for sink in (sheet, video):
            sink.write(labelled(sequence, ALL))
    for sink in (sheet, video):
        sink.finish()
        sink.commit()
    image = cv2.imread(str(tmp_path / "o.png"))
    assert image is not None
    assert (image[:, :20] == image[0, 0]).all()
    assert (image[:, -20:] == image[0, 0]).all()
    header = image[: 64 + legend.LINE * (count == 1), :, ::-1]
    for _, colour in LOOK.legend():
        assert (header == colour).all(axis=2).sum() >= 100  # a square of twelve pixels
    assert cv2.VideoCapture(str(tmp_path / "o.mp4")).read()[0]
