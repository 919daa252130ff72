from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest
from psycopg.conninfo import conninfo_to_dict

from sre.errors import TargetUnavailable
from sre.targets.kubernetes.access import SECRET, Access
from sre.targets.kubernetes.client import Api
from sre.targets.kubernetes.place import Place
from tests.sre.targets.kubernetes.conftest import Served


@pytest.fixture
def access(served: Served, place: Place, api: Api) -> Iterator[Access]:
    words = {"drills": "one", "backup": "t:w\\o", "api-key": "of the edge"}
    served.objects[SECRET] = {"data": {role: base64.b64encode(word.encode()).decode() for role, word in words.items()}}
    made = Access(api, place)
    yield made
    made.close()


def test_the_primary_is_looked_for_among_all_members_by_the_name_of_their_certificates(access: Access, place: Place) -> None:
    known = conninfo_to_dict(access.dsn("drills", "drills"))
    assert known["host"] == "localhost,localhost,localhost"
    assert known["hostaddr"] == "127.0.0.1,127.0.0.1,127.0.0.1"
    assert len(set(str(known["port"]).split(","))) == 3
    assert (known["user"], known["dbname"], known["target_session_attrs"]) == ("drills", "drills", "read-write")
    assert (known["sslmode"], known["sslrootcert"]) == ("verify-full", str(place.ca_file))


def test_a_member_alone_is_asked_whatever_its_role(access: Access) -> None:
    every = conninfo_to_dict(access.dsn("backup", "predictions"))
    ports = []
    for member in ("postgres-0", "postgres-1", "postgres-2"):
        known = conninfo_to_dict(access.dsn_of(member, "backup", "predictions"))
        assert "target_session_attrs" not in known
        assert (known["host"], known["hostaddr"]) == ("localhost", "127.0.0.1")
        ports.append(known["port"])
    assert every["port"] == ",".join(map(str, ports))


def test_passwords_lie_in_a_file_of_ours_alone_and_are_written_anew(
    access: Access, served: Served, place: Place, api: Api
) -> None:
    assert access.passfile.parent == place.folder
    assert access.passfile.read_text() == "*:*:*:drills:one\n*:*:*:backup:t\\:w\\\\o\n"
    assert access.passfile.stat().st_mode & 0o777 == 0o600
    served.objects[SECRET]["data"]["drills"] = base64.b64encode(b"two").decode()
    access.passfile.chmod(0o644)
    Access(api, place).close()
    assert access.passfile.read_text().startswith("*:*:*:drills:two\n")
    assert access.passfile.stat().st_mode & 0o777 == 0o600


def test_without_passwords_nobody_listens(api: Api, place: Place) -> None:
    with pytest.raises(TargetUnavailable, match=f"has nothing at {SECRET}"):
        Access(api, place)
