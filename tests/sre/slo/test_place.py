from __future__ import annotations

import pytest

from sre import documents
from sre.errors import UsageError
from sre.slo.place import Place


def test_an_error_inside_is_told_with_file_line_and_field() -> None:
    ((root, _),) = documents.split("a:\n  b:\n    - c: 1\n", "x.yaml")
    with (
        pytest.raises(UsageError, match=r"^x\.yaml:3: a\.b\.0\.c: too small; write 2$"),
        Place(root, "x.yaml").of("a", "b", 0, "c").blamed(),
    ):
        raise UsageError("too small; write 2")
