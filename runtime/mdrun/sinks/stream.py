"""The overlay of a running rig as a stream: HLS for browsers, MP4 that plays while it is written."""

from __future__ import annotations

import re
from abc import abstractmethod
from contextlib import suppress
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

    @property
    def name(self) -> str:
        """The output without credentials and options."""
        return self._name

    def wants(self, result: Result) -> bool:
        """The time of the next picture has come."""
        return self._rate.wants(result.pair.visible.captured_ns)

    def write(self, result: Result) -> None:
        """Encode the result."""
        self._before()
        picture = self._painter.draw(result)
        try:
            if self._encoder is None:
                self._encoder = Encoder(self._open(), picture, self.key_s)
            self._encoder.write(picture, result.pair.visible.captured_ns)
        except Exception as error:
            reason = self._reason(error)
            self.abandon()  # the next result begins anew
            if isinstance(error, OutputError):
                raise
            raise SinkError(f"{self.name}: cannot be written ({reason}); trying again") from error

    def finish(self) -> None:
        """Write what the encoder holds back, and the end."""
        encoder, self._encoder = self._encoder, None
        if encoder is not None:
            encoder.close()

    def abandon(self) -> None:
        """Close the stream as it is."""
        encoder, self._encoder = self._encoder, None
        if encoder is not None:
            with suppress(Exception):  # closing what is broken says nothing new
                encoder.abandon()

    def _before(self) -> None:
        """Look around before a result is encoded."""

    def _reason(self, error: Exception) -> str:
        """Why a result could not be written."""
        return getattr(error, "strerror", None) or type(error).__name__

    @abstractmethod
    def _open(self) -> OutputContainer:
        """A new container to write into."""


class HlsSink(StreamSink):
    """A folder that any web server can offer: `index.m3u8` and MPEG transport stream segments (RFC 8216).

    Segments and list are written under another name and renamed, so that no player reads half of one.
    """

    vital = False

    def __init__(self, folder: Path, uri: OutputUri, context: SinkContext) -> None:
        """Prepare the folder; `start` makes it. Options: `segment`, `list`, `fps`, `width`."""
        super().__init__(uri, context)
        self._folder = folder
        self.key_s = option(uri.options, "segment", seconds, SEGMENT_S)
        self._list = option(uri.options, "list", int, LIST)
        self._cleared = False

    def start(self) -> None:
        """Make the folder."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._refused(error) from error

    def commit(self) -> Path | None:
        """The list, if there was a picture."""
        path = self._folder / PLAYLIST
        return path if self._cleared and path.exists() else None

    def _open(self) -> OutputContainer:
        import av

        if not self._cleared:
            self._clear()
        options = {
            "hls_time": f"{self.key_s:g}",
            "hls_list_size": str(self._list),
            "hls_flags": "delete_segments+independent_segments+temp_file+program_date_time",
            "hls_start_number_source": "epoch",  # no number comes twice, also after a restart
            "hls_segment_filename": str(self._folder / "stream-%d.ts"),
        }
        return av.open(str(self._folder / PLAYLIST), "w", format="hls", options=options)

    def _clear(self) -> None:
        """Remove list and segments of an earlier run, whose place those of this one take now."""
        try:
            (self._folder / PLAYLIST).unlink(missing_ok=True)
            for path in self._folder.iterdir():
                if SEGMENT.fullmatch(path.name):
                    path.unlink(missing_ok=True)
        except OSError as error:
            raise self._refused(error) from error
        self._cleared = True

    def _refused(self, error: OSError) -> OutputError:
        return OutputError(f"{self._folder}: cannot be written ({error.strerror}); choose another --output")


class LiveVideoSink(StreamSink):
    """One MP4 that plays while it is written, in fragments of two seconds; rotated like the lines."""

    vital = True

    def __init__(self, path: Path, uri: OutputUri, context: SinkContext) -> None:
        """Prepare the file; `start` opens it. Options: `rotate`, `keep`, `fps`, `width`."""
        super().__init__(uri, context)
        self._file = RotatingFile(path, Rotation.from_options(uri.options))

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
        super().finish()
        self._file.sync()
        self._file.discard()

    def abandon(self) -> None:
        """Close the file as it is; without a picture it was made for nothing."""
        super().abandon()
        self._file.discard()

    def commit(self) -> Path | None:
        """The file, if there was a picture."""
        return self._file.path if self._file.written else None

    def _open(self) -> OutputContainer:
        import av

        if self._file.size or not self._file.opened:
            self._file.open(append=False)
        flags = "frag_keyframe+empty_moov+default_base_moof"
        return av.open(self._file, "w", format="mp4", options={"movflags": flags, "flush_packets": "1"})
