"""From a configuration or a file of weights to a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from torch import nn

from mdrun.errors import EngineError
from mdrun.onnx_file import PLAN_SUFFIXES
from mdtrain.config import Config
from mdtrain.data.augment import Sizes
from mdtrain.models.classifier import ClassifierSpec
from mdtrain.models.detector import DetectorSpec
from mdtrain.models.segmenter import SegmenterSpec
from mdtrain.models.streams import IN_CHANNELS, DecisionLevel, Spec, Student, Teacher
from mdtrain.state import load_weights

WEIGHTS = "weights.safetensors"
ENGINES = {".onnx", *PLAN_SUFFIXES}
ZIP = b"PK\x03\x04"  # what torch.save writes
LONGEST_SHOWN = 60  # characters of a value in an error


def sizes(config: Config) -> Sizes:
    """Network sizes of a run."""
    model, data = config.model, config.data
    return Sizes(model.visible, model.thermal, data.coarser_share, data.modality_dropout, data.shrink)


def spec_of(config: Config) -> Spec:
    """What the network of a run is made of."""
    model, classes = config.model, len(config.class_names)
    if config.task == "segment":
        return SegmenterSpec(model.backbone, model.widths, model.output_stride, model.decoder, classes)
    if config.task == "classify":
        return ClassifierSpec(model.backbone, model.widths, classes)
    return DetectorSpec(
        model.backbone,
        model.widths,
        model.neck,
        model.tower,
        model.shared_tower,
        model.anchors,
        model.levels,
        classes,
    )


def build_teacher(config: Config) -> Teacher | DecisionLevel:
    """Two-stream network."""
    fusion = config.model.fusion
    return DecisionLevel(spec_of(config)) if fusion == "decision" else Teacher(spec_of(config), fusion)


def build_student(config: Config) -> Student:
    """One-stream network."""
    return Student(spec_of(config), config.inputs, config.model.imitates)


class Facts(BaseModel):
    """What a finished run says about itself in the metadata of its weights; keys beyond these are kept."""

    model_config = ConfigDict(extra="allow")

    command: str
    accuracy: dict[str, float]
    display_score: float = Field(ge=0, le=1)
    teacher_sha256: str | None = None
    energy_threshold: float | None = None


class Trained(NamedTuple):
    """A network with its history. `facts` as `state.save_weights` wrote them: those of `Facts` are there."""

    model: nn.Module
    kind: str
    config: Config
    facts: dict[str, Any]


def load_trained(path: Path, kind: str | None = None) -> Trained:
    """Read `weights.safetensors` of a finished run.

    Raises:
        EngineError: missing, damaged, not ours, or of another kind than asked for.
    """
    if not path.is_file():
        raise EngineError(f"{path}: {_no_file(path)}")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    except (SafetensorError, OSError) as error:
        if kind_there := _other_kind(path):
            raise EngineError(
                f"{path}: {kind_there}, wanted the weights of a run; name its RUN/weights.safetensors"
            ) from error
        raise EngineError(f"{path}: not a readable safetensors file ({error}); copy it again") from error
    if missing := {"kind", "config", "facts"} - metadata.keys():
        raise EngineError(f"{path}: metadata lack {', '.join(sorted(missing))}; wanted weights written by mdtrain")
    if kind is not None and metadata["kind"] != kind:
        raise EngineError(f"{path}: weights of a {metadata['kind']}, wanted those of a {kind}")
    try:
        config = Config.model_validate_json(metadata["config"])
    except ValidationError as error:
        raise EngineError(
            f"{path}: written by another version of mdtrain ({_problems(error, 'config')}); "
            "take the version that wrote it, or train again"
        ) from error
    facts = _read_facts(metadata["facts"], path)
    model: nn.Module = build_teacher(config) if metadata["kind"] == "teacher" else build_student(config)
    load_weights(model, weights, path)
    return Trained(model.eval(), metadata["kind"], config, facts)


def _no_file(path: Path) -> str:
    """What is wrong with a path that is no file, and the way out."""
    if not path.is_dir():
        return f"no such file of weights; a run of mdtrain leaves RUN/{WEIGHTS}"
    if (path / WEIGHTS).is_file():
        return f"is a folder, wanted a file of weights; name {path / WEIGHTS}"
    return f"is a folder without {WEIGHTS}, wanted such a file; a finished run of mdtrain leaves it"


def _other_kind(path: Path) -> str | None:
    """What a file is that is taken for weights; None where that cannot be told."""
    with path.open("rb") as file:
        if file.read(len(ZIP)) == ZIP:
            return "a checkpoint or another file of torch.save"
    return "an engine" if path.suffix in ENGINES else None


def start_from(model: nn.Module, path: Path, kind: str, config: Config) -> None:
    """Give a network the weights of a finished run.

    A student of one camera may begin as one of both: it keeps what its first convolution made of that camera's image.

    Raises:
        EngineError: as `load_trained`, of another architecture, or a detector of other categories; names what differs.
    """
    finished, _, before, _ = load_trained(path, kind)
    if before.task == config.task == "detect" and before.categories != config.categories:
        raise EngineError(
            f"{path}: detects {', '.join(before.categories)}, wanted weights for {', '.join(config.categories)}; "
            "give both the same data.classes, or leave --start out"
        )
    weights = finished.state_dict()
    if isinstance(model, Student) and isinstance(finished, Student) and finished.inputs == "both" != model.inputs:
        first = next(name for name, part in finished.named_modules() if part is finished.stem.first) + ".weight"
        channels = IN_CHANNELS[model.inputs]
        weights[first] = weights[first][:, :channels] if model.inputs == "visible" else weights[first][:, -channels:]
    load_weights(model, weights, path)


def _read_facts(text: str, path: Path) -> dict[str, Any]:
    try:
        return Facts.model_validate_json(text).model_dump(exclude_unset=True)
    except ValidationError as error:
        raise EngineError(
            f"{path}: the facts in its metadata are not those of a finished run ({_problems(error, 'facts')}); "
            "copy it again, or train"
        ) from error


def _problems(error: ValidationError, whole: str) -> str:
    """Every key, or the name of the whole, with what is wrong with its value, and the value where it is short."""
    return "; ".join(
        f"{'.'.join(map(str, problem['loc'])) or whole}: {problem['msg']}{_got(problem['input'])}"
        for problem in error.errors()
    )


def _got(value: object) -> str:
    return f", got {value!r}" if isinstance(value, str | int | float) and len(repr(value)) <= LONGEST_SHOWN else ""
