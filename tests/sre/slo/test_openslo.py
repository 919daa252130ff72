from __future__ import annotations

import pytest
from pydantic import ValidationError

from sre.slo.openslo import KINDS, Metadata, Target, seconds, split


@pytest.mark.parametrize(
    ("span", "length"),
    [
        ("5m", 300),
        ("1h", 3600),
        ("28d", 28 * 86_400),
        ("4w", 28 * 86_400),
        ("1M", 30 * 86_400),
        ("1Q", 90 * 86_400),
        ("1Y", 365 * 86_400),
    ],
)
def test_a_span_has_its_nominal_length(span: str, length: float) -> None:
    assert seconds(span) == length
    assert split(span) == (int(span[:-1]), span[-1])


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a.b", "a" * 64])
def test_names_are_labels_of_dns(name: str) -> None:
    with pytest.raises(ValidationError):
        Metadata.model_validate({"name": name})


def test_keys_of_annotations_may_have_a_domain() -> None:
    assert Metadata.model_validate({"name": "a", "annotations": {"my.org/key": "b"}}).annotations == {"my.org/key": "b"}
    with pytest.raises(ValidationError, match="a key has at most 63"):
        Metadata.model_validate({"name": "a", "annotations": {"my.org/": "b"}})


def test_a_target_in_per_cent_is_the_share_it_says() -> None:
    assert Target.model_validate({"targetPercent": 99.9}).share == 0.999
    assert Target.model_validate({"target": 0}).share == 0


def test_every_kind_of_the_specification_is_known() -> None:
    assert set(KINDS) == {"SLO", "SLI", "Service", "AlertPolicy", "AlertCondition", "DataSource", "AlertNotificationTarget"}
