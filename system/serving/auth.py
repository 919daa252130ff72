"""API keys: the configuration holds their SHA-256 only."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from system.contracts import API_KEY_HEADER
from system.errors import Unauthorized


class _Key(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class _KeysFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    keys: list[_Key] = Field(min_length=1)


class Keys:
    """The keys that may predict, read once at start."""

    def __init__(self, file: Path) -> None:
        """Read `{"keys": [{"name": ..., "sha256": ...}]}`.

        Raises:
            ValueError: the file is missing, or is anything else.
        """
        try:
            parsed = _KeysFile.model_validate_json(file.read_bytes())
        except OSError as error:
            raise ValueError(f"{file} cannot be read: {error.strerror}") from None
        except ValidationError as error:
            # not the input itself: someone may have put the key where its hash belongs
            wrong = "; ".join(f"{'.'.join(map(str, item['loc'])) or 'file'}: {item['msg']}" for item in error.errors())
            raise ValueError(f'{file} is not {{"keys": [{{"name": ..., "sha256": ...}}]}}: {wrong}') from None
        self._digests = [bytes.fromhex(key.sha256) for key in parsed.keys]

    def require(self, key: str | None) -> None:
        """Let a known key pass. The time it takes tells nothing about the known ones.

        Raises:
            Unauthorized: no key, or another one.
        """
        if key is None:
            raise Unauthorized(f"there is no API key; send it in the header {API_KEY_HEADER}")
        digest = hashlib.sha256(key.encode("latin-1")).digest()  # the encoding in which HTTP headers were decoded
        if not any([hmac.compare_digest(digest, known) for known in self._digests]):  # noqa: C419 - a generator would stop early
            raise Unauthorized(f"the API key in {API_KEY_HEADER} is not known; ask the operator for one")
