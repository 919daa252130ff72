from __future__ import annotations

import pytest

from sre.judges.canary.decision import Action
from sre.judges.canary.rules import Model
from tests.studies.canary.users import Complaint, complaints, ours


def test_the_replicas_do_what_the_users_complained_about() -> None:
    assert [complaint.said for complaint in complaints()] == [
        "Pass", "Pass", "Pass", "Nodata", "score 100", "Successful", "Error", "Successful", "Successful", "rolled-back",
        "promoted", "Pass",
    ]  # fmt: skip


@pytest.mark.parametrize("model", Model)
@pytest.mark.parametrize("complaint", complaints(), ids=lambda complaint: complaint.issue)
def test_ours_promotes_none_of_them(complaint: Complaint, model: Model) -> None:
    assert ours(complaint, model) is not Action.PROMOTE


@pytest.mark.parametrize("issue", ["kayenta 780", "flagger, series"])
def test_what_is_plainly_worse_is_rolled_back(issue: str) -> None:
    assert ours(next(complaint for complaint in complaints() if complaint.issue == issue)) is Action.ROLLBACK
