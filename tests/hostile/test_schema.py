"""The OpenAPI document against the answers, for data that it allows and for data that it does not."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import httpx
import orjson
import schemathesis
from hypothesis import strategies as st
from schemathesis.engine import events, from_schema
from schemathesis.engine.recorder import Interaction

from system.contracts import PROBLEM_TYPE, TIMEOUT_HEADER, Problem
from tests.hostile.images import JPEG, PNG, WEBP, honest
from tests.system.serving.conftest import KEY

EXAMPLES = 40
BY_VERSION = "POST /v2/models/{name}/versions/{version}/infer"


def config(url: str, examples: int) -> schemathesis.Config:
    return schemathesis.Config.from_dict(
        {
            "seed": 1,
            "base-url": url,
            "headers": {"X-API-Key": KEY},
            "continue-on-failure": True,
            "request-timeout": 10,
            # fields that nobody knows are passed over in a header, as everywhere
            "generation": {"mode": "all", "deterministic": True, "max-examples": examples, "allow-extra-parameters": False},
            "phases": {"stateful": {"enabled": False}},
            "checks": {
                # what an image or a tensor is, no schema can say
                "positive_data_acceptance": {"enabled": False},
                # a deadline of a millisecond may pass; `complaints` looks at each
                "not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", "503"]},
            },
            "operations": [{"include-name": BY_VERSION, "parameters": {"path.version": "1"}}],
        }
    )


def answers(document: dict[str, Any], url: str, examples: int = EXAMPLES) -> tuple[list[str], dict[str, set[int]]]:
    """What is wrong about the answers, and the statuses of each operation."""
    schema = schemathesis.openapi.from_dict(document, config=config(url, examples))
    wrong: list[str] = []
    seen: dict[str, set[int]] = {}
    for event in from_schema(schema).execute():
        if isinstance(event, events.NonFatalError | events.FatalError | events.Interrupted):
            wrong.append(repr(event))
        elif isinstance(event, events.ScenarioFinished):
            recorder = event.recorder
            checks = (check for checks in recorder.checks.values() for check in checks if check.failure_info)
            wrong += [f"{recorder.label}: {check.name}: {check.failure_info}" for check in checks]
            for interaction in recorder.interactions.values():
                wrong += [f"{recorder.label}: {found}" for found in complaints(interaction)]
                if interaction.response is not None:
                    seen.setdefault(recorder.label, set()).add(interaction.response.status_code)
    return wrong, seen


def complaints(interaction: Interaction) -> list[str]:
    """Beyond the document: an error is a problem, and 503 is for a deadline that the request has set itself."""
    response = interaction.response
    if response is None:
        return ["no answer"]
    if response.status_code < 400:
        return []
    if response.headers["content-type"] != [PROBLEM_TYPE]:
        return [f"{response.status_code} is {response.headers['content-type']}"]
    problem = Problem.model_validate_json(response.content)
    asked = {name.lower() for name in interaction.request.headers}
    if response.status_code == 503 and (problem.code, TIMEOUT_HEADER.lower() in asked) != ("deadline-exceeded", True):
        return [f"503: {problem}"]
    return [] if problem.status == response.status_code else [f"{response.status_code} says {problem}"]


def test_answers_are_as_the_document_says_and_another_document_is_noticed(serve: Callable[..., Any]) -> None:
    for media_type in (JPEG, PNG, WEBP):
        images = [item.body for item in honest() if item.media_type == media_type]
        schemathesis.openapi.media_type(media_type, st.sampled_from(images) | st.binary(max_size=100))
    url = serve().url
    document = orjson.loads(httpx.get(f"{url}/openapi.json").content)
    wrong, seen = answers(document, url)
    assert not wrong, "\n".join(wrong[:20])
    operations = {f"{method.upper()} {path}" for path, found in document["paths"].items() for method in found}
    assert seen.keys() == operations
    assert {label for label, statuses in seen.items() if 200 not in statuses} == set()
    assert {label for label, statuses in seen.items() if 400 in statuses} >= {
        "POST /predict", "POST /v1/models/{name}:predict", "POST /v2/models/{name}/infer", BY_VERSION, "POST /v2/repository/index"
    }  # fmt: skip

    path = "/v2/repository/index"
    for name, sabotage in SABOTAGE.items():
        changed = deepcopy(document) | {"paths": {path: deepcopy(document["paths"][path])}}
        sabotage(changed["paths"][path]["post"]["responses"], changed["components"]["schemas"])
        wrong, _ = answers(changed, url, examples=10)
        assert any(name in found for found in wrong), f"{name} saw nothing"


SABOTAGE: dict[str, Callable[[dict[str, Any], dict[str, Any]], object]] = {
    "status_code_conformance": lambda responses, _: responses.pop("400"),
    "content_type_conformance": lambda responses, _: responses["400"].update(content={"application/json": {}}),
    "response_schema_conformance": lambda _, schemas: schemas["V2IndexEntry"]["properties"]["state"].update(enum=["ASLEEP"]),
    "response_headers_conformance": lambda responses, _: responses["200"]["headers"].update({"X-None": {"required": True}}),
    "negative_data_rejection": lambda _, schemas: schemas["V2IndexRequest"]["properties"]["ready"].update(type="string"),
}
