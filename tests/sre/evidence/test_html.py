from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sre.evidence import html
from sre.evidence.schema import DrillRecord, FaultRecord, RunRecord, StepRecord
from sre.verdict import Outcome, Verdict


class Outline(HTMLParser):
    """Collects tags and attributes, and fails on tags that do not nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def _outline(page: str) -> Outline:
    outline = Outline()
    outline.feed(page)
    assert outline.open == []
    return outline


@pytest.fixture
def folder(tmp_path: Path, write_recording: Callable[..., None]) -> Path:
    write_recording(tmp_path / "drills/pod-recovery", rate=50.0, seconds=60.0)
    return tmp_path


def test_the_verdict_comes_first_then_promises_timeline_environment_files(
    make_run: Callable[..., RunRecord], folder: Path
) -> None:
    page = html.render(make_run(), folder)
    order = [
        "<h1>1 of 2 promises broken: availability.</h1>",
        "<h2>Promises</h2>",
        "99.41 %",
        "99.34\N{NO-BREAK SPACE}% to 99.47\N{NO-BREAK SPACE}%",
        '<td class="num" data-label="n">60,211</td>',
        "<h3>Findings</h3>",
        '<svg class="timeline wide"',
        '<svg class="timeline narrow"',
        "The timeline as a table",
        "<h3>Steps</h3>",
        "<h2>Environment</h2>",
        "programs.nginx",
        "<h2>Raw files</h2>",
        "drills/pod-recovery/samples.bin",
    ]
    place = 0
    for piece in order:
        place = page.find(piece, place)
        assert place > 0, piece


def test_it_is_one_offline_file(make_run: Callable[..., RunRecord], folder: Path) -> None:
    page = html.render(make_run(), folder)
    outline = _outline(page)
    assert not {"script", "link", "img", "iframe", "object"} & set(outline.tags)
    assert not [value for name, value in outline.attributes if name in {"src", "href"} and re.match(r"[a-z]+:|/", value)]
    assert "url(" not in page
    assert "@import" not in page
    assert str(folder) not in page


def test_every_chart_has_a_name_a_description_and_a_table(make_run: Callable[..., RunRecord], folder: Path) -> None:
    page = html.render(make_run(), folder)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    for labels in re.findall(r'aria-labelledby="([^"]+)"', page):
        assert set(labels.split()) <= set(ids)
    table = page[page.index("The timeline as a table") :]
    assert table[: table.index("</table>")].count("<tr>") == 61
    assert "SIGKILL serving-2, present for 6.4 s." in page


def test_both_themes_and_print_are_styled(make_run: Callable[..., RunRecord], folder: Path) -> None:
    page = html.render(make_run(), folder)
    assert "@media (prefers-color-scheme: dark)" in page
    assert "@media print" in page


def test_the_report_is_the_same_every_time(make_run: Callable[..., RunRecord], folder: Path) -> None:
    page = html.render(make_run(), folder)
    (folder / "report.html").write_text(page, encoding="utf-8")
    (folder / "checksums.sha256").write_text("later", encoding="utf-8")
    assert html.render(make_run(), folder) == page


def test_sabotage_script_is_text(
    make_run: Callable[..., RunRecord], make_drill: Callable[..., DrillRecord], make_verdict: Callable[..., Verdict], folder: Path
) -> None:
    evil = "</title></style></svg><script>alert(1)</script>\" onload='x'"
    drill = make_drill(
        name=evil,
        sentence=evil,
        findings=(evil,),
        facts={evil: evil},
        steps=(StepRecord(name=evil, seconds=1.0, result=evil, detail=evil),),
        verdicts=(make_verdict(promise="latency-" + evil, why=evil, outcome=Outcome.BROKEN),),
        fault=FaultRecord(name=evil, start=5020.0, end=None),
    )
    (folder / "drills/pod-recovery" / "<img src=x>.txt").write_text("", encoding="utf-8")
    page = html.render(make_run(title=evil, target=evil, id=evil, drills=(drill,), environment={evil: {evil: evil}}), folder)
    outline = _outline(page)
    assert not {"script", "img"} & set(outline.tags)
    assert "onload" not in {name for name, _ in outline.attributes}
    assert "&lt;script&gt;alert(1)" in page


def test_a_drill_without_load_has_no_timeline(
    make_run: Callable[..., RunRecord], make_drill: Callable[..., DrillRecord], tmp_path: Path
) -> None:
    page = html.render(make_run(drills=(make_drill(folder="drills/restore"),)), tmp_path)
    assert "<figure>" not in page
    assert "No timeline" not in page


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("samples.json", None, "samples.json is missing"),
        ("samples.json", b"{}", "is not of schema"),
        ("samples.bin", b"", "holds no request"),
        ("samples.bin", b"short", "ends inside a record"),
    ],
)
def test_sabotage_damaged_samples_are_named(
    make_run: Callable[..., RunRecord], folder: Path, name: str, content: bytes | None, message: str
) -> None:
    path = folder / "drills/pod-recovery" / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    page = html.render(make_run(), folder)
    assert "<figure>" not in page
    assert "No timeline: " in page
    assert message in page
    assert str(folder) not in page


@pytest.mark.parametrize(
    ("outcome", "exit_code", "expected"),
    [
        (Outcome.KEPT, 0, "1 of 1 promise kept."),
        (Outcome.KEPT, 6, "The promises were kept, but: undo incomplete: something is still changed."),
        (Outcome.BROKEN, 1, "1 of 1 promise broken: pod-recovery."),
        (Outcome.BROKEN, 6, "1 of 1 promise broken: pod-recovery. Undo incomplete: something is still changed."),
        (Outcome.INCONCLUSIVE, 3, "1 of 1 promise inconclusive: pod-recovery."),
        (Outcome.ERROR, 4, "1 of 1 promise without a verdict, because of an error: pod-recovery."),
    ],
)
def test_the_sentence(make_run: Callable[..., RunRecord], outcome: Outcome, exit_code: int, expected: str) -> None:
    (drill,) = make_run().drills
    judged = replace(drill, outcome=outcome, verdicts=(replace(drill.verdicts[0], outcome=outcome),))
    assert html.sentence(make_run(outcome=outcome, exit_code=exit_code, drills=(judged,))) == expected


def test_the_sentence_without_a_verdict(make_run: Callable[..., RunRecord], make_drill: Callable[..., DrillRecord]) -> None:
    drill = make_drill(outcome=Outcome.ERROR, verdicts=())
    failed = make_run(outcome=Outcome.ERROR, exit_code=4, drills=(drill,))
    assert html.sentence(failed) == "1 of 1 drill ended without a verdict: pod-recovery."
    nothing = make_run(outcome=Outcome.INCONCLUSIVE, exit_code=5, drills=())
    assert html.sentence(nothing) == "Nothing was judged. Nothing selected."


def test_a_drill_without_a_verdict_has_its_row(
    make_run: Callable[..., RunRecord], make_drill: Callable[..., DrillRecord], tmp_path: Path
) -> None:
    failed = StepRecord(name="preflight", seconds=1.0, result="failed", detail="no system is up")
    page = html.render(make_run(drills=(make_drill(outcome=Outcome.ERROR, verdicts=(), steps=(failed,)),)), tmp_path)
    promises = page[page.index("<h2>Promises</h2>") : page.index("<section")]
    assert "preflight: no system is up" in promises
    assert '<span class="outcome error">error</span>' in promises


def test_nested_documents_become_rows() -> None:
    rows = list(html.flat({"a": {"b": 1, "c": [1, float("nan")]}, "d": "text", "e": None}))
    assert rows == [("a.b", "1"), ("a.c", '[1, "NaN"]'), ("d", "text"), ("e", "null")]
