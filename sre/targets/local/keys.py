"""The list of API keys of a local system: a file that its replicas look at every second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import httpx

from sre.targets.keys import ASKED, listed, rewritten
from sre.targets.local.layout import Layout


class LocalKeys:
    """See `targets.keys.ApiKeys`."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._file = layout.config / "api-keys.json"

    def grant(self, holder: str, keys: Sequence[str]) -> None:
        """Replace the file by another, whole at every moment."""
        fresh = self._file.with_suffix(".fresh")
        fresh.write_text(rewritten(self._file.read_text(encoding="utf-8"), holder, keys), encoding="utf-8")
        fresh.replace(self._file)

    def held(self, holder: str) -> int:
        """By the file."""
        return len(listed(self._file.read_text(encoding="utf-8"), holder))

    def ask(self, key: str) -> Mapping[str, int]:
        """One after another."""
        return {name: self._asked(name, key) for name in self._layout.replicas}

    def _asked(self, name: str, key: str) -> int:
        try:
            url = f"{self._layout.url(name)}{ASKED}"
            return httpx.post(url, headers={"X-API-Key": key}, timeout=2.0, trust_env=False).status_code
        except httpx.HTTPError:
            return 0
