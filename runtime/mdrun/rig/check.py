"""Everything that a rig names, looked at before a camera is opened or a file is written.

All mistakes are told at once, each with its line of the rig file: who mends a file wants to start it once more, not
once for each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from mdrun.backends.choice import check_backend, choose
from mdrun.engine import Engine, check_scores
from mdrun.errors import CalibrationError, EngineError, MdrunError, RigError, UsageError
from mdrun.files import check_place
from mdrun.frames import Modality
from mdrun.manifest import Manifest
from mdrun.models import resolve
from mdrun.monitor import Monitor
from mdrun.onnx_file import read_manifest
from mdrun.problems import Problem, in_one_line
from mdrun.registration.model import Registration
from mdrun.rig.cameras import check_kinds, check_source, open_feed
from mdrun.rig.config import RigConfig, RungConfig
from mdrun.rig.environment import check_environment, expand, has_missing
from mdrun.rig.ladder import check_cameras, name_rungs
from mdrun.sinks.context import SinkContext
from mdrun.sinks.scene import Look
from mdrun.sinks.uri import FILES, OutputUri, build_sink, is_folder, parse_output
from mdrun.sources.uri import parse_uri
from mdrun.strict import read_yaml
from mdrun.tracking.places import Place, make_places
from mdrun.tracking.tracker import check_alarm
from mdrun.verified import check_verified

NO_FILE: tuple[Path, dict[str, int]] = (Path(), {})
RUN_FILES = ("results.jsonl", "overlay.mp4")  # of an output folder
# What a flag puts in the place of the file's; the line of the file would be that of something else.
SECTIONS = {
    "visible": "cameras",
    "thermal": "cameras",
    "engine": "ladder",
    "backend": "ladder",
    "output": "outputs",
    "calibration": "calibration",
}


@dataclass(frozen=True)
class Mistake:
    """What is wrong with one rig.

    Attributes:
        key: of the rig file, such as `outputs.1`.
        error: what is said about it.
    """

    key: str
    error: MdrunError


@dataclass
class _Looks:
    """All mistakes of one rig, collected one check after the other."""

    rig: RigConfig
    deep: bool
    found: list[Mistake] = field(default_factory=list)

    @contextmanager
    def at(self, key: str) -> Iterator[None]:
        """Keep what is said about a key, and go on."""
        try:
            yield
        except MdrunError as error:
            self.found.append(Mistake(key, error))

    def environment(self) -> None:
        texts = {f"cameras.{name}.source": camera.source for name, camera in self.rig.cameras.items()}
        texts |= {f"outputs.{number}": text for number, text in enumerate(self.rig.outputs) if not is_folder(text)}
        with self.at(next((key for key, text in texts.items() if has_missing(text)), "")):
            check_environment([self.rig])

    def cameras(self) -> None:
        before, uris = len(self.found), []
        for name, camera in self.rig.cameras.items():
            with self.at(f"cameras.{name}.source"), suppress(RigError):  # a missing variable is told once for all
                uris.append(parse_uri(expand(camera.source, name)))
                if self.deep:
                    check_source(uris[-1], Modality(camera.role))
        if len(self.found) > before or len(uris) < len(self.rig.cameras):
            return
        with self.at("cameras"):
            check_kinds(self.rig.rig, uris)
            if self.deep:
                open_feed(self.rig).feed.close()

    def engines(self) -> list[Manifest]:
        """Manifests of the ladder; of a ladder with mistakes, those that could be read."""
        before = len(self.found)
        rungs: list[RungConfig] = []
        with self.at("ladder"):
            rungs = self.rig.ladder.rungs
        manifests = []
        for number, rung in enumerate(rungs):
            with self.at(f"ladder.engines.{number}"):
                manifests.append(self._engine(rung))
                _refuse_again(rung, rungs[:number])
        if len(self.found) == before:
            with self.at("ladder.engines"):
                check_cameras(self.rig, manifests)
                _refuse_idle(manifests, self.rig.ladder.strange == "fallback")
        return manifests

    def _engine(self, rung: RungConfig) -> Manifest:
        path = resolve(rung.engine)
        manifest = read_manifest(path)
        check_backend(rung.backend)
        choose(path, manifest, rung.backend)
        if rung.threshold is not None:
            check_scores(manifest, "threshold")
        if self.rig.ladder.require_verified:
            check_verified(manifest, path)
        if self.deep:
            Engine.load(path, threshold=rung.threshold, backend=rung.backend, threads=self.rig.ladder.threads).close()
        return manifest

    def calibration(self) -> None:
        if self.rig.calibration is not None:
            with self.at("calibration"):
                if not Registration.load(self.rig.calibration).coverage:
                    raise CalibrationError(
                        f"{self.rig.calibration}: by it the thermal camera sees nothing of the visible view; look at "
                        "its sizes and direction, or calibrate again"
                    )

    def tracking(self, first: Manifest) -> None:
        config = self.rig.tracking
        if not config.enabled:
            return
        if first.task != "detect":
            for key in ("zones", "alarms"):
                if getattr(config, key):
                    with self.at(f"tracking.{key}"):
                        raise RigError(
                            f"{key} want an engine that detects, the task of {first.engine_name} is {first.task}; "
                            "leave them out"
                        )
            return
        places: list[Place] = []
        for name, zone in config.zones.items():
            with self.at(f"tracking.zones.{name}"):
                places += make_places({name: zone}, first.classes)
        wrong = set(config.zones) - {place.name for place in places}
        for number, alarm in enumerate(config.alarms):
            if wrong and (alarm.place in wrong or not alarm.place):
                continue  # what it wants may be the zone that is told already
            with self.at(f"tracking.alarms.{number}"):
                check_alarm(alarm, places, first.classes)

    def outputs(self, manifests: Sequence[Manifest]) -> None:
        for number, text in enumerate(self.rig.outputs):
            with self.at(f"outputs.{number}"), suppress(RigError):
                if is_folder(text):
                    check_place(Path(text), folder=True)
                    continue
                uri = parse_output(expand(text, "outputs"))
                if uri.kind in FILES:
                    check_place(Path(uri.path), folder=uri.kind == "hls")
                if manifests:
                    _check_task(uri, manifests[0])
                    if self.deep:
                        build_sink(expand(text, "outputs"), _context(self.rig, manifests), Path())


def check_rigs(
    rigs: Sequence[RigConfig],
    files: Sequence[Path] = (),
    flags: Mapping[str, Any] | None = None,
    *,
    deep: bool = False,
) -> None:
    """Look at everything that rigs name, without connecting to a camera or a server.

    Args:
        rigs: of one run, with the flags.
        files: that they were read from, for the lines.
        flags: that were given, by name.
        deep: also what a run says only while it starts: engines are loaded, recordings opened, outputs prepared.

    Raises:
        MdrunError: every mistake in one line, with the code of the first: a source or output that cannot be meant, an
            engine, a calibration or a recording that cannot be read, what does not go together.
    """
    mistakes = {rig.rig: _look_at(rig, deep) for rig in rigs}
    for name, mistake in _written_twice(rigs):
        mistakes[name].append(mistake)
    if not any(mistakes.values()):
        return
    of_flags = tuple(section for flag, section in SECTIONS.items() if (flags or {}).get(flag))
    lines = _lines(files, of_flags)
    told = [
        (path, Problem("", str(mistake.error), _line(known, mistake.key)), mistake.error)
        for rig, found in mistakes.items()
        for mistake in found
        for path, known in [NO_FILE if mistake.key.startswith(of_flags) else lines.get(rig, NO_FILE)]
    ]
    told.sort(key=lambda one: (str(one[0]), one[1].line is None, one[1].line or 0))
    texts = [
        in_one_line([problem for _, problem, _ in group], "" if path == Path() else path)
        for path, group in groupby(told, key=lambda one: one[0])
    ]
    raise type(told[0][2])("; ".join(texts))


def _look_at(rig: RigConfig, deep: bool) -> list[Mistake]:
    looks = _Looks(rig, deep)
    looks.environment()
    looks.cameras()
    manifests = looks.engines()
    looks.calibration()
    if manifests:
        looks.tracking(manifests[0])
    looks.outputs(manifests)
    return looks.found


def _refuse_again(rung: RungConfig, before: Sequence[RungConfig]) -> None:
    path = resolve(rung.engine).resolve()
    for other in before:
        with suppress(EngineError):  # told of the other one
            same = (resolve(other.engine).resolve(), other.backend, other.threshold)
            if same == (path, rung.backend, rung.threshold):
                raise RigError(f"{rung.engine} is in the ladder twice; leave one out, the second would never run")


def _refuse_idle(manifests: Sequence[Manifest], energy: bool) -> None:
    """An engine behind one that runs whenever it could; most often the two stand in the wrong order.

    `energy`: a strange result is handed down the ladder, so that any engine may have its turn.
    """
    for number, (name, manifest) in enumerate(zip(name_rungs(manifests), manifests, strict=True)):
        for before in manifests[:number]:
            if not energy and set(before.needs) <= set(manifest.needs):
                raise RigError(
                    f"ladder: {name} would never run, for {before.engine_name} before it needs no more "
                    f"({', '.join(before.needs)}); put it before that one, or leave it out"
                )


def _check_task(uri: OutputUri, manifest: Manifest) -> None:
    if uri.kind == "coco" and manifest.task != "detect":
        raise UsageError(
            f"{uri}: COCO holds boxes, and the task of {manifest.engine_name} is {manifest.task}; wanted jsonl:FILE"
        )


def _context(rig: RigConfig, manifests: Sequence[Manifest]) -> SinkContext:
    first = manifests[0]
    used = any("thermal" in manifest.inputs for manifest in manifests)
    look = Look(first.engine_name, first.classes, rig.display(0, first.thresholds.display), used, first.task)
    names = {m: found[0] for m in Modality if (found := rig.camera(m)) is not None}
    return SinkContext(rig.rig, first.classes, look, Monitor(rig.rig, names), thermal_used=used)


def _written_twice(rigs: Sequence[RigConfig]) -> Iterator[tuple[str, Mistake]]:
    """Outputs that would write over each other, or tell the same place everything twice."""
    taken: dict[str, str] = {}
    for rig in rigs:
        for number, text in enumerate(rig.outputs):
            with suppress(MdrunError):  # told already
                for place in _places(rig.rig, expand(text, "outputs")):
                    if place in taken:
                        said = f"output {_named(text)} goes where {taken[place]} goes already; leave one out"
                        yield rig.rig, Mistake(f"outputs.{number}", UsageError(said))
                        break
                    taken[place] = f"{_named(text)} of rig {rig.rig}" if len(rigs) > 1 else _named(text)


def _places(rig: str, text: str) -> list[str]:
    """What an output takes for itself: its files among all rigs, a server only within its own rig."""
    if is_folder(text):
        return [str(Path(text, name).resolve()) for name in RUN_FILES]
    uri = parse_output(text)
    path = Path(uri.path)
    if uri.kind in FILES and (path.is_dir() or path.is_file() or not path.exists()):  # a pipe has room for many
        return [str(path.resolve())]
    return [str(uri) if uri.kind == "rtsp" else f"{rig} {text}"]


def _named(text: str) -> str:
    return text if is_folder(text) else str(parse_output(text))


def _lines(files: Sequence[Path], gone: tuple[str, ...]) -> dict[str, tuple[Path, dict[str, int]]]:
    """File and lines of each rig, by its name; without the keys that a flag has set."""
    found = {}
    for path in files:
        data, lines = read_yaml(path)
        several = data.get("rigs")
        for number, rig in enumerate([data] if several is None else several):
            start = "" if several is None else f"rigs.{number}."
            own = {key.removeprefix(start): line for key, line in lines.items() if key.startswith(start)}
            name = str(rig.get("rig", RigConfig.model_fields["rig"].default))
            found[name] = (path, {key: line for key, line in own.items() if not key.startswith(gone)} if gone else own)
    return found


def _line(lines: Mapping[str, int], key: str) -> int | None:
    """Of a key, or of what holds it."""
    parts = key.split(".") if key else []
    return next((lines[held] for n in range(len(parts), 0, -1) if (held := ".".join(parts[:n])) in lines), None)
