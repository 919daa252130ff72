from __future__ import annotations

from collections.abc import Callable

import pytest

from sre.evidence import codec, text
from sre.evidence.schema import DrillRecord, RunRecord, StepRecord
from sre.verdict import Outcome, Verdict

EXPECTED = """\
pod-recovery   promise: a killed replica serves again in under 30 s   target: local
  preflight         0.3 s   3 of 3 replicas ready                                           ok
  steady           20.0 s   1,003 req/s   p95 21 ms   errors 0.00 %                         ok
  inject            0.1 s   SIGKILL serving-2   undo: restart serving-2                     ok
  prove injected    0.8 s   2 of 3 ready, seen by Prometheus                                ok
  recover           6.4 s   3 of 3 ready, held 10 s                                         ok
  undo              0.0 s   nothing left changed                                            ok
  judge             1.2 s   60,211 samples                                                  ok
  finding       the servers counted 59,857 predictions and the clients 59,860: more than the stated error of 2
KEPT          pod-recovery      6.4 s of 30 s           n 1         every replica was ready again and stayed so for 10 s
BROKEN        availability      99.41 % of 99.9 %       n 60,211    354 of 60,211 requests failed, 341 of them while the replica was gone
exit      1: a promise was broken, measured
evidence  evidence/20260101T120000Z-pod-recovery/report.html
"""  # noqa: E501 (the text as it stands)


def test_the_text_of_a_run(make_run: Callable[..., RunRecord]) -> None:
    assert text.run_text(make_run()) == EXPECTED


def test_the_text_is_rebuilt_from_the_file(make_run: Callable[..., RunRecord]) -> None:
    assert text.run_text(codec.parse(codec.dump(make_run()))) == EXPECTED


def test_colour_adds_no_character(make_run: Callable[..., RunRecord]) -> None:
    coloured = text.run_rich(make_run())
    assert coloured.plain + "\n" == EXPECTED
    styles = {coloured.plain[span.start : span.end]: span.style for span in coloured.spans}
    assert styles == {"KEPT": "bold green", "BROKEN": "bold red", "ok": "green"}


@pytest.mark.parametrize("outcome", [Outcome.ERROR, Outcome.INCONCLUSIVE])
def test_a_drill_without_a_verdict_still_has_its_line(
    make_run: Callable[..., RunRecord], make_drill: Callable[..., DrillRecord], outcome: Outcome
) -> None:
    failed = StepRecord(name="prove_injected", seconds=10.0, result="failed", detail="3 of 3 still ready")
    lines = text.run_text(make_run(drills=(make_drill(outcome=outcome, verdicts=(), steps=(failed,)),))).splitlines()
    assert lines[1].endswith("  failed")
    assert lines[-3] == f"{outcome.upper():<12}  pod-recovery      prove injected: 3 of 3 still ready"


def test_an_error_beside_kept_verdicts_is_not_passed_over(
    make_run: Callable[..., RunRecord], make_drill: Callable[..., DrillRecord], make_verdict: Callable[..., Verdict]
) -> None:
    drill = make_drill(outcome=Outcome.ERROR, verdicts=(make_verdict(),))
    lines = text.run_text(make_run(drills=(drill,))).splitlines()
    assert lines[-4].startswith("KEPT ")
    assert lines[-3] == "ERROR         pod-recovery      no verdict was reached"


def test_a_tools_output_cannot_move_the_cursor(
    make_run: Callable[..., RunRecord], make_drill: Callable[..., DrillRecord]
) -> None:
    shown = text.run_text(make_run(drills=(make_drill(findings=("a\nKEPT forged\x1b[2J\r",)),)))
    assert "\x1b" not in shown
    assert "  finding       a KEPT forged [2J\n" in shown


def test_no_value_reads_as_no_data(make_verdict: Callable[..., Verdict]) -> None:
    line = text.verdict_line(make_verdict(outcome=Outcome.INCONCLUSIVE, measured=None, n=0, why=""))
    assert line == "INCONCLUSIVE  pod-recovery      no data of 30 s         n 0"


def test_the_result_of_a_run_is_the_end_of_its_text(make_run: Callable[..., RunRecord]) -> None:
    record = make_run()
    whole, result = text.run_rich(record).plain, text.result_rich(record).plain
    verdicts = [line for line in result.splitlines() if not line.startswith("  finding")]
    assert whole.endswith("\n".join(verdicts))
    assert verdicts[0].startswith(("KEPT", "BROKEN", "INCONCLUSIVE", "ERROR"))
