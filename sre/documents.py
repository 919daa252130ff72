"""YAML files that people write: read strictly, so that a mistyped line is refused and not half obeyed.

Every fault is told with file, line, field and what to write instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from sre.errors import UsageError
from sre.units import Seconds, parse_seconds

Model = TypeVar("Model", bound=BaseModel)


def load(path: Path, model: type[Model]) -> Model:
    """Read a file.

    Args:
        path: of the file.
        model: what it must be.

    Raises:
        UsageError: it cannot be read or is not what it must be; the message names line and field of everything wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read ({error}); name another file, or restore it from version control") from error
    return parse(text, path.name, model)


def parse(text: str, name: str, model: type[Model]) -> Model:
    """Read the text of a file that holds one document.

    Args:
        text: YAML.
        name: of the file, for messages.
        model: what it must be.

    Raises:
        UsageError: as `load` does.
    """
    documents = split(text, name)
    if len(documents) != 1:
        second = documents[1][0].start_mark.line + 1
        raise UsageError(f"{name}:{second}: a second document begins; write one document per file")
    root, document = documents[0]
    return check(root, document, name, model)


def split(text: str, name: str) -> list[tuple[yaml.Node, Any]]:
    """The documents of a text: the node of each, which knows its lines, and its value.

    Raises:
        UsageError: it is not YAML, it is empty, or a key stands twice in one mapping.
    """
    try:
        roots = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
        values = [value for value in yaml.safe_load_all(text) if value is not None]
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise UsageError(f"{name}{line} is not YAML ({getattr(error, 'problem', error)}); correct that line") from error
    if not values:
        raise UsageError(f"{name} is empty; restore it from version control")
    roots = [root for root in roots if not (isinstance(root, yaml.ScalarNode) and root.tag.endswith(":null"))]
    twice = [found for root in roots for found in _doubled(root)]
    if twice:
        raise UsageError("; ".join(f"{name}:{line}: {key!r} is set a second time; delete one" for key, line in twice))
    return list(zip(roots, values, strict=True))


def check(root: yaml.Node, document: Any, name: str, model: type[Model]) -> Model:
    """Hold one document to a model.

    Raises:
        UsageError: it is something else; one sentence for everything wrong.
    """
    try:
        return model.model_validate(document)
    except ValidationError as error:
        wrong = [_sentence(name, root, item["loc"], item["msg"], item["input"]) for item in error.errors()]
        raise UsageError("; ".join(wrong)) from None


def line(node: yaml.Node, where: tuple[int | str, ...]) -> int:
    """The line of the deepest node on a path that is there, from 1."""
    found_at = node.start_mark.line
    for part in where:
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == part), None)
            if found is None:
                # A union's path also names the member that was tried.
                continue
            found_at, node = found[0].start_mark.line, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            found_at = node.start_mark.line
    return int(found_at) + 1


def duration(value: Any, like: str) -> Seconds:
    """A duration in a file, for a pydantic validator, which collects ValueError.

    Args:
        value: as YAML read it.
        like: examples, for the message.
    """
    if not isinstance(value, str):
        raise ValueError(f"write a duration with its unit, as {like}")  # noqa: TRY004 - see above
    try:
        return parse_seconds(value)
    except UsageError as error:
        raise ValueError(str(error)) from None


def _doubled(node: yaml.Node) -> Iterator[tuple[str, int]]:
    """Keys that stand twice in one mapping, which YAML forbids and the parser lets pass."""
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                yield key.value, key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode):
                seen.add(key.value)
            yield from _doubled(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _doubled(item)


def _sentence(name: str, root: yaml.Node, where: tuple[int | str, ...], message: str, value: Any) -> str:
    field = ".".join(str(part) for part in where) or "the file"
    found = f" is {value!r}" if isinstance(value, str | int | float | bool | list) else ""
    return f"{name}:{line(root, where)}: {field}{found}: {message.removeprefix('Value error, ')}"
