"""Students that several files of these tests convert: each is trained once a process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.disk import small_disk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mdexport.proof import Ready
    from tests.export.labelled import Made


@pytest.fixture(scope="session")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A student that finds every person of its pairs; nobody writes into its folder."""
    from tests.export.labelled import make_detector

    return make_detector(tmp_path_factory.mktemp("detector"))


@pytest.fixture(scope="session")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A student that gives label maps of two classes."""
    from tests.export.labelled import make_segmenter

    return make_segmenter(tmp_path_factory.mktemp("segmenter"))


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A student that tells two classes of pairs apart."""
    from tests.export.labelled import make_classifier

    return make_classifier(tmp_path_factory.mktemp("classifier"))


@pytest.fixture(scope="session")
def bad_pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of pairs that nothing can be calibrated or judged on; nobody writes there."""
    import cv2
    import numpy as np

    from tests.export.labelled import write_pairs

    folder = tmp_path_factory.mktemp("bad_pairs")
    write_pairs(folder / "few", 8)
    (write_pairs(folder / "unpaired") / "ir" / "00004N.jpg").unlink()
    for blank in (write_pairs(folder / "blank") / "ir").glob("000*.jpg"):  # of the list `train`
        cv2.imwrite(str(blank), np.zeros((120, 160), np.uint8))
    wide = write_pairs(folder / "wide") / "ir" / "00004N.jpg"
    cv2.imwrite(str(wide), np.zeros((60, 160), np.uint8))
    (write_pairs(folder / "damaged") / "ir" / "00004N.jpg").write_bytes(wide.read_bytes()[:200])
    return folder


@pytest.fixture(scope="session")
def ready(detector: Made) -> Ready:
    """The detector with the scenes that judge its conversions."""
    from mdexport.pairs import parse_pairs
    from mdexport.proof import prepare

    return prepare(detector.engine, parse_pairs(str(detector.pairs)))


@pytest.fixture(name="small_disk")
def hold_files_small() -> Iterator[None]:
    """No file may grow beyond 100 kB."""
    with small_disk(100_000):
        yield
