"""Where something stands in a file of YAML, for messages about what a schema cannot say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import yaml

from sre import documents
from sre.errors import UsageError


@dataclass(frozen=True, slots=True)
class Place:
    """A field of a document.

    Attributes:
        root: the document, which knows its lines.
        name: of the file.
        where: keys and indices from the root.
    """

    root: yaml.Node
    name: str
    where: tuple[int | str, ...] = ()

    def of(self, *parts: int | str) -> Place:
        """A field below."""
        return Place(self.root, self.name, self.where + parts)

    def wrong(self, message: str) -> UsageError:
        """The error to raise about it."""
        field = ".".join(map(str, self.where))
        return UsageError(f"{self.name}:{documents.line(self.root, self.where)}: {field}: {message}")

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Tell what goes wrong inside with this place."""
        try:
            yield
        except UsageError as error:
            raise self.wrong(str(error)) from None
