from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest

from sre.canary import plan as plans
from sre.canary.approval import Answer, Question
from sre.canary.page import Page
from sre.canary.view import Snapshot
from sre.errors import CannotRun
from tests.sre.canary.rolling import Shown
from tests.sre.canary.simulated import PLAN
from tests.sre.canary.test_view import snapshot

QUESTION = Question("a" * 32, 1, "go on to <50 %>?")


@pytest.fixture
def page() -> Iterator[Page]:
    served = Page(0, plans.parse(PLAN), "somebody", Shown())
    yield served
    served.close()


@pytest.fixture
def browser(page: Page) -> Iterator[httpx.Client]:
    """One that has opened the page."""
    with httpx.Client(base_url=page.origin, trust_env=False, timeout=10) as client:
        opened = client.get(page.address)
        assert (opened.status_code, opened.headers["location"]) == (303, "/")
        yield client


def form(browser: httpx.Client) -> dict[str, str]:
    return dict(re.findall(r'name="(question|csrf)" value="([^"]+)"', browser.get("/").text))


def test_the_page_shows_where_it_stands(page: Page, browser: httpx.Client) -> None:
    assert "has not looked yet" in browser.get("/").text
    page.show(snapshot())
    shown = browser.get("/")
    assert shown.status_code == 200
    assert "digits version 2" in shown.text
    assert "errors" in shown.text
    assert shown.headers["content-security-policy"].startswith("default-src 'none'")
    assert shown.headers["cache-control"] == "no-store"
    page.change("a line")


def test_an_answer_on_the_page_counts_once(page: Page, browser: httpx.Client) -> None:
    assert "<form" not in browser.get("/").text
    page.ask(QUESTION)
    assert "go on to &lt;50 %&gt;?" in browser.get("/").text
    fields = form(browser) | {"answer": "yes"}
    headers = {"Origin": page.origin}
    assert page.answer() is None
    assert browser.post("/answer", data=fields, headers=headers).status_code == 303
    assert page.answer() == Answer(yes=True, who="somebody", how="page")
    assert browser.post("/answer", data=fields | {"answer": "no"}, headers=headers).status_code == 409
    assert page.answer() == Answer(yes=True, who="somebody", how="page")
    page.ask(Question("b" * 32, 2, "go on to 100 %?"))
    assert page.answer() is None


def test_sabotage_the_address_works_once(page: Page, browser: httpx.Client) -> None:
    with httpx.Client(base_url=page.origin, trust_env=False) as other:
        assert other.get(page.address).status_code == 403
        assert other.get("/?token=guessed").status_code == 403
        assert other.get("/").status_code == 403
        assert other.get("/", headers={"Cookie": "canary=guessed"}).status_code == 403
        assert other.get("/", headers={"Cookie": "canary;=;"}).status_code == 403
    assert browser.get("/").status_code == 200
    assert browser.get("/other").status_code == 404


@pytest.mark.parametrize(
    ("changed", "headers", "status"),
    [
        ({"csrf": "guessed"}, {}, 409), ({"question": "b" * 32}, {}, 409), ({"answer": "perhaps"}, {}, 409),
        ({}, {"Origin": "http://127.0.0.1:1"}, 403), ({}, {"Origin": "null"}, 403), ({}, {"Cookie": "canary=guessed"}, 403),
        ({}, {"Host": "evil.example"}, 421), ({"question": "a" * 5000}, {}, 400),
    ],
)  # fmt: skip
def test_sabotage_forged_answers(
    page: Page, browser: httpx.Client, changed: dict[str, str], headers: dict[str, str], status: int
) -> None:
    page.ask(QUESTION)
    fields = form(browser) | {"answer": "yes"} | changed
    assert browser.post("/answer", data=fields, headers={"Origin": page.origin} | headers).status_code == status
    assert page.answer() is None


def test_sabotage_an_answer_before_the_question(page: Page, browser: httpx.Client) -> None:
    page.ask(QUESTION)
    fields = form(browser) | {"answer": "yes"}
    page.ask(Question("b" * 32, 2, "go on to 100 %?"))
    assert browser.post("/answer", data=fields, headers={"Origin": page.origin}).status_code == 409
    assert page.answer() is None


def test_a_taken_port_is_told(page: Page) -> None:
    port = int(page.origin.rpartition(":")[2])
    with pytest.raises(CannotRun, match=f"port {port} cannot be used"):
        Page(port, plans.parse(PLAN), "somebody", Shown())


def test_another_view_sees_all_of_it(page: Page) -> None:
    view = Shown()
    served = Page(0, plans.parse(PLAN), "somebody", view)
    shown: Snapshot = snapshot()
    served.show(shown)
    served.change("a line")
    served.close()
    assert (view.snapshots, view.changes) == ([shown], ["a line"])
