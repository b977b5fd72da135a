"""Strict YAML files: unknown keys are errors, a key that is there twice is one, and every key has its line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from mdrun.errors import UsageError


class Strict(BaseModel):
    """Unknown keys are errors, values do not change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Loader(yaml.SafeLoader):
    """Only true and false are truth values, as in YAML 1.2: an alarm has a key `on`, a camera may be called `no`.

    A key that is there twice is an error: the first would be lost without a word.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Keys and values."""
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"the key {key.value} is there twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_BOOL = "tag:yaml.org,2002:bool"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _BOOL]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOL, re.compile("(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """The keys and values of a YAML file, and the line of every key, from 1, by its path such as `cameras.cam0.source`.

    Raises:
        FileNotFoundError: no such file.
        UsageError: it is not YAML, or holds something else than keys and values.
    """
    try:
        text = path.read_text(encoding="utf-8")
        data = yaml.load(text, _Loader) or {}  # noqa: S506  # a SafeLoader
        lines = key_lines(text)
    except FileNotFoundError:
        raise
    except RecursionError as error:
        raise UsageError(
            f"{path}: cannot be read as YAML: it holds itself, or far too many levels; write it out"
        ) from error
    except yaml.MarkedYAMLError as error:
        where = "" if error.problem_mark is None else f":{error.problem_mark.line + 1}"
        raise UsageError(f"{path}{where}: cannot be read as YAML: {error.problem or error.context}") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(data, dict):
        raise UsageError(f"{path}: holds a {type(data).__name__}, wanted keys and values")
    return data, lines


def key_lines(text: str) -> dict[str, int]:
    """Line of every key of a YAML text, from 1, by its path such as `optimiser.iterations`; list items by number."""
    found: dict[str, int] = {}

    def walk(node: yaml.Node | None, parents: tuple[str, ...]) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                place = (*parents, str(key.value))
                found[".".join(place)] = key.start_mark.line + 1
                walk(value, place)
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                place = (*parents, str(index))
                found[".".join(place)] = value.start_mark.line + 1
                walk(value, place)

    walk(yaml.compose(text, Loader=yaml.SafeLoader), ())
    return found
