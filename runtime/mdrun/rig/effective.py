"""The rig that a configuration comes to: what depends on an engine or on the cameras is filled in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from mdrun.errors import RigError
from mdrun.models import FOLDER, resolve
from mdrun.onnx_file import read_manifest
from mdrun.rig.config import NO_HURRY_MS, THERMAL_KEYS, PairingConfig, RigConfig, RungConfig
from mdrun.rig.environment import expand
from mdrun.sources.uri import is_live, parse_uri, redact


def effective(rig: RigConfig) -> RigConfig:
    """The same rig with its ladder, thresholds and waiting time written out, and with paths that hold anywhere.

    Raises:
        EngineError: an engine that cannot be read; its thresholds are not known.
        UsageError: a source that cannot be meant.
    """
    rungs = [_rung(rig, number, rung) for number, rung in enumerate(rig.ladder.rungs)]
    found: dict[str, Any] = {
        "ladder": rig.ladder.model_copy(update={"engines": rungs}),
        "pairing": _pairing(rig),
        "display_threshold": None,  # each engine has its own
    }
    if rig.calibration is not None:
        found["calibration"] = rig.calibration.absolute()
    return rig.model_copy(update=found)


def print_config(rigs: Sequence[RigConfig]) -> str:
    """The effective rigs as the YAML of a rig file, which read again gives the same; secrets are left out.

    Raises:
        MdrunError: as `effective`.
    """
    plain = [_plain(effective(rig)) for rig in rigs]
    return yaml.safe_dump(plain[0] if len(plain) == 1 else {"rigs": plain}, sort_keys=False, allow_unicode=True)


def with_secrets(rigs: Sequence[RigConfig]) -> list[str]:
    """What holds a secret that is not `${NAME}`, such as `gate: cam0` or `gate: outputs`."""
    return list(
        dict.fromkeys(f"{rig.rig}: {where}" for rig in rigs for where, text in _uris(rig) if _hide(text) != text)
    )


def _rung(rig: RigConfig, number: int, rung: RungConfig) -> RungConfig:
    path = resolve(rung.engine)
    found: dict[str, Any] = {"engine": path.stem if path.parent == FOLDER else str(path.absolute())}
    manifest = read_manifest(path)
    if manifest.task != "segment":  # label maps have no scores
        own = manifest.thresholds
        found["threshold"] = own.report if rung.threshold is None else rung.threshold
        found["display_threshold"] = rig.display(number, own.display)
    return rung.model_copy(update=found)


def _pairing(rig: RigConfig) -> PairingConfig:
    """Recordings wait where nothing else is asked for."""
    if "wait_ms" in rig.pairing.model_fields_set:
        return rig.pairing
    sources = [camera.source for camera in rig.cameras.values()]
    try:
        sources = [expand(camera.source, name) for name, camera in rig.cameras.items()]
    except RigError:  # a variable is missing, most often a password
        if any(source.startswith("${") for source in sources):
            return rig.pairing  # only the variable knows what kind of source this is
    waits = not any(is_live(uri) or uri.scheme == "replay" for uri in map(parse_uri, sources))
    return rig.pairing.model_copy(update={"wait_ms": NO_HURRY_MS if waits else rig.pairing.wait_ms})


def _plain(rig: RigConfig) -> dict[str, Any]:
    """Keys and values of a rig file; without those that must not be there, or that stand for something else."""
    plain = rig.model_dump(mode="json")
    for camera in plain["cameras"].values():
        camera["source"] = _hide(camera["source"])
        for key in THERMAL_KEYS if camera["role"] == "visible" else ():
            del camera[key]
    plain["outputs"] = [_hide(text) for text in plain["outputs"]]
    plain["ladder"]["engines"] = [rung.model_dump(exclude_none=True) for rung in rig.ladder.engines]
    if "wait_ms" not in rig.pairing.model_fields_set:
        del plain["pairing"]["wait_ms"]
    del plain["display_threshold"]
    return plain


def _uris(rig: RigConfig) -> Iterator[tuple[str, str]]:
    yield from ((name, camera.source) for name, camera in rig.cameras.items())
    yield from (("outputs", text) for text in rig.outputs)


def _hide(text: str) -> str:
    return redact(text, references=True)
