"""What the load generator is told: the one thing that its two sides, `worker` and `users`, share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Self

VARIABLE = "SRE_LOAD"
ANSWER_SECONDS = 10.0  # a user who waited this long has left
NEXT = ".next"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One load, as the generator process reads it from the environment variable `SRE_LOAD`.

    Attributes:
        rate, seconds, seed: the schedule, see `schedule.arrivals`.
        folder: where the recording goes.
        bodies: folder of .jpg and .png files to send, in turn.
        ca_file: certificate authority that must have signed the ingress's certificate.
        api_key_file: file with the key for the header X-API-Key. A file of this name with `.next` holds the key that follows it:
            the generator takes it and deletes the file.
        parent: process id of the one that started it; the generator stops when it is gone.
        pin_cpu: the one CPU to run on, or None.
        niceness: of the generator and its session, where this account may; 0 leaves both as they are.
    """

    rate: float
    seconds: float
    seed: int
    folder: str
    bodies: str
    ca_file: str
    api_key_file: str
    parent: int
    pin_cpu: int | None
    niceness: int

    def to_environment(self) -> dict[str, str]:
        """The variable to add to the generator's environment."""
        return {VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read it back. Raises KeyError when the variable is missing, TypeError when a field is."""
        return cls(**json.loads(environment[VARIABLE]))
