from __future__ import annotations

import pytest

from sre.judges.manifests import ways
from sre.judges.manifests.objects import Finding
from sre.judges.network import Comparison
from sre.judges.network import compare as compare_with
from sre.readings import Try

MINIO = ("data/minio", "minio-0", 9000)
BUCKETS, ALERTS = "data/buckets", "monitoring/alertmanager"


def tried(source: str, server: tuple[str, str, int] = MINIO, answer: str = "open") -> Try:
    return Try(source, *server, answer)


REFUSED = "Connection refused"


def compare(roles: list[str], tries: list[Try], listening: list[tuple[str, int]]) -> Comparison:
    return compare_with(roles, tries, listening, ways.allowed(roles))


def test_a_listed_way_that_is_open_and_another_that_is_refused_are_as_they_should_be() -> None:
    found = compare([BUCKETS, ALERTS], [tried(BUCKETS), tried(ALERTS, answer=REFUSED)], [])
    assert (found.findings, found.doubts, found.unproven, found.ways) == ((), (), (), 2)


def test_a_way_that_should_not_be_open_is_named_with_every_pod_that_let_it_in() -> None:
    second = ("data/minio", "minio-1", 9000)
    (finding,) = compare([ALERTS], [tried(ALERTS), tried(ALERTS, second)], []).findings
    assert finding == ("way-open", ALERTS, "reaches data/minio at port 9000 (minio-0, minio-1), and should not")


def test_one_pod_of_a_server_that_lets_a_stranger_in_is_enough() -> None:
    second = ("data/minio", "minio-1", 9000)
    (finding,) = compare([ALERTS], [tried(ALERTS, answer=REFUSED), tried(ALERTS, second)], []).findings
    assert finding.what == "reaches data/minio at port 9000 (minio-1), and should not"


@pytest.mark.parametrize("listening", [[("minio-0", 9000)], []])
def test_a_way_that_should_be_open_is_closed_only_where_somebody_listens(listening: list[tuple[str, int]]) -> None:
    found = compare([BUCKETS], [tried(BUCKETS, answer=REFUSED)], listening)
    if listening:
        assert found.findings == (Finding("way-closed", BUCKETS, f"does not reach data/minio at port 9000 (minio-0): {REFUSED}"),)
        assert found.doubts == ()
    else:
        assert found.findings == ()
        assert found.doubts == ("nobody is known to listen at minio-0 port 9000, so that it refuses proves nothing",)
        assert found.ways == 0


def test_that_another_was_let_in_proves_that_somebody_listens() -> None:
    migrate = "ml-system/migrate"
    server = ("data/postgres", "postgres-0", 5432)
    found = compare([migrate, "data/mlflow"], [tried(migrate, server, "no answer"), tried("data/mlflow", server)], [])
    assert [finding.subject for finding in found.findings] == [migrate]


def test_who_did_not_try_everything_leaves_a_doubt() -> None:
    found = compare([BUCKETS, "data/mlflow"], [tried(BUCKETS), tried("data/mlflow")], [])
    assert found.doubts == ("data/mlflow did not try data/postgres at port 5432",)
    assert compare([BUCKETS, ALERTS], [tried(BUCKETS)], []).doubts == (f"{ALERTS} did not try data/minio at port 9000",)


def test_nothing_tried_is_no_pass() -> None:
    found = compare([], [], [])
    assert (found.ways, found.doubts) == (0, ("nobody tried anything",))


def test_beyond_the_workloads_silence_is_no_doubt_and_guests_are_not_judged() -> None:
    metadata, node = (ways.METADATA, "169.254.169.254", 80), (ways.NODE, "node1", 10250)
    tries = [tried(BUCKETS), tried(BUCKETS, metadata, "no answer"), tried(BUCKETS, node, "no answer"), tried(ways.STRANGER, node)]
    found = compare([BUCKETS], tries, [])
    assert (found.findings, found.doubts) == ((), ())
    assert found.unproven == ("nobody is known to listen at 169.254.169.254 port 80, so that it refuses proves nothing",)
    (finding,) = compare([BUCKETS], [tried(BUCKETS), tried(BUCKETS, node), tried(ways.STRANGER, node)], []).findings
    assert finding.what == "reaches beyond/node at port 10250 (node1), and should not"
