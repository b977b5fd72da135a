"""Students that several files of these tests convert: each is trained once a process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
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
def ready(detector: Made) -> Ready:
    """The detector with the scenes that judge its conversions."""
    from mdexport.pairs import parse_pairs
    from mdexport.proof import prepare

    return prepare(detector.engine, parse_pairs(str(detector.pairs)))
