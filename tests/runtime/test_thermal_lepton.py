"""Telemetry rows of a Lepton: read, recognised, taken off live images, recorded and replayed.

The rows are written here word by word from the datasheet (203, tables 2 and 3), by nothing that the reader shares.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mdrun.errors import SourceCodecError, SourceTimeoutError
from mdrun.feeds import Event
from mdrun.frames import FfcState, Frame, FramePair, Modality, Provenance
from mdrun.pairing import Pairer, PairLimits
from mdrun.record.header import describe_camera
from mdrun.record.recorder import Recorder
from mdrun.record.replay import ReplayFeed
from mdrun.rig.config import CameraConfig
from mdrun.sources.live.camera import Grab
from mdrun.sources.live.reader import LiveReader
from mdrun.thermal.chain import ThermalChain
from mdrun.thermal.check import LOOKS
from mdrun.thermal.lepton import LOOKS as IMAGES
from mdrun.thermal.lepton import Repeated, Telemetry, find_layout
from tests.runtime.test_live_v4l2 import GOOD, FakeDevice, camera, padded

MS = 1_000_000
NORMAL, IMMINENT, RUNNING, SETTLING, STUCK, UNKNOWN = FfcState
NEVER, SOON, CLOSED, COMPLETE = (state << 4 for state in range(4))
# Words that real rows of a Lepton 3.5 hold: revision 14, bit 11 of the status set although it is reserved.
REVISION, RESERVED = 14, 1 << 11
LEPTON_3, LEPTON_2 = (160, 122, 2), (80, 63, 3)  # width, height, rows of telemetry
SIZES = (LEPTON_3, LEPTON_2)


@dataclass(frozen=True)
class Row:
    """What a camera would write."""

    time_ms: int = 1_000_000
    status: int = COMPLETE | RESERVED
    frame: int = 9000
    revision: int = REVISION
    fpa: int = 30_613
    last_fpa: int = 30_663
    last_ms: int = 900_000
    roi: tuple[int, int, int, int] = (0, 0, 159, 119)
    tlinear: int = 0
    resolution: int = 1

    def bytes(self, length: int) -> bytes:
        """Rows A, B and C as they come over USB."""
        raw = bytearray(length)
        for word, layout, values in (
            (0, "<H", [self.revision]),
            (1, "<I", [self.time_ms]),
            (3, "<I", [self.status]),
            (20, "<I", [self.frame]),
            (24, "<H", [self.fpa]),
            (29, "<H", [self.last_fpa]),
            (30, "<I", [self.last_ms]),
            (34, "<4H", self.roi),
            (72, "<I", [7]),  # raw 14 bits
            (160 + 48, "<2H", [self.tlinear, self.resolution]),
        ):
            struct.pack_into(layout, raw, 2 * word, *values)
        return bytes(raw)

    def on(self, image: NDArray[np.uint16], place: str = "footer") -> NDArray[np.uint16]:
        """The image with these rows below or above it."""
        rows = 3 if image.shape[1] == 80 else 2
        told = np.frombuffer(self.bytes(2 * rows * image.shape[1]), "<u2").reshape(rows, image.shape[1])
        return np.vstack([image, told] if place == "footer" else [told, image])


def scene(index: int, size: tuple[int, int, int] = LEPTON_3, level: int = 7600) -> NDArray[np.uint16]:
    """An image without rows, different for every index."""
    width, height, rows = size
    noise = np.random.default_rng(index).integers(0, 60, (height - rows, width))
    return (level + 4 * np.arange(width) + noise).astype(np.uint16)


def stream(statuses: Iterable[int], tlinear: int = 0) -> list[Row]:
    return [
        Row(1_000_000 + 111 * index, status | RESERVED, 9000 + index, tlinear=tlinear)
        for index, status in enumerate(statuses)
    ]


def device(images: Iterable[NDArray[np.uint16]], size: tuple[int, int, int] = LEPTON_3) -> FakeDevice:
    return FakeDevice({"Y16 ": size[:2]}, [(padded(image), GOOD) for image in images])


def grabs(fake: FakeDevice) -> list[Grab]:
    """All that a connected camera gives."""
    found = camera(fake)
    found.connect()
    given = []
    with suppress(SourceTimeoutError):  # the last one was given
        while True:
            given.append(found.grab())
    return given


def test_a_row_byte_for_byte() -> None:
    row = Row(0x01020304, COMPLETE | 1 << 3 | 1 << 12 | 1 << 15 | 1 << 20, 0xA0B0C0D0, tlinear=1)
    raw = row.bytes(640)
    assert raw[:10].hex() == "0e00" + "04030201" + "38901000"  # the low word of 32 bits first
    assert (raw[40:44].hex(), raw[48:50].hex(), raw[416:420].hex()) == ("d0c0b0a0", "9577", "01000100")
    told = Telemetry.parse(np.frombuffer(raw, "<u2").reshape(2, 160))
    assert (told.revision, told.time_ms, told.frame) == (14, 0x01020304, 0xA0B0C0D0)
    assert (told.fpa_centikelvin, told.last_ffc_centikelvin, told.last_ffc_ms) == (30_613, 30_663, 900_000)
    assert (told.ffc, told.ffc_desired, told.agc, told.locked, told.overheated) == (NORMAL, True, True, True, True)
    assert (told.tlinear, told.kelvin) == (0.01, None)  # gain control on: no temperatures
    assert told.plausible


@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(1, 0xFFF),
    st.integers(21_315, 39_815),
    st.sampled_from([(0, 0, None), (0, 1, None), (1, 0, 0.1), (1, 1, 0.01), (1, 7, None)]),
    st.sampled_from(SIZES),
)
def test_what_is_written_is_read(
    time_ms: int,
    status: int,
    frame: int,
    last_ms: int,
    revision: int,
    fpa: int,
    tlinear: tuple[int, int, float | None],
    size: tuple[int, int, int],
) -> None:
    width, _, rows = size
    row = Row(time_ms, status, frame, revision, fpa, 0, last_ms, (0, 0, width - 1, 59), *tlinear[:2])
    told = Telemetry.parse(np.frombuffer(row.bytes(2 * rows * width), "<u2").reshape(rows, width))
    assert told.plausible
    assert (told.revision, told.time_ms, told.status, told.frame) == (revision, time_ms, status, frame)
    assert (told.fpa_centikelvin, told.last_ffc_ms, told.tlinear) == (fpa, last_ms, tlinear[2])
    assert told.ffc is [NORMAL, IMMINENT, RUNNING, NORMAL][status >> 4 & 3]
    assert told.kelvin == (None if status >> 12 & 1 else tlinear[2])
    assert told.follows(told)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("place", ["footer", "header"])
def test_rows_are_found_and_taken_off(size: tuple[int, int, int], place: str) -> None:
    images = [row.on(scene(index, size), place) for index, row in enumerate(stream([COMPLETE] * 4))]
    layout = find_layout(images[0], images[1])
    assert layout is not None
    for index, image in enumerate(images):
        found = layout.split(image)
        assert found is not None
        np.testing.assert_array_equal(found[0], scene(index, size))
        assert found[1].frame == 9000 + index


@pytest.mark.parametrize(
    "after",
    [
        {"time_ms": 999_999},  # backwards
        {"frame": 8999},
        {"frame": 9050},  # faster than any
        {"time_ms": 1_000_000 + 61_000, "frame": 9500},
        {"revision": 15},
        {"revision": 0},
        {"fpa": 7700},
        {"last_fpa": 7700},
        {"roi": (0, 0, 7700, 119)},
        {"roi": (159, 0, 0, 119)},
    ],
)
def test_what_no_camera_says_is_no_telemetry(after: dict[str, Any]) -> None:
    rows = [Row(), replace(Row(1_000_111, frame=9001), **after)]
    first, second = (row.on(scene(index)) for index, row in enumerate(rows))
    assert find_layout(first, first) is not None  # the same sent again
    assert find_layout(first, second) is None


def test_counters_may_wrap() -> None:
    first, second = Row(2**32 - 50, frame=2**32 - 1).on(scene(0)), Row(61, frame=0).on(scene(1))
    assert find_layout(first, second) is not None


def test_other_sizes_and_depths_hold_none() -> None:
    image = Row().on(scene(0))
    assert find_layout(image[:, :159], image[:, :159]) is None
    assert find_layout(image, image[:63, :80]) is None
    assert find_layout(image.astype(np.uint8), image.astype(np.uint8)) is None


@pytest.mark.realdata
@pytest.mark.parametrize("level", ["raw", "tlinear", "agc", "swapped"])
def test_real_images_are_never_taken_for_telemetry(level: str, real_data: Path) -> None:
    images = np.load(real_data / "rgbt/raw_thermal/lepton3_cptv/possum_first90.npz")["frames"]
    made: NDArray[np.uint16] = {
        "raw": images,
        "tlinear": images + np.uint16(27_000),
        "agc": (images - images.min()) >> 2,
        "swapped": images.byteswap(),
    }[level]
    tall = np.concatenate([made, made[:, 40:42]], axis=1)
    assert tall.shape[1:] == (122, 160)
    for stack in (tall, np.ascontiguousarray(tall[:, :63, :80])):
        assert not [one for one, other in pairwise(stack) if find_layout(one, other) is not None]


def test_a_live_camera_gives_image_and_state() -> None:
    fake = device(row.on(scene(index)) for index, row in enumerate(stream([NEVER, COMPLETE, SOON, CLOSED], tlinear=1)))
    found = camera(fake, "?format=y16&width=160&height=122")
    info = found.connect()
    assert (info.width, info.height, info.dtype, info.ffc_telemetry) == (160, 120, "uint16", True)
    assert info.detail == "Boson, Y16 with telemetry"
    for index, state in enumerate([NORMAL, NORMAL, IMMINENT, RUNNING]):
        grab = found.grab()
        np.testing.assert_array_equal(grab.image, scene(index))
        assert (grab.ffc, grab.kelvin) == (state, 0.01)
    found.disconnect()


@pytest.mark.parametrize("size", SIZES)
def test_an_image_without_telemetry_is_left_alone(size: tuple[int, int, int]) -> None:
    width, height, rows = size
    images = [scene(index, (width, height + rows, rows)) for index in range(IMAGES + 3)]
    fake = device(images, size)
    found = camera(fake)
    info = found.connect()
    assert (info.width, info.height, info.ffc_telemetry, info.detail) == (width, height, False, "Boson, Y16")
    for image in images:
        grab = found.grab()
        np.testing.assert_array_equal(grab.image, image)
        assert (grab.ffc, grab.kelvin) == (None, None)


def test_torn_images_are_left_out() -> None:
    """Rows in the wrong place say that the image is shifted too; the first images of a stream may be."""
    images = [row.on(scene(index)) for index, row in enumerate(stream([COMPLETE] * 6))]
    for torn in (0, 3):
        images[torn] = np.roll(images[torn], 40, axis=0)
    fake = device(images)
    found = camera(fake)
    assert found.connect().height == 120
    for index in (1, 2, 4, 5):
        np.testing.assert_array_equal(found.grab().image, scene(index))
    assert found.damaged == 2
    fake.images = [(padded(images[3]), GOOD)] * 40
    with pytest.raises(SourceCodecError, match="30 images without telemetry"):
        found.grab()


def test_an_image_that_is_sent_again_is_not_given_again() -> None:
    """A Lepton 2 at 27 Hz, each image three times: the time of a repeat is none of its image's."""
    rows = [row for row in stream([COMPLETE, COMPLETE, SOON, CLOSED, CLOSED, COMPLETE]) for _ in range(3)]
    given = grabs(device((row.on(scene(row.frame, LEPTON_2)) for row in rows), LEPTON_2))
    assert [grab.ffc for grab in given] == [NORMAL, NORMAL, IMMINENT, *[RUNNING] * 6, NORMAL]


def test_what_stands_still_is_given_for_others_to_see() -> None:
    images = [row.on(scene(index)) for index, row in enumerate(stream([COMPLETE] * 2))] + [Row().on(scene(9))] * 12
    assert len(grabs(device(images))) == 2 + 1 + 12 - 3
    still = Repeated()
    told = Telemetry.parse(np.frombuffer(Row().bytes(640), "<u2"))
    assert [still.see(told) for _ in range(6)] == [False, True, True, False, False, False]


EVENT = [COMPLETE] * 6 + [SOON] * 6 + [CLOSED] * 8 + [COMPLETE] * 8
STATES = [NORMAL] * 6 + [IMMINENT] * 6 + [RUNNING] * 8 + [SETTLING] * 3 + [NORMAL] * 5


class TimedDevice(FakeDevice):
    """Dates its images 111 ms apart, the first some seconds ago."""

    first_ns = 0
    taken = 0

    def do_dqbuf(self, argument: Any) -> None:
        super().do_dqbuf(argument)
        self.first_ns = self.first_ns or time.monotonic_ns() - len(EVENT) * 111 * MS
        at_ns = self.first_ns + self.taken * 111 * MS
        self.taken += 1
        argument.tv_sec, argument.tv_usec = divmod(at_ns // 1000, 1_000_000)


def live_event() -> tuple[list[Event], bool]:
    """What a reader makes of an event: the shutter is closed for 0.9 s, in which the last image comes again."""
    rows = stream(EVENT, tlinear=1)
    closed, opened = EVENT.index(CLOSED), EVENT.index(CLOSED) + EVENT.count(CLOSED)
    shown = [closed - 1 if closed <= index < opened else index for index in range(len(rows))]
    images = [row.on(scene(index)) for row, index in zip(rows, shown, strict=True)]
    fake = TimedDevice({"Y16 ": (160, 122)}, [(padded(image), GOOD) for image in images])
    events: list[Event] = []
    reader = LiveReader(camera(fake), events.append, stall_s=60.0)
    reader.start()
    until = time.monotonic() + 30
    while sum(isinstance(event, Frame) for event in events) < len(rows) and time.monotonic() < until:
        time.sleep(0.01)
    reader.close()
    assert reader.info is not None
    return events, reader.info.ffc_telemetry


def states(frames: Iterable[Frame], told: bool) -> list[FfcState | None]:
    chain = ThermalChain(CameraConfig(source="x", role="thermal"), "percentile(1,99)", telemetry=told)
    return [chain.prepare(frame).ffc for frame in frames]


def test_no_pair_is_measured_inside_an_event_that_a_live_camera_tells() -> None:
    events, _ = live_event()
    frames = [event for event in events if isinstance(event, Frame)]
    assert [frame.image.shape for frame in frames] == [(120, 160)] * len(EVENT)
    chain = ThermalChain(CameraConfig(source="x", role="thermal"), "percentile(1,99)", telemetry=False)
    pairer, seen = Pairer(PairLimits()), list[FfcState | None]()
    inside, outside = list[FramePair](), list[FramePair]()
    zero, waiting = frames[0].captured_ns, list(frames)
    closed_ms, opened_ms = (zero_of.captured_ns // MS for zero_of in (frames[12], frames[20]))
    for now_ms in range(zero // MS + 100, frames[-1].captured_ns // MS, 33):
        while waiting and waiting[0].captured_ns <= now_ms * MS:
            made = chain.prepare(waiting.pop(0))
            pairer.add_thermal(made)
            seen.append(made.ffc)
        visible = Frame(np.zeros((2, 2, 3), np.uint8), Modality.VISIBLE, now_ms * MS, now_ms, "cam0")
        pair = pairer.pair(visible, now_ms * MS)
        (inside if closed_ms < now_ms < opened_ms + 334 else outside).append(pair)  # settled with the third image
    assert seen == STATES[: len(seen)]
    assert len(seen) >= len(STATES) - 1
    assert len(inside) > 30
    assert {(pair.provenance, pair.reason) for pair in inside} == {(Provenance.ABSENT, "ffc")}
    assert {pair.provenance for pair in outside} == {Provenance.MEASURED, Provenance.HELD}
    assert chain.ffc.events == 1


def test_a_recording_replays_the_same_states_and_degrees(tmp_path: Path) -> None:
    events, told = live_event()
    thermal = describe_camera(Modality.THERMAL, "cam1", fps=9.0)
    recorder = Recorder(tmp_path / "run", {Modality.THERMAL: thermal}, live=True)
    for event in events:
        recorder.put(event)
    recorder.describe(Modality.THERMAL, ffc_telemetry=told)
    assert recorder.close().header.cameras[Modality.THERMAL].height == 120
    with ReplayFeed(tmp_path / "run") as feed:
        assert feed.shutter_told
        replayed = []
        while not feed.ended:
            if isinstance(given := feed.next(1.0), Frame):
                replayed.append(given)
    lived = [event for event in events if isinstance(event, Frame)]
    assert states(lived, told=False) == states(replayed, told=True) == STATES
    for one, other in zip(lived, replayed, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        assert (one.captured_ns, one.ffc, one.kelvin) == (other.captured_ns, other.ffc, other.kelvin)
    assert {frame.kelvin for frame in replayed} == {0.01}


BOX = np.array([[0, 0, 160, 120]], np.float32)


def prepared(chain: ThermalChain, level: int, kelvin: float | None, looks: int = 1) -> tuple[Frame, int]:
    """The last of some frames, and its hottest count."""
    frames = [
        Frame(scene(index, level=level), Modality.THERMAL, index * 111 * MS, index, "cam1", kelvin=kelvin)
        for index in range(looks)
    ]
    return [chain.prepare(frame) for frame in frames][-1], int(frames[-1].image.max())


@pytest.mark.parametrize(
    ("rule", "given", "kelvin", "scale"),
    [
        ("percentile(1,99)", None, 0.1, 0.1),  # told
        ("percentile(1,99)", None, None, None),
        ("percentile(1,99)", 0.02, 0.1, 0.02),  # the rig file goes first
        ("centikelvin(0,60)", None, 0.1, 0.1),  # telemetry before the rule
        ("centikelvin(0,60)", None, None, 0.01),
    ],
)
def test_degrees_as_the_camera_tells(rule: str, given: float | None, kelvin: float | None, scale: float | None) -> None:
    keys = {} if given is None else {"radiometry": {"kind": "linear", "scale": given}}
    config = CameraConfig.model_validate({"source": "x", "role": "thermal", **keys})
    chain = ThermalChain(config, rule, telemetry=True)
    frame, hottest = prepared(chain, 2900, kelvin)
    degrees = chain.celsius(frame, BOX)
    if scale is None:
        assert degrees is None
    else:
        assert degrees is not None
        assert degrees[0] == pytest.approx(hottest * scale - 273.15, abs=1e-3)


@pytest.mark.parametrize("kelvin", [0.1, 0.01, None])
def test_a_scale_that_the_rule_does_not_mean_is_told(kelvin: float | None) -> None:
    chain = ThermalChain(CameraConfig(source="x", role="thermal"), "centikelvin(0,60)", telemetry=True)
    prepared(chain, 29_000, kelvin, LOOKS)
    told = [problem for problem in chain.problems if problem.startswith("counts of 0.1 K")]
    assert len(told) == (kelvin == 0.1)
