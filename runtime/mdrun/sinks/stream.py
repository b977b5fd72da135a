"""The overlay of a running rig as a stream: HLS for browsers, MP4 that plays while it is written."""

from __future__ import annotations

import re
from abc import abstractmethod
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

from mdrun.errors import OutputError, SinkError
from mdrun.frames import Result
from mdrun.sinks.base import Overflow, Sink
from mdrun.sinks.context import SinkContext
from mdrun.sinks.encode import FPS, WIDTH, Encoder, Painter, Rate
from mdrun.sinks.options import option, seconds
from mdrun.sinks.rotate import RotatingFile, Rotation
from mdrun.sinks.uri import OutputUri

if TYPE_CHECKING:
    from av.container import OutputContainer

KEY_S = 2.0  # a player begins, and a power cut costs, this much at most
SEGMENT_S = 2.0
LIST = 6  # segments, twelve seconds: Apple wants six (HLS authoring specification, 7.5)
PLAYLIST = "index.m3u8"
SEGMENT = re.compile(r"stream-\d+\.ts")
PART = ".tmp"  # of names of files that are not whole
HLS_FILES = "files:///"  # no protocol of libavformat: it asks us to open them


class StreamSink(Sink):
    """Draws results at a limited rate and encodes them into whatever `_open` gives."""

    overflow = Overflow.KEEP_LATEST
    key_s = KEY_S

    def __init__(self, uri: OutputUri, context: SinkContext) -> None:
        """Prepare for a rig; the first result gives the picture its size.

        Args:
            uri: with its options `fps` and `width`.
            context: the rig.
        """
        self._name = str(uri)
        self._rate = Rate(option(uri.options, "fps", float, FPS))
        self._painter = Painter(context, option(uri.options, "width", int, WIDTH))
        self._encoder: Encoder | None = None
        self._pending = 0  # encoded pictures that have not arrived yet
        self._delivered = 0

    @property
    def name(self) -> str:
        """The output without credentials and options."""
        return self._name

    @property
    def delivered(self) -> int:
        """Pictures that a player can get."""
        return self._delivered

    def wants(self, result: Result) -> bool:
        """The time of the next picture has come."""
        return self._rate.wants(result.pair.visible.captured_ns)

    def write(self, result: Result) -> None:
        """Encode the result, unless there is no room for it."""
        if not self._before():
            self.given_up += 1
            return
        picture = self._painter.draw(result)
        try:
            if self._encoder is None:
                self._encoder = Encoder(self._open(), picture, self.key_s)
            key = self._encoder.write(picture, result.pair.visible.captured_ns)
            self._look_back(key=key)
        except Exception as error:
            failure = self._failure(f"cannot be written ({self._reason(error)}); trying again")
            self.abandon()  # the next result begins anew
            if isinstance(error, OutputError):
                self.problem = str(error)
                raise
            raise failure from error
        self._pending += 1

    def finish(self) -> None:
        """Write what the encoder holds back, and the end."""
        encoder, self._encoder = self._encoder, None
        try:
            if encoder is not None:
                encoder.close()
                self._complete()
        except Exception as error:
            raise self._failure(f"cannot be completed ({self._reason(error)})") from error
        finally:
            self._give_up()

    def abandon(self) -> None:
        """Close the stream as it is."""
        encoder, self._encoder = self._encoder, None
        if encoder is not None:
            with suppress(Exception):  # closing what is broken says nothing new
                encoder.abandon()
        self._give_up()

    def _arrived(self, count: int) -> None:
        """The oldest pending pictures have arrived, which is the proof that all is well."""
        count = min(count, self._pending)
        self._pending -= count
        self._delivered += count
        if count:
            self.problem = ""

    def _give_up(self) -> None:
        """What has not arrived yet never will."""
        self.given_up += self._pending
        self._pending = 0

    def _failure(self, what: str) -> SinkError:
        """The error to raise; it stays a problem until a picture has arrived: one that is encoded proves nothing."""
        self.problem = f"{self.name}: {what}"
        return SinkError(self.problem)

    def _before(self) -> bool:
        """Look around before a result is encoded; False: there is no room for it now."""
        return True

    def _look_back(self, *, key: bool) -> None:
        """A picture is encoded, a `key` one where a player can begin with it; what of the earlier ones has arrived?"""

    def _complete(self) -> None:
        """The container has its end; what of its pictures has arrived?"""
        self._arrived(self._pending)

    def _reason(self, error: Exception) -> str:
        """Why a result could not be written."""
        return getattr(error, "strerror", None) or type(error).__name__

    @abstractmethod
    def _open(self) -> OutputContainer:
        """A new container to write into."""


class HlsSink(StreamSink):
    """A folder that any web server can offer: `index.m3u8` and MPEG transport stream segments (RFC 8216).

    Segments and list are written under another name and renamed, so that no player reads half of one. A picture has
    arrived when the list names its segment.
    """

    vital = False

    def __init__(self, folder: Path, uri: OutputUri, context: SinkContext) -> None:
        """Prepare the folder; `start` makes it. Options: `segment`, `list`, `fps`, `width`."""
        super().__init__(uri, context)
        self._folder = folder
        self.key_s = option(uri.options, "segment", seconds, SEGMENT_S)
        self._list = option(uri.options, "list", int, LIST)
        self._cleared = False
        self._files: _HlsFiles | None = None
        self._named: set[str] = set()  # in the list: segments

    def start(self) -> None:
        """Make the folder."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._refused(error) from error

    def commit(self) -> Path | None:
        """The list, if there was a picture."""
        path = self._folder / PLAYLIST
        return path if self._delivered and path.exists() else None

    def abandon(self) -> None:
        """Leave list and whole segments as they are."""
        if self._files is not None:
            self._files.stop(SinkError("abandoned"))
        super().abandon()

    def _look_back(self, *, key: bool) -> None:  # noqa: ARG002  # the list tells
        files = self._files
        if files is None:
            return
        if files.listed:  # also where what came behind it has failed
            files.listed = False
            self._arrived(self._pending)
            self._tidy()
        if files.error is not None:
            raise files.error

    def _complete(self) -> None:
        self._look_back(key=False)

    def _open(self) -> OutputContainer:
        import av

        if not self._cleared:
            self._clear()
        options = {
            "hls_time": f"{self.key_s:g}",
            "hls_list_size": str(self._list),
            "hls_flags": "independent_segments+program_date_time",
            "hls_start_number_source": "epoch",  # no number comes twice, also after a restart
            "hls_segment_filename": f"{HLS_FILES}stream-%d.ts",
        }
        self._files = _HlsFiles(self._folder)
        return av.open(f"{HLS_FILES}{PLAYLIST}", "w", format="hls", options=options, io_open=self._files.open)

    def _tidy(self) -> None:
        """Remove segments that have left the list, but for those that a player of the last one may still read."""
        with suppress(OSError):
            lines = (self._folder / PLAYLIST).read_text(encoding="utf-8").splitlines()
            before, self._named = self._named, {line for line in lines if SEGMENT.fullmatch(line)}
            for path in self._folder.iterdir():
                if SEGMENT.fullmatch(path.name) and path.name not in self._named | before:
                    path.unlink(missing_ok=True)

    def _clear(self) -> None:
        """Remove list and segments of an earlier run, whose place those of this one take now."""
        try:
            (self._folder / PLAYLIST).unlink(missing_ok=True)
            for path in self._folder.iterdir():
                if SEGMENT.fullmatch(path.name.removesuffix(PART)):
                    path.unlink(missing_ok=True)
        except OSError as error:
            raise self._refused(error) from error
        self._cleared = True

    def _refused(self, error: OSError) -> OutputError:
        return OutputError(f"{self._folder}: cannot be written ({error.strerror}); choose another --output")


class _HlsFiles:
    """Files of one HLS stream: each has its name once it is whole, and none gets one after a failure.

    libavformat's own hands write on a full disk without a word, and put an empty list in the place of a good one.

    What fails is kept, not raised: PyAV would print a second failure on the user's terminal.

    Attributes:
        listed: there is a new list.
        error: the first failure, behind which no file gets its name.
    """

    def __init__(self, folder: Path) -> None:
        self.listed = False
        self.error: Exception | None = None
        self._folder = folder
        self._open: set[_HlsFile] = set()
        self._unlisted: list[Path] = []  # whole segments that no list names yet

    def open(self, url: str, _flags: int, _options: dict[str, str]) -> _HlsFile:
        """For libavformat, by the address that it got from us."""
        file = _HlsFile(self._folder / url.removeprefix(HLS_FILES), self)
        self._open.add(file)
        return file

    def closed(self, file: _HlsFile) -> None:
        """A file is whole, and has its name."""
        self._open.discard(file)
        if file.path.name == PLAYLIST:
            self.listed = True
            self._unlisted.clear()
        else:
            self._unlisted.append(file.path)

    def stop(self, error: Exception) -> None:
        """Take nothing more, and remove what is not whole or what no list names."""
        self.error = self.error or error
        for file in self._open:
            file.discard()
        self._open.clear()
        for path in self._unlisted:
            with suppress(OSError):
                path.unlink()
        self._unlisted.clear()


class _HlsFile:
    """One of them; PyAV writes into it and closes it."""

    def __init__(self, path: Path, files: _HlsFiles) -> None:
        self.path = path
        self._files = files
        self._part = path.with_name(path.name + PART)
        self._file: FileIO | None = None
        if files.error is None:
            try:
                self._file = FileIO(self._part, "w")
            except OSError as error:
                files.stop(error)

    def write(self, data: bytes) -> int:
        """All of it, unless a file has failed."""
        left = memoryview(data)
        try:
            while left and self._file is not None:
                left = left[self._file.write(left) :]
        except OSError as error:
            self._files.stop(error)
        return len(data)

    def close(self) -> None:
        """Give it its name."""
        try:
            if self._file is not None:
                self._file.close()
                self._part.replace(self.path)
                self._files.closed(self)
        except OSError as error:
            self._files.stop(error)

    def discard(self) -> None:
        """Remove it."""
        file, self._file = self._file, None
        with suppress(OSError):
            if file is not None:
                file.close()
                self._part.unlink(missing_ok=True)


class LiveVideoSink(StreamSink):
    """One MP4 that plays while it is written, in fragments of two seconds; rotated like the lines.

    A fragment goes to the disk whole or not at all, the first one with the head of the file. Its pictures have arrived
    then.
    """

    vital = True

    def __init__(self, path: Path, uri: OutputUri, context: SinkContext) -> None:
        """Prepare the file; `start` opens it. Options: `rotate`, `keep`, `fps`, `width`."""
        super().__init__(uri, context)
        self._file = RotatingFile(path, Rotation.from_options(uri.options))
        self._waits = _Waits()

    def start(self) -> None:
        """Open the file; an older one of the name is set aside by the first picture."""
        self._file.open(append=False)

    def write(self, result: Result) -> None:
        """Encode the result, into a new file where the old one is full."""
        if self._file.due():
            self.finish()
        super().write(result)

    def tick(self) -> None:
        """Bring the last fragments to the disk."""
        self._file.sync()

    def finish(self) -> None:
        """Complete the file; without a picture there is none."""
        try:
            super().finish()
            self._file.sync()
        finally:
            self._file.discard()

    def abandon(self) -> None:
        """Close the file behind its last whole fragment; without one it was made for nothing."""
        super().abandon()
        self._file.discard()

    def commit(self) -> Path | None:
        """The file, if there was a picture."""
        return self._file.path if self._delivered and self._file.path.exists() else None

    def _look_back(self, *, key: bool) -> None:
        if key and self._pending:  # a key picture begins a fragment, so the one before it is whole
            self._complete()

    def _complete(self) -> None:
        self._file.write(self._waits.take())
        super()._complete()

    def _open(self) -> OutputContainer:
        import av

        if self._file.size or not self._file.opened:
            self._file.open(append=False)
        self._waits = _Waits()
        flags = "frag_keyframe+empty_moov+default_base_moof"
        return av.open(self._waits, "w", format="mp4", options={"movflags": flags, "flush_packets": "1"})


class _Waits:
    """What PyAV has written of a fragment."""

    def __init__(self) -> None:
        self._data = bytearray()

    def write(self, data: bytes) -> int:
        """Keep it."""
        self._data += data
        return len(data)

    def take(self) -> bytes:
        """All of it, which is forgotten here."""
        data, self._data = bytes(self._data), bytearray()
        return data
