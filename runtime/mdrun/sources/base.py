"""What every source is, and how a pair of them is opened."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from numpy.typing import NDArray

from mdrun.errors import DataError, SourceError, UsageError
from mdrun.frames import Frame, Modality
from mdrun.sources.uri import SourceUri, is_live, parse_uri

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000

S = TypeVar("S", bound="Source")


class Source(ABC):
    """One stream of frames of one camera, file or folder.

    `open`, then `read` until it returns None, then `close`; or a `with` block. Not safe for several threads at once.

    Attributes:
        name: how results call it: folder name, file name or scene; never holds credentials.
        modality: which camera it stands for.
        timed: True: `captured_ns` are real times; False: stills, one nominal second apart, paired by position.
        telemetry: True: the source itself says when the thermal shutter is closed (`Frame.shutter`).
    """

    telemetry = False

    def __init__(self, name: str, modality: Modality, timed: bool, offset_ns: int = 0) -> None:
        self.name = name
        self.modality = modality
        self.timed = timed
        self._offset_ns = offset_ns
        self._sequence = 0
        self._layout: tuple[tuple[int, ...], str] | None = None  # shape and type of every frame

    @abstractmethod
    def open(self) -> None:
        """Make ready to read; opening twice does no harm.

        Raises:
            SourceError: if it is missing, empty or unreadable.
            DataError: if its images cannot belong to this modality.
        """

    @abstractmethod
    def read(self) -> Frame | None:
        """Next frame in capture order, None at the end.

        Raises:
            SourceError: if it is damaged from here on.
            DataError: if the image has another size or depth than it must have.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of files and memory; closing twice does no harm."""

    @property
    @abstractmethod
    def size(self) -> tuple[int, int] | None:
        """(width, height) in pixels; None before `open`."""

    @property
    @abstractmethod
    def frame_count(self) -> int | None:
        """Number of frames it will give, None where that is not known."""

    @property
    def start_ns(self) -> int:
        """Capture time of the first frame."""
        return self._offset_ns

    def shift(self, by_ns: int) -> None:
        """Move all capture times; only before the first `read`."""
        self._offset_ns += by_ns

    def _frame(
        self, image: NDArray[Any], elapsed_ns: int, where: str, name: str | None, shutter: bool = False
    ) -> Frame:
        """Number, date and freeze one image; `where` names its file in errors."""
        layout = (image.shape, str(image.dtype))
        if self._layout is None:
            self._layout = layout
        if layout != self._layout:
            raise DataError(
                f"{where}: image {self._sequence} of {self.name} is {_in_words(*layout)}, the ones before are "
                f"{_in_words(*self._layout)}; one stream has one size and depth, split it or convert the odd images"
            )
        image.flags.writeable = False
        sequence, self._sequence = self._sequence, self._sequence + 1
        return Frame(image, self.modality, elapsed_ns + self._offset_ns, sequence, self.name, name, shutter)

    def __enter__(self: S) -> S:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_source(text: str, modality: Modality) -> Source:
    """Open one source by its URI; the caller closes it.

    Raises:
        UsageError: if the URI or its options cannot be meant.
        SourceError: if there is nothing to read.
        DataError: if what it holds cannot belong to this modality.
    """
    source = build_source(parse_uri(text), modality)
    try:
        source.open()
    except BaseException:
        source.close()
        raise
    return source


def open_pair(visible: str, thermal: str) -> tuple[Source, Source]:
    """Open both cameras and check that they can be paired at all; the caller closes both.

    Both are set on one clock that starts with the first visible frame.

    Raises:
        UsageError: if one has times and the other holds stills, or a URI cannot be meant.
        SourceError: if one of them has nothing to read.
        DataError: if stills differ in number or names, or images cannot belong to their modality.
    """
    first = open_source(visible, Modality.VISIBLE)
    try:
        second = open_source(thermal, Modality.THERMAL)
    except BaseException:
        first.close()
        raise
    try:
        _check_pair(first, second)
    except BaseException:
        first.close()
        second.close()
        raise
    origin = first.start_ns
    first.shift(-origin)
    second.shift(-origin)
    return first, second


def build_source(uri: SourceUri, modality: Modality) -> Source:
    """The recording of a URI, not yet opened.

    Raises:
        UsageError: if it is a live camera or a replay, or its options cannot be meant.
        SourceError: if there is nothing of this name.
    """
    if is_live(uri) or uri.scheme == "replay":
        raise UsageError(f"{uri} is {'a live camera' if is_live(uri) else 'a replay'}; wanted a recording here")
    from mdrun.sources.folder import FolderSource, find_images
    from mdrun.sources.street import StreetSource
    from mdrun.sources.video import VideoSource

    if uri.scheme == "test":
        return StreetSource(uri, modality)
    images = find_images(uri.path)
    if images is not None:
        return FolderSource(uri, images, modality)
    path = Path(uri.path).expanduser()
    if not path.is_file():
        raise SourceError(f"{uri.path}: not a folder and not a regular file; wanted images or a video")
    return VideoSource(uri, path, modality)


def _check_pair(visible: Source, thermal: Source) -> None:
    from mdrun.sources.folder import FolderSource, check_stills

    if visible.timed != thermal.timed:
        timed, stills = (visible, thermal) if visible.timed else (thermal, visible)
        raise UsageError(
            f"--{timed.modality.value} {timed.name} has capture times, --{stills.modality.value} {stills.name} holds "
            "stills without any; give the stills a frame rate, as in FOLDER?fps=30"
        )
    if not visible.timed and isinstance(visible, FolderSource) and isinstance(thermal, FolderSource):
        check_stills(visible, thermal)


def _in_words(shape: tuple[int, ...], dtype: str) -> str:
    return f"{shape[1]}x{shape[0]} {dtype}"
