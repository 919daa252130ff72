from __future__ import annotations

import json
import math
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sre.slo.policy import answer, load
from sre.slo.report import COLUMNS, document, lasts, lines, render
from tests.sre.slo.standings import AT, make_objective, make_standing, make_unknown

STANDINGS = (make_standing(((10, 12, 0.2),)), make_unknown(), make_standing(an_hour=0, objective=make_objective("idle")))


class Page(HTMLParser):
    """Collects tags, links and text, and refuses what is not closed in order."""

    VOID = frozenset({"meta"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in {"href", "src"}]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def page(tmp_path: Path) -> Page:
    return Page(render(STANDINGS, answer(STANDINGS, load(), tmp_path, AT), "Objectives of slo.yaml"))


def test_the_report_opens_offline_and_is_whole(page: Page) -> None:
    assert page.open == []
    assert page.addresses == []
    assert "script" not in page.tags
    assert page.tags.count("svg") >= 2


def test_it_says_first_what_may_ship_and_then_why(page: Page) -> None:
    text = " ".join(page.text.split())
    order = [
        "Frozen: only what mends the service ships.", "api/availability: -66.67 % of the budget is left", "Requests get",
        "99.9 % good, in the last 30 days", "4,800 bad of 2,880,000 events", "spent at the pace of the last 6 h", "page", "14.4",
        "postmortem", "api/latency", "nothing counts the events", "api/idle",
    ]  # fmt: skip
    places = [text.find(part) for part in order]
    assert -1 not in places, order[places.index(-1)]
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_what_a_file_says_is_text_and_no_markup(tmp_path: Path) -> None:
    evil = make_standing(objective=make_objective("<script>alert(1)</script>"))
    found = render([evil], answer([evil], load(), tmp_path, AT), "<b>")
    assert "<script>" not in found
    assert "<b>" not in found


def test_the_document_holds_every_figure(tmp_path: Path) -> None:
    found = json.loads(json.dumps(document(STANDINGS, answer(STANDINGS, load(), tmp_path, AT)), allow_nan=False))
    assert (found["decision"], found["starts"]) == ("FREEZE", False)
    first, unknown, idle = found["objectives"]
    assert first["budget"]["spent"] == pytest.approx(5 / 3)
    assert [alert["firing"] for alert in first["burn"]] == [False] * 4
    assert first["spent_in_s"]["expected"] == 0
    assert idle["spent_in_s"]["expected"] is None
    assert first["incidents"][0]["large"]
    assert "budget" not in unknown
    assert unknown["reasons"] == ["nothing counts the events of api/latency; is the service scraped?"]


def test_the_table_has_a_row_per_objective(tmp_path: Path) -> None:
    table = lines(STANDINGS, answer(STANDINGS, load(), tmp_path, AT))
    assert [len(row) for row in table] == [len(COLUMNS)] * 3
    assert table[0][0] == "api/availability"
    assert [row[-1] for row in table] == ["FREEZE", "UNKNOWN", "UNKNOWN"]
    assert table[1][2] == "no data"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.0, "spent"), (math.inf, "never"), (59.0, "in 0.9 min"), (3600.0, "in 1 h"), (3.29 * 86_400, "in 3.2 d")],
)
def test_how_long_a_budget_lasts_is_rounded_down(seconds: float, said: str) -> None:
    assert lasts(seconds) == said
