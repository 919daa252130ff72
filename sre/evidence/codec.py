"""Evidence as strict JSON: what can be written, and how a `run.json` becomes a `RunRecord` again.

JSON has no NaN and no infinity, so they are written as the strings `NaN`, `Infinity` and `-Infinity`. Where a number is
expected they are read back as numbers. In free documents (`facts`, `environment`) these three words are read as numbers too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import StrEnum
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from sre.errors import EvidenceDamaged
from sre.evidence.schema import SCHEMA, RunRecord

_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def plain(value: Any) -> Any:  # noqa: PLR0911 (one return per kind of value)
    """`value` as strict JSON knows it: records and mappings as dicts, sequences as lists, enums as their values.

    Raises:
        TypeError: for what JSON cannot hold, numpy integers and paths included: convert them where their meaning is known.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        if bad := [key for key in value if not isinstance(key, str)]:
            raise TypeError(f"key {bad[0]!r} cannot be written as JSON; keys are text")
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    raise TypeError(f"{value!r} ({type(value).__name__}) cannot be written as JSON; convert it first")


def dump(record: RunRecord) -> str:
    """The text of `run.json`."""
    return json.dumps({"schema": SCHEMA, **plain(record)}, indent=2, allow_nan=False) + "\n"


def parse(text: str, name: str = "run.json") -> RunRecord:
    """Read the text of a `run.json`; the exact inverse of `dump`.

    Args:
        text: the file's content.
        name: of the file, for messages.

    Raises:
        EvidenceDamaged: not strict JSON, another schema, a field missing, unknown or of the wrong type.
    """
    try:
        document = json.loads(text, parse_constant=_no_constant)
    except ValueError as error:
        raise EvidenceDamaged(f"{name} is not JSON ({error}); restore it from a copy of the run") from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        found = document.get("schema") if isinstance(document, dict) else None
        raise EvidenceDamaged(f"{name} is of schema {found!r}, this version reads {SCHEMA!r}; use the version that wrote it")
    del document["schema"]
    record: RunRecord = _record(RunRecord, document, name)
    return record


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is not a JSON number")


def _record(kind: type, document: Any, where: str) -> Any:
    """A dataclass from a dict that has exactly its fields."""
    hints = get_type_hints(kind)
    if not isinstance(document, dict):
        raise _wrong(where, "an object", document)
    if document.keys() != hints.keys():
        missing, unknown = sorted(hints.keys() - document.keys()), sorted(document.keys() - hints.keys())
        raise EvidenceDamaged(f"{where} has not the fields of {kind.__name__}: missing {missing}, unknown {unknown}")
    return kind(**{name: _value(hint, document[name], f"{where}: {name}") for name, hint in hints.items()})


def _value(hint: Any, value: Any, where: str) -> Any:
    """`value` as the type `hint` asks for; only the kinds of types that occur in the schema."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is tuple:
        if not isinstance(value, list) or (args[-1] is not Ellipsis and len(value) != len(args)):
            raise _wrong(where, "a list" if args[-1] is Ellipsis else f"a list of {len(args)}", value)
        return tuple(_value(args[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is Mapping:
        if not isinstance(value, dict):
            raise _wrong(where, "an object", value)
        return _free(value)
    if NoneType in args:
        return None if value is None else _value(args[0], value, where)
    if isinstance(hint, type) and is_dataclass(hint):
        return _record(hint, value, where)
    return _scalar(hint, value, where)


def _scalar(hint: type, value: Any, where: str) -> Any:
    if hint is float:
        value = _NOT_FINITE.get(value, value) if isinstance(value, str) else value
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise _wrong(where, "a number", value)
        return float(value)
    if hint is int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise _wrong(where, "a whole number", value)
        return value
    if not isinstance(value, str):
        raise _wrong(where, "text", value)
    if issubclass(hint, StrEnum):
        if value not in {member.value for member in hint}:
            raise _wrong(where, f"one of {', '.join(hint)}", value)
        return hint(value)
    return value


def _free(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _free(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_free(item) for item in value]
    return _NOT_FINITE.get(value, value) if isinstance(value, str) else value


def _wrong(where: str, expected: str, value: Any) -> EvidenceDamaged:
    return EvidenceDamaged(f"{where} must be {expected}, not {value!r}")
