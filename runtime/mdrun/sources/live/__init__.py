"""Live cameras: a connection each, a thread each, explicit states, and a way back after every loss."""

from mdrun.sources.live.camera import Camera, CameraInfo, EndOfRecording, Grab
from mdrun.sources.live.opening import open_camera
from mdrun.sources.live.paced import Pace
from mdrun.sources.live.reader import LiveReader, close_readers
from mdrun.sources.uri import is_live

__all__ = [
    "Camera",
    "CameraInfo",
    "EndOfRecording",
    "Grab",
    "LiveReader",
    "Pace",
    "close_readers",
    "is_live",
    "open_camera",
]
