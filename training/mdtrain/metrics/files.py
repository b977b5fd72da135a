"""Reading text and JSON files of evaluations, plain or gzip, with one-line errors."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from pathlib import Path
from typing import NoReturn, TypeGuard

from mdrun.errors import DataError, SourceError

GZIP_MAGIC = b"\x1f\x8b"  # RFC 1952, section 2.3.1


def read_text(path: Path, what: str) -> str:
    """Content of a UTF-8 file; gzip is recognised by its first bytes, whatever the file is called.

    Args:
        path: the file.
        what: its role in errors, for example `annotations`.

    Raises:
        SourceError: missing, unreadable, or a damaged gzip file.
        DataError: not UTF-8.
    """
    if not path.is_file():
        got = "a folder" if path.is_dir() else "not there"
        raise SourceError(f"{what}: {path} is {got}, wanted a text file, plain or .gz; check the path")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SourceError(f"{what}: cannot read {path} ({error.strerror}); check its permissions") from error
    if data.startswith(GZIP_MAGIC):
        try:
            data = gzip.decompress(data)
        except (EOFError, OSError, zlib.error) as error:
            raise SourceError(f"{what}: {path} is a truncated or damaged gzip file ({error}); copy it again") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{what}: {path} is not text (byte {error.start}), wanted UTF-8; check the path") from error


def parse_json(text: str, where: str) -> object:
    """JSON value of a text; `where` names its place in errors.

    Raises:
        DataError: not JSON.
    """
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON ({error}); check that the file is complete") from error
    return value


def json_kind(value: object) -> str:
    """What JSON calls the type of a parsed value."""
    names = {dict: "object", list: "list", str: "text", bool: "boolean", int: "number", float: "number"}
    return names.get(type(value), "null")


class Entry:
    """One JSON object. Every getter raises a DataError naming place, key, value and what was wanted.

    Attributes:
        where: its place in errors, for example `annotations a.json: images[3]`.
    """

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise DataError(f"{where}: got a JSON {json_kind(value)}, wanted an object; is this the right file?")
        self.where = where
        self._value = value

    def keys(self) -> list[str]:
        """All keys."""
        return list(self._value)

    def text(self, key: str) -> str:
        """A text."""
        value = self._value.get(key)
        return value if isinstance(value, str) else self.refuse(key, "a text")

    def whole(self, key: str, default: int | None = None) -> int:
        """A whole number; `default` where the key is absent."""
        value = self._value.get(key, default)
        return value if type(value) is int else self.refuse(key, "a whole number")

    def number(self, key: str) -> float:
        """A finite number."""
        value = self._value.get(key)
        return float(value) if _is_finite(value) else self.refuse(key, "a finite number")

    def four(self, key: str, meaning: str) -> list[float]:
        """Four finite numbers; `meaning` names them in the error."""
        value = self._value.get(key)
        if not (isinstance(value, list) and len(value) == 4 and all(map(_is_finite, value))):
            self.refuse(key, f"four finite numbers {meaning}")
        return [float(v) for v in value]

    def size(self, key: str) -> tuple[int, int]:
        """Width and height, whole and positive."""
        value = self._value.get(key)
        if not (isinstance(value, list) and len(value) == 2 and all(type(v) is int and v > 0 for v in value)):
            self.refuse(key, "width and height")
        return value[0], value[1]

    def rows(self, key: str, columns: str) -> list[list[float]]:
        """Rows of finite numbers, at least those that `columns` names; none where the key is absent or null."""
        value = self._value.get(key)
        wanted = len(columns.split())
        if value is None:
            return []
        if not isinstance(value, list) or not all(
            isinstance(row, list) and len(row) >= wanted and all(map(_is_finite, row)) for row in value
        ):
            self.refuse(key, f"rows of finite numbers {columns}")
        return [[float(v) for v in row] for row in value]

    def entry(self, key: str) -> Entry:
        """An object."""
        return Entry(self._value.get(key), f"{self.where}: {key}")

    def entries(self, key: str) -> list[Entry]:
        """A list of objects."""
        value = self._value.get(key)
        if not isinstance(value, list):
            self.refuse(key, "a list")
        return [Entry(item, f"{self.where}: {key}[{index}]") for index, item in enumerate(value)]

    def refuse(self, key: str, wanted: str) -> NoReturn:
        """Raise the error for a value that is not as wanted."""
        got = repr(self._value[key])[:40] if key in self._value else "missing"
        raise DataError(f"{self.where}: {key} is {got}, wanted {wanted}")


def _is_finite(value: object) -> TypeGuard[float]:
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return False
