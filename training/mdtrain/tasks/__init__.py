"""What a network is trained for: its loss, its measure, and what its engine gives. One file a task."""

from __future__ import annotations

from mdtrain.config import Config, TaskName
from mdtrain.tasks.base import DivergedError, Evaluation, Predict, Task
from mdtrain.tasks.classify import Classify
from mdtrain.tasks.detect import Detect
from mdtrain.tasks.segment import Segment

__all__ = ["DivergedError", "Evaluation", "Predict", "Task", "make_task"]


def make_task(config: Config) -> Task:
    """The task of a run."""
    tasks: dict[TaskName, type[Detect | Segment | Classify]] = {
        "detect": Detect,
        "segment": Segment,
        "classify": Classify,
    }
    return tasks[config.task](config)
