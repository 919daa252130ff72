"""Users of a cluster that is lost and made again: one writer whose rows are stamped, and one who asks for a prediction twice."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

import httpx
import psycopg

from sre.drills.database_clients import Writing
from sre.errors import CannotRun, SreError, StepFailed, in_words
from sre.judges.history import Row
from sre.load import writers
from sre.probes import http, sql
from sre.readings import Endpoints, LoadPlan
from sre.targets.base import Target


class Users(Protocol):
    """What the drill asks of the system as its users do; nothing here is told of the loss."""

    def write(self, run: str, plan: LoadPlan, folder: Path) -> Writing:
        """Begin one writer; its ledger goes to `folder` (see `load.ledger_file`)."""
        ...

    def rows(self, run: str) -> list[Row]:
        """What the database holds of a run. Raises StepFailed when it cannot be asked."""
        ...

    def record(self, request_id: str) -> dict[str, Any]:
        """Ask for a prediction; `bits` and `variant` as the log holds them. Raises StepFailed when it does not yet."""
        ...

    def repeat(self, request_id: str) -> dict[str, Any]:
        """Ask for it again: bits `recorded` and `repeated`, None where there are none, and `why` not."""
        ...


class Only:
    """A writer that is the whole load of a drill."""

    def __init__(self, writing: Writing) -> None:
        self._writing = writing

    def running(self) -> bool:
        """Whether it still writes."""
        return self._writing.running()

    def progress(self) -> str:
        """One short line for people."""
        return "a writer writes" if self.running() else "the writer has ended"

    def show(self, key: str) -> None:
        """A writer has no key."""
        del key
        raise StepFailed("a writer shows the database a password and no API key")

    def stop(self) -> None:
        """End it. Raises StepFailed when it had died."""
        self._writing.stop()

    def wait(self) -> None:
        """Wait for its end. Raises as `stop` does."""
        self._writing.wait()


class RealUsers:
    """Users on this machine.

    Args:
        primary: libpq connection string of whichever member takes writes, for the role of drills.
        endpoints: where the system is just now.
    """

    def __init__(self, primary: str, endpoints: Callable[[], Endpoints]) -> None:
        self._primary, self._endpoints = primary, endpoints

    def write(self, run: str, plan: LoadPlan, folder: Path) -> Writing:
        """Begin a process."""
        job = writers.Job(
            dsn=self._primary, passfile=str(self._endpoints().passfile), run=run, writers=1, rate=plan.rate, seconds=plan.seconds,
            seed=plan.seed, ledger=str(folder / writers.LEDGER_NAME), parent=os.getpid(),
        )  # fmt: skip
        return writers.start(job, folder)

    def rows(self, run: str) -> list[Row]:
        """From the primary."""
        try:
            return writers.rows(self._primary, str(self._endpoints().passfile), run)
        except psycopg.Error as error:
            raise StepFailed(f"the stamped rows cannot be read: {in_words(error)}") from error

    def record(self, request_id: str) -> dict[str, Any]:
        """Unless the log holds it already."""
        endpoints = self._endpoints()
        try:
            row = sql.prediction(endpoints, request_id)
            if row is None:
                status, body = http.predict(endpoints, http.first_image(endpoints), request_id)
                if status != httpx.codes.OK:
                    raise StepFailed(f"the prediction to be repeated was answered {status}: {body.get('detail')}")
                row = sql.prediction(endpoints, request_id)
        except psycopg.Error as error:
            raise StepFailed(f"the prediction log cannot be asked: {in_words(error)}") from error
        if row is None:
            raise StepFailed(f"prediction {request_id} is not in the log yet")
        return asdict(row)

    def repeat(self, request_id: str) -> dict[str, Any]:
        """With the same image, of whichever replica answers."""
        try:
            endpoints = self._endpoints()
            row = sql.prediction(endpoints, request_id)
            if row is None:
                return {"recorded": None, "repeated": None, "why": "it is not in the log that came back"}
            status, body = http.predict(endpoints, http.first_image(endpoints), f"again-{uuid.uuid4()}")
        except (psycopg.Error, SreError) as error:
            return {"recorded": None, "repeated": None, "why": in_words(error)}
        if status != httpx.codes.OK:
            return {
                "recorded": row.bits,
                "repeated": None,
                "why": f"a user is answered {status or 'not at all'}: {body.get('detail')}",
            }
        bits = sql.float32_bits(body["probabilities"])
        other = f"it has other bits; variant {row.variant} made the recorded one"
        return {"recorded": row.bits, "repeated": bits, "why": "" if bits == row.bits else other}


def users_of(target: Target) -> Users:
    """The users of a target.

    Raises:
        CannotRun: nobody knows how to reach it.
    """
    from sre.targets.kubernetes.target import KubernetesTarget  # noqa: PLC0415 - slow to import

    if isinstance(target, KubernetesTarget):
        access, endpoints = target.reached()
        # The edge of another cluster may have another address.
        return RealUsers(access.dsn("drills", "drills"), lambda: replace(endpoints, ingress=target.ingress()))
    raise CannotRun(f"target {target.name} is no cluster with users on this machine; use target kubernetes")
