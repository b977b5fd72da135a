"""Configuration of a training run: YAML, strict, all problems in one error."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import yaml
from pydantic import Field, FiniteFloat, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from mdrun.errors import UsageError
from mdrun.problems import Problem, find_problems, in_one_line
from mdrun.strict import Strict, read_yaml
from mdrun.thermal.normalise import Rule
from mdtrain.data.augment import Shrink
from mdtrain.data.categories import NAMES_WANTED, are_categories
from mdtrain.data.records import CLASSES, LABEL_CLASSES
from mdtrain.data.sets import DownloadedSet, SetName
from mdtrain.data.sets.kaist import KaistLabels
from mdtrain.data.sets.llvip import FOLDERS as LLVIP_LISTS
from mdtrain.models.sizes import SIZES, SizeName
from mdtrain.precision import Computed, Precision, computed_precision

PACKAGE = Path(__file__).parent
Positive = Annotated[int, Field(ge=1)]
TaskName = Literal["detect", "segment", "classify"]
Int8Target = Literal["cpu", "tensorrt"]  # who runs an INT8 engine, as `mdexport int8 --target` names it
TO_RUN = "to run"  # context of a validation; the configuration of a finished run is history, whatever it was
FEWEST_CLASSES = 2
MEANS = ("mean", "overall")  # rows of accuracies that are no class
LEAST_BATCH = 2  # pairs a process where a map has one place: one value a channel has no variance to normalise by
TOP_STRIDE = {"resnet18": 32, "vgg16": 16}


class Conflict(NamedTuple):
    """A value that another key rules out, and what is wanted instead."""

    key: str
    got: Any
    wanted: str


def _wanted(text: str) -> PydanticCustomError:
    """As `mdrun.problems` says it: the key is …, wanted `text`."""
    return PydanticCustomError("conflict", "{wanted}", {"wanted": text})


def _refuse(conflicts: Iterable[Conflict]) -> None:
    """Raise all of them in one error, each at its key."""
    details = [
        InitErrorDetails(type=_wanted(conflict.wanted), loc=tuple(conflict.key.split(".")), input=conflict.got)
        for conflict in conflicts
    ]
    if details:
        raise ValidationError.from_exception_data("Config", details)


class DataConfig(Strict):
    """Training and validation pairs.

    `root` holds a folder of each set's name; `street` is a folder of synthetic scenes written by `mdtrain street`.
    `lists` names the training list of a set where it is not `train`; `validation` is the set whose
    `validation_list` judges, or several that judge together; `street` can be one. `labels` is the view of MSRS labels,
    `kaist_labels` the version of KAIST's. `normalisation` is the rule by which 16-bit thermal images become 8 bits, as
    docs/thermal.md writes it; `agc8` reads images of 8 bits. `shrink` is how a thermal image is reduced to the sensor's
    size. `classes` are those of task=classify, or the categories of boxes of task=detect (none: person, bicycle, car),
    in the order of the class index.
    """

    root: Path = Path("data/rgbt")
    sets: list[DownloadedSet] = ["msrs", "roadscene"]
    lists: dict[DownloadedSet, str] = {}
    validation: list[SetName] = Field(["msrs"], min_length=1)
    validation_list: str = "val"
    labels: Literal["fusion", "infrared", "visible"] = "fusion"
    kaist_labels: KaistLabels = "sanitized"
    street: Path | None = None
    normalisation: str = "agc8"
    classes: list[str] = []
    mosaic_share: float = Field(0.4, ge=0, le=1)
    mosaic_stop: float = Field(0.8, ge=0, le=1, description="share of the run after which mosaics end")
    coarser_share: float = Field(1 / 3, ge=0, le=1, description="samples of a thermal sensor coarser than the model's")
    shrink: Shrink = "area"
    modality_dropout: float = Field(0, ge=0, le=1, description="share of samples with one camera's image black")
    threads: int = Field(1, ge=1)
    cache_mb: int = Field(4096, ge=0, description="memory for decoded images, MiB; the rest is decoded each time")

    @property
    def validation_name(self) -> str:
        """Sets, with their labels where there are several, and list that judge; accuracies are named so.

        For example `msrs-fusion_val`, `msrs-fusion+street_val`.
        """
        labels = {"msrs": self.labels, "kaist": self.kaist_labels}
        names = [f"{name}-{labels[name]}" if name in labels else name for name in self.validation]
        return f"{'+'.join(names)}_{self.validation_list}"

    @field_validator("validation", mode="before")
    @classmethod
    def _one_set_is_a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("normalisation")
    @classmethod
    def _is_a_rule(cls, value: str) -> str:
        return str(Rule.parse(value))

    @field_validator("classes")
    @classmethod
    def _are_names(cls, names: list[str]) -> list[str]:
        if len(set(names)) < len(names):
            raise ValueError(f"classes are {', '.join(names)}, wanted each name once")
        if odd := [name for name in names if not name or "/" in name or name in MEANS]:
            raise ValueError(f"classes hold {odd[0]!r}, wanted names of folders other than {' and '.join(MEANS)}")
        return names

    @property
    def rule(self) -> Rule:
        """`normalisation`, read."""
        return Rule.parse(self.normalisation)

    @model_validator(mode="after")
    def _fits_together(self, info: ValidationInfo) -> DataConfig:
        _refuse([*self._nothing_there(), *(self._taken_twice() if info.context == TO_RUN else ())])
        return self

    def _nothing_there(self) -> Iterator[Conflict]:
        if not self.sets and self.street is None:
            yield Conflict(
                "sets",
                self.sets,
                "something to learn from: give scenes with --street, or sets with --data and --set data.sets=[…]",
            )
        if "street" in self.validation and self.street is None:
            yield Conflict(
                "validation", self.validation, "sets that are there: name a street with --street, or another set"
            )

    def _taken_twice(self) -> Iterator[Conflict]:
        """Sets that count double, and lists that are learnt from: these say nothing about unseen pairs."""
        for key, names in (("sets", self.sets), ("validation", self.validation)):
            if len(set(names)) < len(names):
                yield Conflict(key, names, "each set once")
        learnt: dict[SetName, str] = {name: self.lists.get(name, "train") for name in self.sets}
        if self.street is not None:
            learnt["street"] = "train"
        for name in self.validation:
            if name not in learnt or not _is_same_list(name, learnt[name], self.validation_list):
                continue
            if name in self.lists:
                wanted = f"a list that does not judge: data.validation_list is {self.validation_list}"
                yield Conflict(f"lists.{name}", learnt[name], wanted)
            else:
                wanted = f"a list that {name} does not learn from, or another set in data.validation"
                yield Conflict("validation_list", self.validation_list, wanted)


def _is_same_list(name: SetName, one: str, other: str) -> bool:
    aliases = LLVIP_LISTS if name == "llvip" else {}
    return aliases.get(one, one) == aliases.get(other, other)


class ModelConfig(Strict):
    """Network and input sizes, (width, height) in pixels.

    `size` names a network; each of its values can be overridden by its own key. `widths` are the four stages of the
    backbone; `neck` to `levels` belong to detectors, `output_stride` and `decoder` to segmenters. `fusion` is how a
    two-stream teacher joins its streams. `imitates` is set by the distillation recipe: channels of the teacher's map
    where they are not the student's.
    """

    size: SizeName = "slim"
    backbone: Literal["resnet18", "vgg16"] = "resnet18"
    widths: tuple[Positive, Positive, Positive, Positive]
    neck: int = Field(ge=8)
    tower: int = Field(ge=0)
    shared_tower: bool
    anchors: Literal[3, 6, 9]
    levels: Literal[4, 5]
    output_stride: Literal[8, 16, 32]
    decoder: int = Field(ge=8)
    fusion: Literal["gaff", "addition", "decision"] = "gaff"
    imitates: Positive | None = None
    visible: tuple[Positive, Positive] = (384, 288)
    thermal: tuple[Positive, Positive] = (160, 128)

    @model_validator(mode="before")
    @classmethod
    def _values_of_the_size(cls, data: Any) -> Any:
        """Fill in what `size` stands for; a wrong name is left to the field's own check."""
        if not isinstance(data, dict):
            return data
        size = data.get("size", "slim")
        return (SIZES[size] if isinstance(size, str) and size in SIZES else SIZES["slim"]) | data

    @field_validator("visible")
    @classmethod
    def _fits_the_pyramid(cls, size: tuple[int, int]) -> tuple[int, int]:
        if size[0] % 32 or size[1] % 32:
            raise ValueError(f"visible is {size[0]}x{size[1]}, both sides must be multiples of 32")
        return size


class OptimiserConfig(Strict):
    """Optimiser and schedule: linear warm-up, then cosine (paper section 4.2).

    `class_weights` of the segmentation loss: `enet` gives rare classes more, `none` is MFNet's and RTFNet's code.
    """

    name: Literal["sgd", "adamw"] = "adamw"
    learning_rate: FiniteFloat = Field(1e-3, gt=0)
    weight_decay: FiniteFloat = Field(0.05, ge=0)
    batch_size: int = Field(16, ge=1)
    iterations: int = Field(3500, ge=1)
    warmup: int = Field(100, ge=0)
    clip_norm: FiniteFloat = Field(10.0, gt=0)
    ema_decay: float = Field(0.998, ge=0, lt=1)
    class_weights: Literal["none", "enet"] = "none"


class DistillConfig(Strict):
    """Weights of the two transfers (both 1 in the paper) and the semantic loss: F-MSE of Eq. 4, or plain MSE.

    `temperature` of the F-MSE's softmax: `sum` is Eq. 4 to the letter, `mean` divides by the channels.
    `inherit` starts the student from the teacher's weights instead of random ones; the paper starts from ImageNet.
    `cache` is a folder for the teacher's outputs, which later runs on the same batches read.
    """

    attention: FiniteFloat = Field(1.0, ge=0)
    semantic: FiniteFloat = Field(1.0, ge=0)
    semantic_loss: Literal["focal_mse", "mse"] = "focal_mse"
    temperature: Literal["sum", "mean"] = "sum"
    inherit: bool = False
    cache: Path | None = None


class Config(Strict):
    """One run. `quantise` rounds the student as its INT8 engine for that target will."""

    name: str = "student"
    task: TaskName = "detect"
    seed: int = Field(0, ge=0, lt=2**63)
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int = Field(1, ge=1, description="processes a machine, one GPU each; each batch is shared among all")
    nodes: int = Field(1, ge=1, description="machines")
    precision: Precision = "auto"
    inputs: Literal["both", "visible", "thermal"] = "both"
    quantise: Int8Target | None = None
    evaluate_every: int = Field(250, ge=1)
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig.model_validate({})
    optimiser: OptimiserConfig = OptimiserConfig()
    distill: DistillConfig = DistillConfig()

    @model_validator(mode="after")
    def _fits_together(self) -> Config:
        _refuse([*self._of_detectors(), *self._of_segmenters(), *self._of_classifiers(), *self._of_batches()])
        return self

    @property
    def computed_precision(self) -> Computed:
        """What `precision` means on this machine."""
        return computed_precision(self.precision, self.accelerator)

    @property
    def categories(self) -> list[str]:
        """Names of the boxes that are read, by class index; tasks that learn no boxes read the default ones."""
        return self.data.classes if self.task == "detect" and self.data.classes else list(CLASSES)

    @property
    def class_names(self) -> list[str]:
        """Names of what the network tells apart, by class index."""
        names = {"detect": self.categories, "segment": list(LABEL_CLASSES), "classify": self.data.classes}
        return names[self.task]

    def _of_detectors(self) -> Iterator[Conflict]:
        """Categories whose names can be told apart in files of labels and on command lines."""
        if self.task == "detect" and not are_categories(self.data.classes):
            yield Conflict("data.classes", self.data.classes, f"{NAMES_WANTED}, with task=detect")

    def _of_segmenters(self) -> Iterator[Conflict]:
        """PSPNet's limits."""
        if self.task != "segment":
            return
        model = self.model
        if model.backbone == "vgg16":
            yield Conflict(
                "model.backbone", model.backbone, "resnet18 with task=segment: VGG-16 has no last stage to dilate"
            )
        if model.widths[3] % 4:
            yield Conflict(
                "model.widths",
                list(model.widths),
                "a multiple of 4 at the end with task=segment: each of the four scales of its pyramid pooling has a "
                "quarter of the channels",
            )

    def _of_classifiers(self) -> Iterator[Conflict]:
        """Classes to tell apart, and samples that are of one class."""
        if self.task != "classify":
            return
        data = self.data
        if len(data.classes) < FEWEST_CLASSES:
            yield Conflict(
                "data.classes",
                data.classes,
                f"{FEWEST_CLASSES} or more with task=classify, for example --set data.classes=[day,night]",
            )
        if data.mosaic_share:
            yield Conflict(
                "data.mosaic_share",
                data.mosaic_share,
                "0 with task=classify: a mosaic of four pairs has no class of its own",
            )

    def _of_batches(self) -> Iterator[Conflict]:
        """Equal shares, and more than one value a channel for every batch norm that learns."""
        key, size, processes = "optimiser.batch_size", self.optimiser.batch_size, self.devices * self.nodes
        if size % processes:
            yield Conflict(key, size, f"a multiple of the {processes} processes (devices x nodes)")
        if self.quantise is None and size < LEAST_BATCH * processes and (why := self._single_place()):
            yield Conflict(key, size, f"at least {LEAST_BATCH} pairs a process: {why}")

    def _single_place(self) -> str:
        """Which map has one place, in words; empty where none has."""
        width, height = self.model.visible
        if self.task == "segment":
            return "the coarsest scale of the pyramid pooling has one place"
        stride = 4 << self.model.levels  # P3 has 8, each next level twice that
        if self.task == "classify":
            stride = TOP_STRIDE[self.model.backbone]
        if max(width, height) > stride:
            return ""
        return f"the coarsest map of {width}x{height} pixels has one place (or a larger model.visible)"


def load_config(path: Path | None, overrides: tuple[str, ...] = (), base: Config | None = None) -> Config:
    """Read a YAML file, then apply `key.path=value` overrides; what neither names is that of `base`, or the default.

    Raises:
        UsageError: one line that lists every problem with its place: line of the file, or the override.
    """
    data: dict[str, Any] = {}
    lines: dict[str, int] = {}
    if path is not None:
        try:
            data, lines = read_yaml(path)
        except FileNotFoundError:
            raise UsageError(
                f"{_shown(path)}: no such file; leave --config out for the recipe's own, or `paper`"
            ) from None
        lines = {} if _is_shipped(path) else lines
    if base is not None:
        data = _over(base.model_dump(mode="json"), data)
    applied = [_apply(data, override) for override in overrides]
    found = _problems(data, lines, {place for place, wrong in applied if wrong is None})
    found += [wrong for _, wrong in applied if wrong is not None and not _is_said(wrong, found)]
    if found:
        blameless = path is None or _is_shipped(path) or all(problem.overridden for problem in found)
        raise UsageError(in_one_line(found, "configuration" if blameless or path is None else path))
    return Config.model_validate(data, context=TO_RUN)


def _problems(data: Mapping[str, Any], lines: Mapping[str, int], given: Collection[str]) -> list[Problem]:
    try:
        Config.model_validate(data, context=TO_RUN)
    except ValidationError as error:
        return find_problems(Config, error, lines, given)
    return []


def _is_said(wrong: Problem, found: Iterable[Problem]) -> bool:
    """An override of a key in a group that is none: the group's own problem is the one to mend."""
    return any(wrong.key.startswith(f"{problem.key}.") for problem in found)


def _is_shipped(path: Path) -> bool:
    """A recipe's own file: right by itself, so that only overrides can be wrong."""
    return path.is_relative_to(PACKAGE)


def _shown(path: Path) -> Path:
    """The file; one that is shipped without the folders of this machine."""
    return path.relative_to(PACKAGE.parent) if _is_shipped(path) else path


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Nested keys of both; those of `above` win."""
    both = below | above
    for key in below.keys() & above.keys():
        if isinstance(below[key], dict) and isinstance(above[key], dict):
            both[key] = _over(below[key], above[key])
    return both


def _apply(data: dict[str, Any], override: str) -> tuple[str, Problem | None]:
    """Set one value; gives the place which is the override's own then, and what is wrong with it."""
    key, separator, text = override.partition("=")
    if not separator:
        return key, Problem(key, ": wanted key=value, for example optimiser.iterations=500", overridden=True)
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):  # the latter: a date that no calendar has
        return key, Problem(key, f" is {text!r}, wanted a value in YAML, such as 3, name or [1, 2]", overridden=True)
    *parents, last = key.split(".")
    own = ""
    for depth, parent in enumerate(parents, start=1):
        own = own or ("" if parent in data else ".".join(parents[:depth]))
        node = data.setdefault(parent, {})
        if not isinstance(node, dict):
            return key, Problem(key, f": {parent} is a value, not a group of keys", overridden=True)
        data = node
    data[last] = value
    return own or key, None
