"""Configuration of a training run: YAML, strict, all problems in one error."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from mdrun.errors import UsageError
from mdrun.problems import find_problems, in_one_line
from mdrun.strict import Strict, read_yaml
from mdrun.thermal.normalise import Rule
from mdtrain.data.sets import DownloadedSet, SetName
from mdtrain.data.sets.kaist import KaistLabels
from mdtrain.models.sizes import SIZES, SizeName

PACKAGE = Path(__file__).parent
Positive = Annotated[int, Field(ge=1)]
TaskName = Literal["detect", "segment", "classify"]
Int8Target = Literal["cpu", "tensorrt"]  # who runs an INT8 engine, as `mdexport int8 --target` names it
FEWEST_CLASSES = 2
MEANS = ("mean", "overall")  # rows of accuracies that are no class
LEAST_BATCH = 2  # pairs a process of a segmenter: one value a channel has no variance to normalise by


class DataConfig(Strict):
    """Training and validation pairs.

    `root` holds a folder of each set's name; `street` is a folder of synthetic scenes written by `mdtrain street`.
    `lists` names the training list of a set where it is not `train`; `validation` is the set whose
    `validation_list` judges, or several that judge together; `street` can be one. `labels` is the view of MSRS labels,
    `kaist_labels` the version of KAIST's. `normalisation` is the rule by which 16-bit thermal images become 8 bits, as
    docs/thermal.md writes it; `agc8` reads images of 8 bits. `classes` are those of task=classify, in the order of the
    class index.
    """

    root: Path = Path("../shared/data/rgbt")
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
    def _something_to_learn(self) -> DataConfig:
        if not self.sets and self.street is None:
            raise ValueError(
                "nothing to learn from: give scenes with --street, or sets with --data and --set data.sets=[…]"
            )
        if "street" in self.validation and self.street is None:
            raise ValueError(
                "validation is street and no street is given: name it with --street, or set data.validation=SET"
            )
        return self


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
    """Optimiser and schedule: linear warm-up, then cosine to zero (paper section 4.2).

    `class_weights` of the segmentation loss: `enet` gives rare classes more, `none` is MFNet's and RTFNet's code.
    """

    name: Literal["sgd", "adamw"] = "adamw"
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    batch_size: int = Field(16, ge=1)
    iterations: int = Field(3500, ge=1)
    warmup: int = Field(100, ge=0)
    clip_norm: float = Field(10.0, gt=0)
    ema_decay: float = Field(0.998, ge=0, lt=1)
    class_weights: Literal["none", "enet"] = "none"


class DistillConfig(Strict):
    """Weights of the two transfers (both 1 in the paper) and the semantic loss: F-MSE of Eq. 4, or plain MSE.

    `temperature` of the F-MSE's softmax: `sum` is Eq. 4 to the letter, `mean` divides by the channels.
    `inherit` starts the student from the teacher's weights instead of random ones; the paper starts from ImageNet.
    `cache` is a folder for the teacher's outputs, which later runs on the same batches read.
    """

    attention: float = Field(1.0, ge=0)
    semantic: float = Field(1.0, ge=0)
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
    precision: Literal["32-true", "bf16-mixed"] = "bf16-mixed"
    inputs: Literal["both", "visible", "thermal"] = "both"
    quantise: Int8Target | None = None
    evaluate_every: int = Field(250, ge=1)
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig.model_validate({})
    optimiser: OptimiserConfig = OptimiserConfig()
    distill: DistillConfig = DistillConfig()

    @model_validator(mode="after")
    def _segments(self) -> Config:
        """PSPNet's limits: stages to dilate, and more than one value a channel for the norm of its smallest map."""
        if self.task != "segment":
            return self
        if self.model.backbone == "vgg16":
            raise ValueError("task=segment wants model.backbone=resnet18: VGG-16 has no last stage to dilate")
        if self.optimiser.batch_size < LEAST_BATCH * self.devices * self.nodes:
            raise ValueError(
                f"optimiser.batch_size is {self.optimiser.batch_size}, task=segment wants at least {LEAST_BATCH} pairs "
                "a process"
            )
        if self.model.widths[3] % 4:
            raise ValueError(
                f"model.widths ends in {self.model.widths[3]}, task=segment wants a multiple of 4: each of the four "
                "scales of its pyramid pooling has a quarter of the channels"
            )
        return self

    @model_validator(mode="after")
    def _classifies(self) -> Config:
        """Classes to tell apart, and samples that are of one class."""
        if self.task != "classify":
            return self
        if len(self.data.classes) < FEWEST_CLASSES:
            raise ValueError(
                f"data.classes has {len(self.data.classes)} names, task=classify wants {FEWEST_CLASSES} or more, for "
                "example --set data.classes=[day,night]"
            )
        if self.data.mosaic_share:
            raise ValueError(
                f"data.mosaic_share is {self.data.mosaic_share:g}, task=classify wants 0: a mosaic of four pairs has "
                "no class of its own"
            )
        return self

    @model_validator(mode="after")
    def _shares_are_equal(self) -> Config:
        if self.optimiser.batch_size % (self.devices * self.nodes):
            raise ValueError(
                f"optimiser.batch_size is {self.optimiser.batch_size}, wanted a multiple of the "
                f"{self.devices * self.nodes} processes (devices x nodes)"
            )
        return self


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
    for override in overrides:
        _apply(data, override)
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        given = {override.partition("=")[0] for override in overrides}
        found = find_problems(Config, error, lines, given)
        blameless = path is None or _is_shipped(path) or all(problem.overridden for problem in found)
        raise UsageError(in_one_line(found, "configuration" if blameless or path is None else path)) from error


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


def _apply(data: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator:
        raise UsageError(f"override {override!r}: wanted key=value, for example optimiser.iterations=500")
    *parents, last = key.split(".")
    for parent in parents:
        node = data.setdefault(parent, {})
        if not isinstance(node, dict):
            raise UsageError(f"override {override!r}: {parent} is a value, not a group of keys")
        data = node
    try:
        data[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UsageError(f"override {override!r}: the value is not YAML ({error})") from error
