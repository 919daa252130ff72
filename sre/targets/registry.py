"""The model registry of a system: what the toolkit asks of MLflow, over its REST API."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from sre.errors import StepFailed, UsageError

MODEL = "digits-resnet8"
PRODUCTION, CANDIDATE = "production", "candidate"
FILES = "model"  # folder of a version's files among the artifacts of its run
_API = "api/2.0/mlflow"
_NONE = (httpx.codes.NOT_FOUND, httpx.codes.BAD_REQUEST)  # of an alias that there is not, MLflow says 400


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a model.

    Attributes:
        number: as MLflow counts.
        run: id of the run that logged its files.
        source: where they are, as MLflow addresses them.
        tags: of the version.
    """

    number: str
    run: str
    source: str
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Registry:
    """Asks one MLflow. Every method raises StepFailed when it does not answer, or refuses.

    Attributes:
        url: base URL.
        within_s: deadline of one request, s.
    """

    url: str
    within_s: float = 30.0

    def aliases(self) -> dict[str, dict[str, str]]:
        """Version by alias, by model; of models without an alias, nothing by model."""
        found = self._call("GET", "registered-models/search", params={"max_results": 1000}).get("registered_models", [])
        return {model["name"]: {one["alias"]: str(one["version"]) for one in model.get("aliases", [])} for model in found}

    def named(self, alias: str, model: str = MODEL) -> Version | None:
        """The version that has an alias; None when there is none."""
        return self._version("registered-models/alias", {"name": model, "alias": alias})

    def version(self, number: str, model: str = MODEL) -> Version | None:
        """A version by its number; None when there is none."""
        return self._version("model-versions/get", {"name": model, "version": number})

    def require(self, number: str) -> None:
        """Raise UsageError when there is no version of that number."""
        if self.version(number) is None:
            raise UsageError(f"the registry has no version {number!r} of {MODEL}; `system train` makes the next one")

    def name(self, alias: str, number: str) -> None:
        """Give an alias to a version."""
        self._call("POST", "registered-models/alias", json={"name": MODEL, "alias": alias, "version": number})

    def create(self, like: Version, tags: Mapping[str, str]) -> Version:
        """Make the next version, without files as yet, of a run beside that of another version.

        Args:
            like: whose experiment the run goes to.
            tags: of the new version.
        """
        experiment = self._call("GET", "runs/get", params={"run_id": like.run})["run"]["info"]["experiment_id"]
        info = self._call("POST", "runs/create", json={"experiment_id": experiment})["run"]["info"]
        self._call("POST", "runs/update", json={"run_id": info["run_id"], "status": "FINISHED"})
        listed = [{"key": key, "value": value} for key, value in tags.items()]
        new = {"name": MODEL, "source": f"{info['artifact_uri']}/{FILES}", "run_id": info["run_id"], "tags": listed}
        return _read(self._call("POST", "model-versions/create", json=new)["model_version"])

    def put(self, version: Version, name: str, content: bytes) -> None:
        """Log a file of a version with its run."""
        place = version.source.removeprefix("mlflow-artifacts:/")
        _good(self._ask("PUT", f"api/2.0/mlflow-artifacts/artifacts/{place}/{name}", content=content))

    def tag(self, version: Version, key: str, value: str) -> None:
        """Set a tag of a version."""
        named = {"name": MODEL, "version": version.number}
        self._call("POST", "model-versions/set-tag", json=named | {"key": key, "value": value})

    def sha256(self, version: Version, name: str) -> str:
        """SHA-256 of a version's file as MLflow hands it out; `status N` in place of it when it does not."""
        digest = hashlib.sha256()
        parameters = {"run_uuid": version.run, "path": f"{FILES}/{name}"}
        try:
            with httpx.stream(
                "GET", f"{self.url}/get-artifact", params=parameters, timeout=self.within_s, trust_env=False
            ) as answer:
                if answer.status_code != httpx.codes.OK:
                    return f"status {answer.status_code}"
                for piece in answer.iter_bytes():
                    digest.update(piece)
        except httpx.HTTPError as error:
            raise self._away(f"GET get-artifact {name}", error) from error
        return digest.hexdigest()

    def _version(self, path: str, parameters: Mapping[str, str]) -> Version | None:
        answer = self._ask("GET", f"{_API}/{path}", params=parameters)
        return None if answer.status_code in _NONE else _read(_document(answer)["model_version"])

    def _call(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        return _document(self._ask(method, f"{_API}/{path}", **arguments))

    def _ask(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        try:
            return httpx.request(method, f"{self.url}/{path}", timeout=self.within_s, trust_env=False, **arguments)
        except httpx.HTTPError as error:
            raise self._away(f"{method} {path}", error) from error

    def _away(self, what: str, error: httpx.HTTPError) -> StepFailed:
        return StepFailed(f"the registry at {self.url} does not answer {what}: {error!r}; look at MLflow's log")


def _good(answer: httpx.Response) -> httpx.Response:
    if answer.status_code != httpx.codes.OK:
        path = answer.request.url.path
        raise StepFailed(f"the registry answers {answer.status_code} to {path}: {answer.text.strip()[:200]}")
    return answer


def _document(answer: httpx.Response) -> dict[str, Any]:
    try:
        document: dict[str, Any] = _good(answer).json()
    except ValueError:
        said = f"the registry answers {answer.request.url.path} with no JSON: {answer.text.strip()[:200]}"
        raise StepFailed(f"{said}; is the address MLflow's?") from None
    return document


def _read(found: Mapping[str, Any]) -> Version:
    tags = {tag["key"]: tag["value"] for tag in found.get("tags", [])}
    return Version(str(found["version"]), found.get("run_id", ""), found.get("source", ""), tags)
