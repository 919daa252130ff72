from __future__ import annotations

import json
from dataclasses import replace

import pytest

from sre.load.job import VARIABLE, Job

JOB = Job(
    rate=1000.0, seconds=60.0, seed=1, folder="/run", bodies="/bodies", ca_file="/ca", api_key_file="/key",
    parent=17, pin_cpu=None, niceness=-10,
)  # fmt: skip


@pytest.mark.parametrize("job", [JOB, replace(JOB, pin_cpu=1)])
def test_a_job_survives_the_environment(job: Job) -> None:
    assert Job.from_environment(job.to_environment()) == job


def test_the_key_itself_never_enters_the_environment() -> None:
    assert json.loads(JOB.to_environment()[VARIABLE])["api_key_file"] == "/key"


@pytest.mark.parametrize("document", ['{"rate": 1.0}', '{"rate": 1.0, "colour": "red"}'])
def test_a_job_of_another_shape_is_refused(document: str) -> None:
    with pytest.raises(TypeError):
        Job.from_environment({VARIABLE: document})


def test_without_the_variable_there_is_no_job() -> None:
    with pytest.raises(KeyError):
        Job.from_environment({})
