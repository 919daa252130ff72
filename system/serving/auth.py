"""API keys: the configuration holds their SHA-256 only. A changed file counts at once, without a restart."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from math import inf
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from system.contracts import API_KEY_HEADER
from system.errors import Forbidden, RateLimited, Unauthorized
from system.telemetry import API_KEYS_STALE

log = logging.getLogger(__name__)

Scope = Literal["predict", "admin"]
_FORM = '{"keys": [{"name": ..., "sha256": ..., "scopes": ["predict"], "rate_per_s": ..., "not_after": ...}]}'


class _Listed(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    scopes: frozenset[Scope] = Field(frozenset({"predict"}), min_length=1)
    rate_per_s: float | None = Field(None, gt=0, allow_inf_nan=False)
    not_after: AwareDatetime | None = None


class _KeysFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    keys: list[_Listed] = Field(min_length=1)


class Bucket:
    """At most `rate_per_s` requests a second, with one second's worth (and never less than one) at once.

    The generic cell rate algorithm (ITU-T I.371): one number, the instant at which the requests so far have been paid for.
    """

    __slots__ = ("_ahead_s", "_interval_s", "_paid_until", "rate_per_s")

    def __init__(self, rate_per_s: float) -> None:
        self.rate_per_s = rate_per_s
        self._interval_s = 1 / rate_per_s
        self._ahead_s = max(0.0, 1 - self._interval_s)
        self._paid_until = -inf

    def take(self, now: float) -> float:
        """Seconds to wait: 0 when this request may pass, and then it is counted."""
        paid_until = max(now, self._paid_until)
        if (wait := paid_until - self._ahead_s - now) > 1e-9:  # below that lies only the rounding of `now`
            return wait
        self._paid_until = paid_until + self._interval_s
        return 0.0


@dataclass(frozen=True, slots=True)
class Key:
    """A key that may be used.

    Attributes:
        name: of its holder; the old and the new key of a rotation share it, and with it one bucket.
        digest: SHA-256 of the key.
        scopes: what it may do.
        not_after: seconds since the epoch.
        bucket: None when its rate has no limit.
    """

    name: str
    digest: bytes
    scopes: frozenset[Scope]
    not_after: float
    bucket: Bucket | None


class Keys:
    """The keys that are accepted now."""

    def __init__(self, file: Path, *, workers: int = 1) -> None:
        """Read `{"keys": [...]}`: name, sha256 and optionally scopes ("predict" and "admin"), rate_per_s, not_after.

        Each of the replica's `workers` processes grants its part of a rate.

        Raises:
            ValueError: the file is missing, or is anything else.
        """
        self._file = file
        self._workers = workers
        self._seen = self._signature()
        self._keys: tuple[Key, ...] = ()
        self._keys = self._read()

    def require(self, key: bytes | None, scope: Scope) -> Key:
        """Let a known key pass. The time it takes tells nothing about the known ones.

        Raises:
            Unauthorized: no key, another one, or one that has expired.
            Forbidden: the key lacks the scope.
            RateLimited: the key has sent too many requests.
        """
        if key is None:
            raise Unauthorized(f"there is no API key; send it in the header {API_KEY_HEADER}")
        digest = sha256(key).digest()
        found = None
        for known in self._keys:  # to the end, whichever it is
            if compare_digest(digest, known.digest):
                found = known
        if found is None:
            raise Unauthorized(f"the API key in {API_KEY_HEADER} is not known; ask the operator for one")
        if found.not_after != inf and time.time() > found.not_after:
            raise Unauthorized(f"the API key of {found.name!r} has expired; ask the operator for a new one")
        if scope not in found.scopes:
            raise Forbidden(f"the API key of {found.name!r} lacks the scope {scope!r}; ask the operator for it")
        if found.bucket is not None and (wait_s := found.bucket.take(time.monotonic())):
            raise RateLimited(
                f"the API key of {found.name!r} may send {found.bucket.rate_per_s * self._workers:g} requests a second; "
                f"wait {wait_s:.3f} s"
            )
        return found

    async def watch(self, every_s: float = 1.0) -> None:
        """Look at the file for ever; what it holds is accepted from the next look on."""
        while True:
            await asyncio.sleep(every_s)
            self.look()

    def look(self) -> None:
        """Take the file's keys if it has changed. While it is broken the keys from before stay, and that is said once."""
        signature = self._signature()
        if signature == self._seen:
            return
        self._seen = signature
        try:
            self._keys = self._read()
        except ValueError as error:
            API_KEYS_STALE.set(1)
            log.error("the API keys from before stay in use: %s", error)  # noqa: TRY400 - the trace says nothing more
        else:
            API_KEYS_STALE.set(0)
            log.info("API keys in use: %s", ", ".join(key.name for key in self._keys))

    def _signature(self) -> tuple[int, int, int] | None:
        """Differs after every change: of the content, and of the file behind a name or a link."""
        try:
            found = self._file.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _read(self) -> tuple[Key, ...]:
        try:
            listed = _KeysFile.model_validate_json(self._file.read_bytes()).keys
        except OSError as error:
            raise ValueError(f"{self._file} cannot be read: {error.strerror}") from None
        except ValidationError as error:
            # not the input itself: someone may have put the key where its hash belongs
            wrong = "; ".join(f"{'.'.join(map(str, item['loc'])) or 'file'}: {item['msg']}" for item in error.errors())
            raise ValueError(f"{self._file} is not {_FORM}: {wrong}") from None
        if twice := [found for found, times in Counter(key.sha256 for key in listed).items() if times > 1]:
            names = sorted({key.name for key in listed if key.sha256 in twice})
            raise ValueError(f"{self._file} lists one key more than once, under {', '.join(names)}; keep one entry of it")
        rates: dict[str, float | None] = {}
        for key in listed:
            if rates.setdefault(key.name, key.rate_per_s) != key.rate_per_s:
                raise ValueError(f"{self._file} gives {key.name!r} two rates; entries of one name share one rate_per_s")
        buckets = {name: self._bucket(name, rate) for name, rate in rates.items()}
        return tuple(
            Key(
                name=key.name,
                digest=bytes.fromhex(key.sha256),
                scopes=key.scopes,
                not_after=key.not_after.timestamp() if key.not_after else inf,
                bucket=buckets[key.name],
            )
            for key in listed
        )

    def _bucket(self, name: str, rate_per_s: float | None) -> Bucket | None:
        """The one in use when the rate is still the same: a new file is no fresh second's worth."""
        if rate_per_s is None:
            return None
        share = rate_per_s / self._workers
        in_use = (key.bucket for key in self._keys if key.name == name and key.bucket is not None)
        return next((bucket for bucket in in_use if bucket.rate_per_s == share), None) or Bucket(share)
