from __future__ import annotations

import httpx
from fastapi import FastAPI

from system.contracts import Problem
from system.errors import Forbidden
from system.serving import problems
from system.serving.observer import Observer


class Unloaded:
    """As much of a service as is observed."""

    version = ""
    draining = False

    @property
    def loader(self) -> Unloaded:
        return self


def _app() -> FastAPI:
    app = FastAPI()

    @app.get("/typed/{number}")
    async def typed(number: int) -> int:
        return number

    @app.get("/forbidden")
    async def forbidden() -> None:
        raise Forbidden("the key may not do this; ask for the scope")

    problems.install(app)
    app.add_middleware(Observer, service=Unloaded(), label=str)
    return app


async def test_a_parameter_of_the_wrong_type_is_400_in_the_one_shape() -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(_app()), base_url="http://test") as client:
        assert (await client.get("/typed/7")).json() == 7
        response = await client.get("/typed/seven")
    problem = Problem.model_validate_json(response.content)
    assert (response.status_code, problem.status, problem.code, problem.title) == (400, 400, "bad-request", "Bad Request")
    assert problem.detail.startswith("path.number: Input should be a valid integer")


async def test_a_refusal_carries_its_own_status_and_message() -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(_app()), base_url="http://test") as client:
        response = await client.get("/forbidden")
    problem = Problem.model_validate_json(response.content)
    assert (response.status_code, problem.code, problem.detail) == (
        403,
        "forbidden",
        "the key may not do this; ask for the scope",
    )
    assert "WWW-Authenticate" not in response.headers
    assert "Retry-After" not in response.headers
