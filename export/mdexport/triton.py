"""`mdexport triton`: engines to a model repository of Triton Inference Server."""

from __future__ import annotations

import shutil
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from mdexport.places import locked, refuse_replacing, writing
from mdexport.triton_config import (
    FILES,
    Servable,
    ServeOptions,
    find_remarks,
    import_messages,
    make_config,
    read_servable,
)
from mdrun.errors import EngineError, UsageError
from mdrun.files import PartialFolder
from mdtrain.outputs import result_folder

CONFIG, LABELS, MANIFEST = "config.pbtxt", "labels.txt", "manifest.json"


class Served(NamedTuple):
    """A model of the repository: its folder, the configuration in it (a `ModelConfig` message), and remarks on it."""

    path: Path
    config: Any
    remarks: list[str]


def write_repository(engines: list[Path], output: Path, options: ServeOptions) -> list[Served]:
    """Add engines to a model repository, each under the stem of its file. All are prepared before the first is named.

    Args:
        engines: ONNX files or plans of `mdexport`.
        output: the repository; other models and other versions in it stay.
        options: how they are to be served.

    Raises:
        MdrunError: Triton's client package is not installed.
        EngineError: an engine cannot be used, or Triton has no platform for it.
        UsageError: two engines of one name, an option that an engine cannot follow, an engine that lies where it would
            be written, or other versions in the repository that take or give something else.
        OutputError: the place cannot be written; nothing is left there.
    """
    twice = [name for name, count in Counter(path.stem for path in engines).items() if count > 1]
    if twice:
        raise UsageError(f"got two engines of the name {twice[0]}, which names the model; rename one of the files")
    for path in engines:
        refuse_replacing(output / path.stem / str(options.version), path)
    prepared = [(engine, make_config(engine, options)) for engine in map(read_servable, engines)]
    with result_folder(output), locked(output, inside=True), writing(output), ExitStack() as leftovers:
        folders = []
        for engine, config in prepared:
            folder = PartialFolder(output / engine.path.stem)
            leftovers.callback(folder.discard)
            _fill(folder, engine, config, str(options.version))
            folders.append(folder)
        for folder in folders:
            folder.commit()
    return [Served(output / engine.path.stem, config, find_remarks(engine, options)) for engine, config in prepared]


def _fill(folder: PartialFolder, engine: Servable, config: Any, version: str) -> None:
    """Write a model beside its final place: what other versions there are, and this one."""
    labels = "".join(f"{name}\n" for name in engine.manifest.classes)
    if folder.path.exists():
        _check_other_versions(folder.path, config, labels, version)
        shutil.copytree(folder.path, folder.part)
        shutil.rmtree(folder.part / version, ignore_errors=True)
    place = folder.part / version
    place.mkdir(parents=True)
    shutil.copyfile(engine.path, place / FILES[engine.platform])
    (place / MANIFEST).write_text(engine.manifest.to_json() + "\n", encoding="utf-8")
    (folder.part / LABELS).write_text(labels, encoding="utf-8")
    messages, text_format = import_messages()
    path = folder.part / CONFIG
    path.write_text(f"# Made by `mdexport triton` of {engine.path.name}.\n{text_format.MessageToString(config)}")
    if text_format.Parse(path.read_text(encoding="utf-8"), messages.ModelConfig()) != config:
        raise EngineError(f"{engine.path}: its {CONFIG} does not read back as it was written; please report it")


def _check_other_versions(path: Path, config: Any, labels: str, version: str) -> None:
    """One configuration holds for all versions of a model, so they must take and give the same."""
    messages, text_format = import_messages()
    try:
        older = text_format.Parse((path / CONFIG).read_text(encoding="utf-8"), messages.ModelConfig())
        older_labels = (path / LABELS).read_text(encoding="utf-8")
    except (OSError, ValueError, text_format.ParseError) as error:
        raise UsageError(f"{path}: is there and no model of `mdexport triton`; choose another --output") from error
    others = sorted(entry.name for entry in path.iterdir() if entry.name.isdecimal() and entry.name != version)
    keys = ("platform", "max_batch_size", "input", "output")
    odd = [key for key in keys if getattr(older, key) != getattr(config, key)]
    odd += ["classes"] if labels != older_labels else []
    if others and odd:
        raise UsageError(
            f"{path}: version {', '.join(others)} in it has another {' and '.join(odd)}, and all versions share one "
            "configuration; rename the engine, or choose another --output"
        )
