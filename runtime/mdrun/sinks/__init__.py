"""Where results go: lines, label maps, a video, a contact sheet."""

from __future__ import annotations

from mdrun.files import OutputFolder, PartialFile
from mdrun.sinks.base import FileSink, Overflow, Sink, SinkWorker
from mdrun.sinks.jsonl import JsonlSink
from mdrun.sinks.labels import LabelSink
from mdrun.sinks.scene import Look
from mdrun.sinks.sheet import SheetSink
from mdrun.sinks.video import VideoSink

__all__ = [
    "FileSink",
    "JsonlSink",
    "LabelSink",
    "Look",
    "OutputFolder",
    "Overflow",
    "PartialFile",
    "SheetSink",
    "Sink",
    "SinkWorker",
    "VideoSink",
]
