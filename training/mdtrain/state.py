"""Everything a run must remember: weights, their average, optimiser, schedule position.

Checkpoints hold tensors and plain values only and are read with `weights_only=True`. Batches are pure functions of
(seed, iteration), so nothing else is needed to continue a killed run as if it had not been.
"""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from mdrun.errors import EngineError, UsageError
from mdtrain.config import Config, OptimiserConfig
from mdtrain.quantise import plain_weights
from mdtrain.tensors import is_state_dict, read_tensors, refuse_broken, room_for, write_safetensors, write_tensors

MAY_CHANGE = {
    "optimiser.iterations",
    "evaluate_every",
    "accelerator",
    "precision",
    "devices",
    "nodes",
    "data.root",
    "data.street",
    "data.threads",
    "distill.cache",
}
WANTED = {"model": dict, "average": dict, "optimiser": dict, "iteration": int, "minutes": float, "config": str}
LEAST_RATE = 1e-6  # begin of the warm-up (paper section 4.2), end of the cosine (ACCV-era Mutual Guidance)
RUN_FILE = "wanted the run's own checkpoints/last.ckpt; copy it again, or train into another --output"


def learning_rate(iteration: int, config: OptimiserConfig) -> float:
    """Linear warm-up from 1e-6, then cosine back to it; a rate below that begins and ends at itself."""
    least = min(LEAST_RATE, config.learning_rate)
    if iteration < config.warmup:
        share = iteration / config.warmup
    else:
        progress = (iteration - config.warmup) / max(config.iterations - config.warmup, 1)
        share = 0.5 * (1 + math.cos(math.pi * progress))
    return least + (config.learning_rate - least) * share


def make_optimiser(model: nn.Module, config: OptimiserConfig) -> torch.optim.Optimizer:
    """SGD with momentum 0.9 or AdamW; no weight decay on biases and norms (ACCV-era Mutual Guidance)."""
    decayed = [p for p in model.parameters() if p.requires_grad and p.dim() > 1]
    plain = [p for p in model.parameters() if p.requires_grad and p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    if config.name == "adamw":
        return torch.optim.AdamW(groups, lr=config.learning_rate)
    return torch.optim.SGD(groups, lr=config.learning_rate, momentum=0.9)


class TrainState:
    """Model, average model (EMA), optimiser, the next iteration and the minutes it took to get there.

    `unjudged` as long as the evaluation that is due at this iteration has not ended. `origin` are the digests of the
    weights that the run learns from: a teacher's, those of ImageNet. `saved` is the iteration of the last checkpoint.
    """

    def __init__(self, model: nn.Module, config: Config, origin: dict[str, str] | None = None) -> None:
        self.model = model
        self.average = copy.deepcopy(model).eval().requires_grad_(False)
        self.optimiser = make_optimiser(model, config.optimiser)
        self.iteration = 0
        self.minutes = 0.0
        self.unjudged = False
        self.saved: int | None = None
        self.origin = origin or {}
        self._config = config

    @property
    def due(self) -> bool:
        """An evaluation belongs to this iteration."""
        config = self._config
        return self.iteration % config.evaluate_every == 0 or self.iteration == config.optimiser.iterations

    def step(self) -> float:
        """Clip, update, average, advance. Returns the gradient's norm before clipping."""
        rate = learning_rate(self.iteration, self._config.optimiser)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self._config.optimiser.clip_norm)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self._average()
        self.iteration += 1
        return float(norm)

    @torch.no_grad()
    def _average(self) -> None:
        """Exponential moving average whose memory grows with the run, so that early averages are not stale."""
        decay = min(self._config.optimiser.ema_decay, (1 + self.iteration) / (10 + self.iteration))
        averages = [v for v in self.average.state_dict().values() if v.dtype.is_floating_point]
        currents = [v for v in self.model.state_dict().values() if v.dtype.is_floating_point]
        torch._foreach_lerp_(averages, currents, 1 - decay)

    def save(self, path: Path) -> None:
        """Write a checkpoint; a kill or a full disk leaves the previous one whole.

        Raises:
            OutputError: there is no room, or no permission.
        """
        data = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "iteration": self.iteration,
            "minutes": self.minutes,
            "unjudged": self.unjudged,
            "origin": self.origin,
            "config": self._config.model_dump_json(),
        }
        write_tensors(path, data, room_for(path))
        self.saved = self.iteration

    def load(self, path: Path) -> None:
        """Continue from a checkpoint.

        Raises:
            EngineError: if it is damaged, none of a run or of another architecture, naming the first differing keys.
            UsageError: if the run was started with another configuration or other weights, or is past its end.
        """
        data = read_checkpoint(path)
        check_same_run(_read_config(data["config"], path), self._config.model_dump(mode="json"), path)
        if data["iteration"] > self._config.optimiser.iterations:
            raise UsageError(
                f"{path}: the run has done {data['iteration']} iterations, wanted {self._config.optimiser.iterations}; "
                "ask for as many at least, or train into another --output"
            )
        self.origin = _same_origin(data.get("origin", self.origin), self.origin, path)  # earlier versions: not known
        load_weights(self.model, data["model"], path)
        load_weights(self.average, data["average"], path)
        try:
            self.optimiser.load_state_dict(data["optimiser"])
        except (KeyError, TypeError, ValueError) as error:
            raise EngineError(f"{path}: its optimiser is not that of the run ({error}), {RUN_FILE}") from error
        self.iteration = self.saved = data["iteration"]
        self.minutes = data["minutes"]
        self.unjudged = data.get("unjudged", False)  # earlier versions saved after the evaluation only


def _read_config(text: str, path: Path) -> dict[str, Any]:
    """A configuration of this or an earlier version, whose missing keys have their defaults."""
    try:
        return Config.model_validate_json(text).model_dump(mode="json")
    except ValidationError as error:
        raise EngineError(
            f"{path}: written by another version of mdtrain ({error.error_count()} keys differ); train again"
        ) from error


def check_same_run(started: dict[str, Any], now: dict[str, Any], path: Path) -> None:
    """Refuse to continue a run with another configuration.

    A longer or shorter run is a wish, other machines have other folders and devices; anything else is a mistake.

    Raises:
        UsageError: naming every key that differs.
    """
    before, after = _flat(started), _flat(now)
    changed = [
        f"{key} was {before.get(key)}, is {after.get(key)}"
        for key in sorted(before.keys() | after.keys())
        if key not in MAY_CHANGE and _said(key, before) != _said(key, after)
    ]
    if changed:
        raise UsageError(f"{path}: the run was started with another configuration: {'; '.join(changed)}")


def _said(key: str, flat: dict[str, Any]) -> Any:
    """The value of a key; a set's list that is not named is `train`."""
    return flat.get(key, "train" if key.startswith("data.lists.") else None)


def _same_origin(before: dict[str, str], now: dict[str, str], path: Path) -> dict[str, str]:
    """Refuse another teacher, or none, or other ImageNet weights; those need not be named again."""
    wanted = {"backbone_sha256": before.get("backbone_sha256")} | now
    changed = [
        f"{name} was {(before.get(name) or 'none')[:12]}, is {(wanted.get(name) or 'none')[:12]}"
        for name in sorted(before.keys() | wanted.keys())
        if before.get(name) != wanted.get(name)
    ]
    if changed:
        raise UsageError(
            f"{path}: the run was started with other weights: {'; '.join(changed)}; "
            "continue it with the command that began it, or train into another --output"
        )
    return before


def _flat(group: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys as `group.key`."""
    flat: dict[str, Any] = {}
    for key, value in group.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Tensors and plain values of a checkpoint; pickled code is refused by `weights_only`.

    Raises:
        EngineError: missing, damaged, or none of a run, naming what it lacks.
    """
    if not path.is_file():
        raise EngineError(f"{path}: no such checkpoint")
    data = read_tensors(path, "checkpoint of tensors", RUN_FILE)
    if not isinstance(data, dict):
        raise EngineError(f"{path}: holds a {type(data).__name__}, {RUN_FILE}")
    problems = [
        f"{name} is a {type(data[name]).__name__}" if name in data else f"lacks {name}"
        for name, kind in WANTED.items()
        if not isinstance(data.get(name), kind)
    ] or [f"{name} holds more than tensors" for name in ("model", "average") if not is_state_dict(data[name])]
    if problems:
        raise EngineError(f"{path}: no checkpoint of a run: {', '.join(problems)}; {RUN_FILE}")
    return data


def load_weights(model: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Strict load that names what differs.

    Raises:
        EngineError: keys or shapes of another architecture, or NaN or infinity in them.
    """
    own = model.state_dict()
    problems = [f"lacks {k}" for k in own if k not in weights] + [f"has unknown {k}" for k in weights if k not in own]
    problems += [
        f"{k} is {tuple(weights[k].shape)}, wanted {tuple(own[k].shape)}"
        for k in own
        if k in weights and own[k].shape != weights[k].shape
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise EngineError(
            f"{path}: weights of another architecture: {', '.join(problems[:3])}{more}; "
            "use the config it was trained with"
        )
    refuse_broken(weights, path)
    model.load_state_dict(weights)


def save_weights(path: Path, model: nn.Module, config: Config, kind: str, facts: dict[str, Any]) -> None:
    """Final weights as safetensors; the metadata say what they are, so that export needs nothing else.

    Args:
        path: file to write.
        model: usually the average model; INT8 ranges that it has learnt with are left out.
        config: of the run.
        kind: `teacher` or `student`.
        facts: command, accuracy, seed …; plain JSON values.

    Raises:
        OutputError: there is no room, or no permission.
    """
    tensors = {name: tensor.contiguous() for name, tensor in plain_weights(model.state_dict()).items()}
    metadata = {"kind": kind, "config": config.model_dump_json(), "facts": json.dumps(facts)}
    write_safetensors(path, tensors, metadata)
