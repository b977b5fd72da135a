"""Students that several files of these tests convert: each is trained once, whichever process asks first."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

from tests.disk import small_disk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mdexport.proof import Ready
    from tests.export.labelled import Made


def _once(name: str, make: Callable[[Path], Made], factory: pytest.TempPathFactory) -> Made:
    """What the first of the test processes makes, for all of them."""
    from tests.export.labelled import Made

    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    done = folder / "made.json"
    with FileLock(f"{folder}.lock"):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of an attempt that failed: its reason is told again, not this
            folder.mkdir()
            done.write_text(json.dumps([str(path) for path in make(folder)]))
    return Made(*map(Path, json.loads(done.read_text())))


@pytest.fixture(scope="session")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A student that finds every person of its pairs; nobody writes into its folder."""
    from tests.export.labelled import make_detector

    return _once("detector", make_detector, tmp_path_factory)


@pytest.fixture(scope="session")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A student that gives label maps of two classes."""
    from tests.export.labelled import make_segmenter

    return _once("segmenter", make_segmenter, tmp_path_factory)


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A student that tells two classes of pairs apart."""
    from tests.export.labelled import make_classifier

    return _once("classifier", make_classifier, tmp_path_factory)


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
