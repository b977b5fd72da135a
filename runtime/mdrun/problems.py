"""What is wrong with a file that a person has written, in that person's words: key, what was got, what was wanted."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mdrun.sources.uri import redact

GOT_CHARS = 60  # of a value that is shown: enough to find it again
OF_KEY = "[key]"  # pydantic's last part of the place where a key of a mapping is wrong, not its value
KINDS = {str: "text", float: "a number", int: "a whole number", bool: "true or false", Path: "a path"}
MAPPING = "keys and values"
# By pydantic's error type (pydantic.dev/errors/validation_errors); {…} is of its context.
WANTED = {
    "string_type": "text",
    "string_too_short": "text of at least {min_length} letters",
    "string_too_long": "text of at most {max_length} letters",
    "string_pattern_mismatch": "text that matches {pattern}",
    "path_type": "a path",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a smaller whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "literal_error": "{expected}",
    "enum": "{expected}",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "multiple_of": "a multiple of {multiple_of}",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": MAPPING,
    "model_type": MAPPING,
    "model_attributes_type": MAPPING,
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        key: such as `cameras.cam0.source`; empty for the file as a whole.
        said: about the key.
        line: of the file, from 1; None where the file has no such key.
        overridden: the command line has set it, not the file.
    """

    key: str
    said: str
    line: int | None = None
    overridden: bool = False

    def __str__(self) -> str:
        return f"{self.key}{' (--set)' if self.overridden else ''}{self.said}".lstrip(": ")


def find_problems(
    model: type[BaseModel],
    error: ValidationError,
    lines: Mapping[str, int] | None = None,
    given: Collection[str] = (),
) -> list[Problem]:
    """Every problem, in the order of the lines.

    Args:
        model: that was validated.
        error: what pydantic says.
        lines: of every key, as `mdrun.strict.read_yaml` gives them.
        given: keys that the command line has set.
    """
    found = []
    near = {
        place: key for problem in error.errors() if (key := _nearest(model, problem)) for place in [_place(problem)]
    }
    meant = {(*place[:-1], key) for place, key in near.items()}  # a key that is missing because it is mistyped
    for problem in error.errors():
        place = _place(problem)
        if problem["type"] == "missing" and place in meant:
            continue
        key, said = _say(model, problem, near.get(place, ""))
        parents = [".".join(place[:end]) for end in range(len(place), 0, -1)]  # of a list's element, the list
        overridden = any(parent in given for parent in parents)
        line = None if overridden else next((lines[parent] for parent in parents if lines and parent in lines), None)
        found.append(Problem(key, said, line, overridden))
    return sorted(dict.fromkeys(found), key=lambda problem: (problem.line is None, problem.line or 0))


def in_one_line(found: Sequence[Problem], file: Path | str = "") -> str:
    """`gate.yaml:7: …; line 9: …`: the first place as compilers and editors write it, then the others."""
    texts = [str(problem) if problem.line is None else f"line {problem.line}: {problem}" for problem in found]
    first = found[0]
    if file:
        texts[0] = f"{file}: {first}" if first.line is None else f"{file}:{first.line}: {first}"
    return "; ".join(texts)


def _place(problem: ErrorDetails) -> tuple[str, ...]:
    return tuple(str(part) for part in problem["loc"] if part != OF_KEY)


def _say(model: type[BaseModel], problem: ErrorDetails, near: str) -> tuple[str, str]:
    """The key, and what is said about it."""
    kind, place, got = problem["type"], _place(problem), problem["input"]
    key, parent = ".".join(place), ".".join(place[:-1])
    if kind == "extra_forbidden":
        known = ", ".join(_keys(model, place[:-1]))
        return key, f" is unknown, did you mean {near}?" if near else f" is unknown, wanted one of {known}"
    if kind == "invalid_key":
        return parent, f": the key {place[-1]} is no text, put it in quotes"
    if kind == "missing" and isinstance(problem["loc"][-1], int):  # of a list of fixed length
        return parent, f" is {_show(got)}, wanted a list of {len(get_args(_hint(model, place[:-1])))}"
    if kind == "missing":
        return key, f" is missing, wanted {_describe(_hint(model, place))}"
    if kind in {"value_error", "assertion_error"}:
        text = problem["msg"].partition(", ")[2]  # behind `Value error`
        return (parent if OF_KEY in problem["loc"] else key), f": {text}"
    return key, f" is {_show(got)}, wanted {_wanted(problem)}"


def _wanted(problem: ErrorDetails) -> str:
    if problem["type"] == "string_too_short" and problem["ctx"]["min_length"] == 1:
        return "text that is not empty"
    template = WANTED.get(problem["type"])
    if template is None:
        return problem["msg"].removeprefix("Input should be ")
    limits = {
        name: f"{limit:.15g}" if isinstance(limit, float) else limit for name, limit in problem.get("ctx", {}).items()
    }
    return template.format(**limits)


def _show(value: Any) -> str:
    """A value as it was written, without credentials."""
    if value is None:
        return "empty"
    text = redact(str(value).lower() if isinstance(value, bool) else repr(value))
    return text if len(text) <= GOT_CHARS else f"{text[:GOT_CHARS]}…"


def _nearest(model: type[BaseModel], problem: ErrorDetails) -> str:
    """The key that an unknown one may stand for; empty where none is near."""
    if problem["type"] != "extra_forbidden":
        return ""
    *parents, key = _place(problem)
    return next(iter(difflib.get_close_matches(key, _keys(model, parents), n=1)), "")


def _keys(model: type[BaseModel], place: Sequence[str]) -> list[str]:
    hint = _hint(model, place)
    return list(hint.model_fields) if isinstance(hint, type) and issubclass(hint, BaseModel) else []


def _hint(model: type[BaseModel], place: Sequence[str]) -> Any:
    """The type of what stands at a place, without its limits and without None."""
    hint: Any = model
    for part in place:
        origin, args = get_origin(hint), get_args(hint)
        if origin is None:
            field = hint.model_fields.get(part) if hasattr(hint, "model_fields") else None
            hint = None if field is None else field.annotation
        elif origin is tuple and part.isdecimal():
            hint = args[min(int(part), len(args) - 1)]
        else:
            hint = args[-1]  # the values of a mapping, the entries of a list
        hint = _bare(hint)
    return hint


def _bare(hint: Any) -> Any:
    while get_origin(hint) in (Annotated, Union, UnionType):
        hint = next(arg for arg in get_args(hint) if arg is not NoneType)
    return hint


def _describe(hint: Any) -> str:
    """A type in words."""
    if get_origin(hint) is Literal:
        return " or ".join(map(str, get_args(hint)))
    if get_origin(hint) in (list, tuple):
        return "a list"
    return KINDS.get(hint, MAPPING)
