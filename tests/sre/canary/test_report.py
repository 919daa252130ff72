from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest

from sre.canary import report
from sre.canary.session import Finished
from tests.sre.canary.rolling import Says, staged


class Page(HTMLParser):
    """Collects what must be seen, and what a browser would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.fetched: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [value or "" for name, value in attrs if name == "src" or (name == "href" and tag == "link")]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    with staged(tmp_path_factory.mktemp("report")) as stage:
        stage.edit("{weight: 50%, at_least: 10s, at_most: 3m}", "{weight: 50%, at_least: 10s, at_most: 3m, approval: true}")
        stage.channels = (Says(yes=True),)
        done: Finished = stage.begin()
    return Page((done.folder / "report.html").read_text())


def test_it_says_how_it_ended_and_why(page: Page) -> None:
    text = " ".join(page.text)
    assert "promoted" in text
    assert "version 2 is in production in place of version 1" in text
    assert "a mean of e-values" in text  # the statement of error rates
    assert "asked in a test" in text
    assert "at all traffic without a breach" in text


def test_it_opens_offline_and_draws(page: Page) -> None:
    assert page.fetched == []
    assert "script" not in page.tags
    assert page.tags.count("svg") >= 2
    assert "figcaption" in page.tags


def test_a_rollout_without_a_look_has_a_report(tmp_path: Path) -> None:
    with staged(tmp_path) as stage:
        done = stage.begin("77")
    text = (done.folder / "report.html").read_text()
    assert "no decision" in text
    assert "<figure>" not in text
    assert report.render(done.record, done.folder)
