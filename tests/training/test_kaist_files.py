"""KAIST annotation and result files: what is read, and refusals that name the line or entry."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdrun.errors import DataError, SourceError
from mdtrain.metrics.kaist import miss_rates
from mdtrain.metrics.kaist_files import parse_lines, read_annotations, read_detections

NUMBERS = st.floats(-1e6, 1e6, width=32)
ROWS = st.lists(
    st.tuples(st.integers(1, 9), NUMBERS, NUMBERS, st.floats(0, 1e6, width=32), st.floats(0, 1e6, width=32), NUMBERS)
)


@given(ROWS, st.sampled_from([",", ", ", " ", "\t", "  "]), st.sampled_from(["\n", "\r\n", "\n\n"]))
@settings(deadline=None)
def test_lines_come_back(rows: list[tuple[float, ...]], comma: str, end: str) -> None:
    text = end.join(comma.join(map(repr, row)) for row in rows)
    parsed = parse_lines(text, "detections a.txt", image_count=9)
    assert [(image + 1, *box, score) for image, box, score in parsed] == rows


@given(st.text(st.sampled_from("0123456789,.- enai\t\n"), max_size=60))
@settings(deadline=None)
def test_any_text_is_read_or_refused_with_its_line(text: str) -> None:
    try:
        rows = parse_lines(text, "detections a.txt", image_count=9)
    except DataError as error:
        assert "detections a.txt, line " in str(error)  # noqa: PT017  # either outcome is right
    else:
        assert all(0 <= image < 9 and np.isfinite([*box, score]).all() for image, box, score in rows)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("1,2,3,4,5", "got 5 values"),  # no score
        ("1,2,3,4,5,6,7", "got 7 values"),
        ("1,2,,4,5,6", "six numbers"),  # a hole
        ("one,2,3,4,5,6", "six numbers"),
        ("0,2,3,4,5,6", "image_id is 0, wanted 1 to 9"),  # ids count from 1
        ("10,2,3,4,5,6", "image_id is 10"),
        ("1.5,2,3,4,5,6", "image_id is 1.5"),
        ("1,2,nan,4,5,6", "NaN"),
        ("1,2,3,4,5,inf", "infinity"),
        ("1,200,300,-4,5,0.6", "not two corners"),
    ],
)
def test_malformed_line_is_named(line: str, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        parse_lines(f"1,2,3,4,5,0.6\n\n{line}\n", "detections a.txt", image_count=9)
    assert str(caught.value).startswith("detections a.txt, line 3: ")


def truth_json() -> dict[str, list[dict[str, object]]]:
    """Two images with ids that are not their positions, a person, and one that MLPD's file marks by `ignore`."""
    box = {"bbox": [100, 100, 30, 80], "occlusion": 0, "height": 80}
    return {
        "images": [{"id": 40, "im_name": "set06/V000/I00019"}, {"id": 7, "im_name": "set09/V000/I00039"}],
        "annotations": [
            {**box, "id": 0, "image_id": 7, "category_id": 1, "ignore": 0},
            {**box, "id": 1, "image_id": 40, "category_id": 1, "ignore": 1},
            {**box, "id": 2, "image_id": 40, "category_id": 3},
        ],
        "categories": [{"id": 1, "name": "person"}, {"id": 3, "name": "people"}],
    }


def write(path: Path, value: object) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_annotations_are_read(tmp_path: Path) -> None:
    truth = read_annotations(write(tmp_path / "a.json", truth_json()))
    assert truth.images.tolist() == [1, 0, 0]
    assert truth.ignored.tolist() == [False, True, True]
    assert truth.is_day.tolist() == [True, False]


def test_json_and_text_detections_agree(tmp_path: Path) -> None:
    """Text counts images from 1 in their order, JSON uses the annotation's ids."""
    truth = read_annotations(write(tmp_path / "a.json", truth_json()))
    text = read_detections(write(tmp_path / "d.txt", "2,100,101,30,79,0.5\n1 1 2 3 4 .25"), truth)
    entries = [
        {"image_id": 7, "category_id": 1, "bbox": [100, 101, 30, 79], "score": 0.5},
        {"image_id": 40, "bbox": [1, 2, 3, 4], "score": 0.25},
    ]
    packed = tmp_path / "d.json.gz"
    packed.write_bytes(gzip.compress(json.dumps(entries).encode()))
    parsed = read_detections(packed, truth)
    assert text.images.tolist() == parsed.images.tolist() == [1, 0]
    assert text.boxes_xywh.tolist() == parsed.boxes_xywh.tolist()
    assert text.scores.tolist() == parsed.scores.tolist()
    assert miss_rates(truth, text)["night"] == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"detections": []}, "got a JSON object, wanted a list"),
        ([[7, 1, 2, 3, 4, 0.5]], r"\[0\]: got a JSON list, wanted an object"),
        ([{"image_id": 7, "bbox": [1, 2, 3, 4]}], "score is missing, wanted a finite number"),
        ([{"image_id": 7, "bbox": [1, 2, 3], "score": 1}], r"bbox is \[1, 2, 3\], wanted four"),
        ([{"image_id": 7, "bbox": [1, 2, 3, float("nan")], "score": 1}], "wanted four finite numbers"),
        ([{"image_id": 7, "bbox": [1, 2, -3, 4], "score": 1}], "not two corners"),
        ([{"image_id": 7, "bbox": [1, 2, 3, 4], "score": True}], "score is True"),
        ([{"image_id": 7, "bbox": [1, 2, 3, 4], "score": 10**400}], "score is 1000"),
        ([{"image_id": 2, "bbox": [1, 2, 3, 4], "score": 1}], "image_id is 2, wanted an id of the annotation's 2"),
        ([{"image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 1}], "category_id is 3"),
        ("[" * 100_000, "not JSON"),
        ('[{"image_id": 7,', "not JSON"),
    ],
)
def test_malformed_json_detections(tmp_path: Path, value: object, said: str) -> None:
    truth = read_annotations(write(tmp_path / "a.json", truth_json()))
    with pytest.raises(DataError, match=said):
        read_detections(write(tmp_path / "d.json", value), truth)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"images": []}, "got 0 images"),
        ({"images": [{"id": 7, "im_name": "set06/V000/I00019"}] * 2}, "2 images with 1 different ids"),
        ({"images": {"id": 7}}, "images is .*, wanted a list"),
        ({"images": [{"id": "7"}]}, r"images\[0\]: id is '7', wanted a whole number"),
        ({"categories": []}, "0 categories named person"),
        ({"annotations": None}, "annotations is None, wanted a list"),
        ({"annotations": [{"image_id": 5}]}, "image_id is 5"),
    ],
)
def test_malformed_annotations(tmp_path: Path, change: dict[str, object], said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_annotations(write(tmp_path / "a.json", {**truth_json(), **change}))


def test_damaged_files(tmp_path: Path) -> None:
    whole = gzip.compress(json.dumps(truth_json()).encode())
    cut = tmp_path / "cut.json.gz"
    cut.write_bytes(whole[: len(whole) // 2])
    binary = tmp_path / "binary.json"
    binary.write_bytes(b"\x89PNG\xff")
    for path, kind, said in (
        (cut, SourceError, "truncated"),
        (tmp_path / "none.json", SourceError, "is not there"),
        (tmp_path, SourceError, "is a folder"),
        (binary, DataError, "not text"),
    ):
        with pytest.raises(kind, match=said):
            read_annotations(path)
