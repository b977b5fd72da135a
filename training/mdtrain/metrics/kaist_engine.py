"""Running a detector over the KAIST test images, and result files in the format of the published ones.

Files count pixels from 1: 1 is added to x and y of the boxes, which engines count from 0, as the reference program
does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from mdrun.engine import Engine
from mdrun.errors import DataError, EngineError, OutputError
from mdrun.files import PartialFile
from mdtrain.data.categories import index_of
from mdtrain.data.records import Record, make_record
from mdtrain.metrics.kaist import FIRST_PIXEL, Annotations, PersonDetections
from mdtrain.metrics.kaist_images import HEIGHT, WIDTH
from mdtrain.metrics.pairs import infer_pair, refuse_other_task

Rows = list[tuple[float, float, float, float, float]]  # x, y, w, h in pixels counted from 1, score


def kaist_pairs(folder: Path, annotations: Annotations) -> list[Record]:
    """The pairs that `annotations` names, in its order, without boxes: the annotations are the truth."""
    records = []
    for name, day in zip(annotations.image_names, annotations.is_day, strict=True):
        video, frame = folder / "images" / Path(name).parent, f"{Path(name).name}.jpg"
        files = video / "visible" / frame, video / "lwir" / frame
        records.append(make_record(name, files, np.zeros((0, 4)), np.zeros(0, np.int64), night=not day))
    return records


def person_rows(path: Path, records: Sequence[Record], thermal_size: tuple[int, int] | None) -> Iterator[Rows]:
    """Persons that an engine finds, image by image, as a result file has them.

    Args:
        path: the engine.
        records: the pairs.
        thermal_size: width and height in pixels of the camera to simulate, by area averaging; None leaves the images.

    Raises:
        EngineError: the engine cannot be loaded, is no detector or knows no persons.
        DataError: an image of another size than KAIST's.
    """
    with Engine.load(path) as engine:
        refuse_other_task(engine.manifest, path, "detect")
        person = index_of("person", engine.manifest.classes)
        if person is None:
            raise EngineError(
                f"{path}: its classes are {', '.join(engine.manifest.classes)}, wanted person among them; "
                "choose an engine that detects persons"
            )
        for record in records:
            refuse_other_size(record)
            found = infer_pair(engine, record, thermal_size)
            persons = found.classes == person
            rows = zip(found.boxes_xyxy[persons].tolist(), found.scores[persons].tolist(), strict=True)
            yield [_row(box, score) for box, score in rows]


def refuse_other_size(record: Record) -> None:
    """Annotations count the pixels of KAIST's own images.

    Raises:
        DataError: the visible image has another size.
    """
    height, width = record.visible.shape[:2]
    if (width, height) != (WIDTH, HEIGHT):
        raise DataError(
            f"{record.visible_file.path}: image is {width}x{height}, wanted KAIST's {WIDTH}x{HEIGHT}, "
            "whose pixels the annotations count; copy the original images"
        )


def _row(box: list[float], score: float) -> tuple[float, float, float, float, float]:
    """Rounded as it is written, so that a file and the run that wrote it give the same numbers."""
    x, y = box[0] + FIRST_PIXEL, box[1] + FIRST_PIXEL
    return round(x, 4), round(y, 4), round(box[2] - box[0], 4), round(box[3] - box[1], 4), round(score, 8)


def as_detections(rows: Sequence[Rows]) -> PersonDetections:
    """Rows of all images in their order."""
    table = np.array([row for of_image in rows for row in of_image], np.float64).reshape(-1, 5)
    images = np.repeat(np.arange(len(rows)), [len(of_image) for of_image in rows])
    return PersonDetections(images, table[:, :4], table[:, 4])


def write_rows(path: Path, rows: Sequence[Rows]) -> None:
    """Lines `image_id,x,y,w,h,score`, image ids from 1 in the order of the annotation's images.

    Raises:
        OutputError: the file cannot be written.
    """
    file = PartialFile(path)
    try:
        with file.part.open("w", encoding="utf-8") as stream:
            for image_id, of_image in enumerate(rows, start=1):
                stream.writelines(f"{image_id},{','.join(map(repr, row))}\n" for row in of_image)
        file.commit()
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another --write") from error
    finally:
        file.discard()
