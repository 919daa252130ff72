"""The second repository: what the database is told of it, and when it is not taken."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sre.errors import CannotRun, UsageError
from sre.judges.manifests.objects import parsed
from sre.targets.certificates import Authority
from sre.targets.kubernetes import off_site, secrets
from sre.targets.kubernetes.velero_install import Store
from tests import minio_server

BUCKET = "ml-off-site"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "keys").write_text("[default]\naws_access_key_id = me\naws_secret_access_key = 50%=secret\n")
    (tmp_path / "ca.pem").write_text("pem\n")
    return Store("https://10.1.2.3:9000", BUCKET, tmp_path / "keys", tmp_path / "ca.pem")


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A server with the bucket."""
    folder = tmp_path_factory.mktemp("outside")
    with minio_server.serve(folder, Authority("tests", timedelta(days=1))) as server:
        url = f"https://localhost:{server.address.rpartition(':')[2]}"
        server.make_bucket(BUCKET, folder / "ca.pem")
        (folder / "keys").write_text(f"[default]\naws_access_key_id = {server.user}\naws_secret_access_key = {server.password}\n")
        yield Store(url, BUCKET, folder / "keys", folder / "ca.pem")


def test_pgbackrest_is_told_by_its_environment_alone(store: Store) -> None:
    values = secrets.decoded(off_site.secret(store, []))
    assert values["PGBACKREST_REPO2_S3_ENDPOINT"] == "10.1.2.3"
    assert values["PGBACKREST_REPO2_STORAGE_PORT"] == "9000"
    assert values["PGBACKREST_REPO2_S3_KEY_SECRET"] == "50%=secret"
    assert values["PGBACKREST_REPO2_STORAGE_CA_FILE"] == "/etc/postgres/off-site/ca.crt"
    assert values["ca.crt"] == "pem\n"
    assert len(values["PGBACKREST_REPO2_CIPHER_PASS"]) >= 32
    assert all(name == "ca.crt" or name.startswith("PGBACKREST_REPO2_") for name in values)


def test_what_encrypts_the_repository_is_kept(store: Store) -> None:
    first = off_site.secret(store, [])
    assert off_site.secret(store, [first]) == first
    assert off_site.secret(store, []) != first


def test_a_store_of_a_known_authority_needs_no_file_for_it(store: Store) -> None:
    values = secrets.decoded(off_site.secret(Store("https://s3.example.com", BUCKET, store.credentials), []))
    assert not {"ca.crt", "PGBACKREST_REPO2_STORAGE_CA_FILE"} & values.keys()
    assert values["PGBACKREST_REPO2_STORAGE_PORT"] == "443"


@pytest.mark.parametrize("url", ["http://10.1.2.3:9000", "10.1.2.3:9000", "https://"])
def test_only_https_is_spoken(store: Store, url: str) -> None:
    with pytest.raises(UsageError, match="pgBackRest speaks to a store over https only"):
        off_site.secret(Store(url, BUCKET, store.credentials), [])


@pytest.mark.parametrize("text", ["", "[other]\n", "[default]\naws_access_key_id = me\n", "no file at all"])
def test_a_file_without_keys_is_named(store: Store, text: str) -> None:
    store.credentials.write_text(text)
    with pytest.raises(UsageError, match=r"keys holds no keys for the store \(\w+\); see SRE_VELERO_CREDENTIALS"):
        off_site.secret(store, [])


def test_the_database_may_reach_that_address_and_no_other(store: Store) -> None:
    made = off_site.policy(store)
    assert made["spec"]["egress"] == [{"to": [{"ipBlock": {"cidr": "10.1.2.3/32"}}], "ports": [{"port": 9000}]}]
    named = off_site.policy(Store("https://store.example.com:9000", BUCKET, store.credentials))
    assert named["spec"]["egress"] == [{"ports": [{"port": 9000}]}]
    assert parsed([made]).find("NetworkPolicy", "data", "off-site")


def test_pods_begin_anew_when_the_secret_is_another(store: Store) -> None:
    def digest(of: Any) -> str:
        objects = [
            {"kind": "StatefulSet", "metadata": {"name": name}, "spec": {"template": {"metadata": {}}}}
            for name in ("postgres", "minio")
        ]
        postgres, minio = off_site.stamped(objects, of)
        assert "annotations" not in minio["spec"]["template"]["metadata"]
        return str(postgres["spec"]["template"]["metadata"]["annotations"][off_site.DIGEST])

    first, other = off_site.secret(store, []), off_site.secret(store, [])
    assert digest(first) == digest(off_site.secret(store, [first])) != digest(other)


def test_a_store_that_is_known_by_its_address_alone_is_refused(outside: Store) -> None:
    address = Store(outside.url.replace("localhost", "127.0.0.1"), BUCKET, outside.credentials, outside.authority)
    with pytest.raises(CannotRun, match=r"pgBackRest verifies a store by its name, and 127\.0\.0\.1 is an address"):
        off_site.check_unused(address)


def test_a_repository_with_something_in_it_is_not_taken_for_a_new_system(outside: Store) -> None:
    off_site.check_unused(outside)
    off_site.opened(outside).put(BUCKET, "pgbackrest/archive/ml/archive.info", b"x")
    with pytest.raises(CannotRun, match=r"holds backups of a database \(pgbackrest/archive/ml/archive.info and 0 more\)"):
        off_site.check_unused(outside)


def test_a_store_that_cannot_be_looked_at_is_no_empty_one(outside: Store) -> None:
    with pytest.raises(CannotRun, match="the store outside the cluster cannot be looked at"):
        off_site.check_unused(Store(outside.url, "no-such-bucket", outside.credentials, outside.authority))
