from __future__ import annotations

import pytest

from sre.errors import UsageError
from sre.slo.promql import Term
from sre.slo.spec import parse
from sre.slo.windows import Severity
from tests.sre.slo.examples import SLOTH

RAW = """sli:
      raw: {error_ratio_query: '1 - avg(avg_over_time(up{job="mailer"}[{{.window}}]))'}"""


def test_events_and_a_raw_ratio() -> None:
    delivery, uptime = parse(SLOTH, "sloth.yaml")
    assert (delivery.service, delivery.target, delivery.period_s) == ("mailer", 0.999, 30 * 86_400)
    assert delivery.bad.terms == (Term(1, 'letters_total{outcome=~"(lost|torn)"}'),)
    assert delivery.description == "Letters are delivered."
    assert {window.severity for window in delivery.windows} == {Severity.PAGE}
    assert uptime.sampled
    assert not uptime.total.terms
    assert len(uptime.windows) == 4


@pytest.mark.parametrize(
    ("old", "new", "at", "says"),
    [
        ("prometheus/v1", "prometheus/v2", "version:", "version is 'prometheus/v2'"),
        ("service: mailer", "service: -mailer", "service:", "begin and end with a letter or digit"),
        ("objective: 99.9", "objective: 100", "objective:", "Input should be less than 100"),
        ("objective: 99.9", "objective: 0", "objective:", "Input should be greater than 0"),
        ("labels: {owner: post}", "labels: {own-er: post}", "labels:", "a label of Prometheus"),
        ("letters_total[{{.window}}]", "letters_total[5m]", "total_query", "write {{.window}} as the range"),
        ("sum(rate(letters_total[{{.window}}]))", "sum(rate(letters_total[{{.window}}])", "sli:", "is not PromQL"),
        (RAW, "sli: {}", "sli: {}", "raw and events exclude each other"),
        ("raw: {", "plugin: {id: a}\n      raw: {", "sli:", "plugins are programs and are not run"),
        ("name: uptime", "name: delivery", "version", "the same name: delivery"),
        ("alerting: {name: MailerDown}", "alerting: {}", "alerting:", "alerting.name is needed"),
        ("alerting: {name: MailerDown}", "alerts: {name: MailerDown}", "alerts:", "Extra inputs"),
    ],
)
def test_each_mistake_is_named_with_its_line(old: str, new: str, at: str, says: str) -> None:
    assert SLOTH.count(old) == 1
    changed = SLOTH.replace(old, new)
    lines = [number for number, line in enumerate(changed.splitlines(), 1) if at in line]
    with pytest.raises(UsageError) as raised:
        parse(changed, "sloth.yaml")
    assert says in str(raised.value)
    assert any(f"sloth.yaml:{line}: " in str(raised.value) for line in lines)


def test_bad_and_all_events_must_differ() -> None:
    with pytest.raises(UsageError, match="are the same"):
        parse(SLOTH.replace('{outcome=~"(lost|torn)"}', "").replace(" or vector(0)", ""), "sloth.yaml")
