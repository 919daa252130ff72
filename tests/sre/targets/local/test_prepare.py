from __future__ import annotations

import hashlib
import json
import os
import ssl
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID
from yaml import safe_load

from sre.errors import CannotRun
from sre.targets.local import prepare
from sre.targets.local.database import all_roles
from sre.targets.local.layout import Layout, unprivileged_account
from sre.targets.local.tools import ALERTMANAGER_SHARE, RELOCATED_SHARE

MakeLayout = Callable[..., Layout]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_folders_open_a_way_for_the_account_and_show_it_nothing_else(make_layout: MakeLayout) -> None:
    layout = make_layout(account="nobody")
    (layout.tools / "root" / ALERTMANAGER_SHARE).mkdir(parents=True)
    prepare.folders(layout)
    prepare.folders(layout)
    assert {mode(folder) for folder in (layout.home, layout.home / "data", layout.run)} == {0o711}
    assert mode(layout.secrets) == 0o700
    assert (layout.run / RELOCATED_SHARE).resolve() == layout.tools / "root" / ALERTMANAGER_SHARE


def test_secrets_are_private_different_and_kept(make_layout: MakeLayout) -> None:
    layout = make_layout()
    prepare.passwords(layout)
    files = sorted(layout.secrets.iterdir())
    first = {path.name: path.read_text() for path in files}
    assert {mode(path) for path in files} == {0o600}
    assert len(first) == len(set(first.values())) == len(all_roles()) + 2
    assert min(len(text) for text in first.values()) >= 32
    prepare.passwords(layout)
    assert {path.name: path.read_text() for path in files} == first
    lines = [line.rsplit(":", 2) for line in first["passfile"].splitlines()]
    assert {(role, password) for _, role, password in lines} == {(role, first[f"{role}.password"]) for role in all_roles()}


def test_the_service_is_told_the_hash_of_the_key_only(make_layout: MakeLayout) -> None:
    layout = make_layout()
    prepare.passwords(layout)
    key = (layout.secrets / "api-key").read_text().strip()
    text = (layout.config / "api-keys.json").read_text()
    assert key not in text
    assert json.loads(text)["keys"] == [{"name": "drills", "sha256": hashlib.sha256(key.encode()).hexdigest()}]


def test_the_ingress_gets_a_server_s_certificate_and_the_toolkit_one_for_changing_the_cluster(make_layout: MakeLayout) -> None:
    layout = make_layout()
    authority = prepare.certificates(layout)
    assert (layout.config / "ca.pem").read_bytes() == authority.pem
    for name, client in (("server", False), ("toolkit", True)):
        certificate = x509.load_pem_x509_certificate((layout.config / f"{name}.pem").read_bytes())
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.pem))
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert (ExtendedKeyUsageOID.CLIENT_AUTH in usages) == client
        ssl.create_default_context().load_cert_chain(layout.config / f"{name}.pem", layout.secrets / f"{name}.key")
    assert sorted(path.name for path in layout.secrets.iterdir()) == ["server.key", "toolkit.key"]
    assert {mode(path) for path in layout.secrets.iterdir()} == {0o600}


def test_the_authority_s_key_is_never_written(make_layout: MakeLayout) -> None:
    layout = make_layout()
    authority = prepare.certificates(layout)
    keys = [load_pem_private_key(path.read_bytes(), None).public_key() for path in layout.secrets.glob("*.key")]
    assert len(keys) == 2
    assert x509.load_pem_x509_certificate(authority.pem).public_key() not in keys
    written = [path for path in layout.home.rglob("*") if path.is_file() and "PRIVATE KEY" in path.read_text()]
    assert {path.parent for path in written} == {layout.secrets}


def test_every_configuration_file_is_rendered(make_layout: MakeLayout) -> None:
    layout = make_layout(account=unprivileged_account())
    prepare.configuration(layout)
    nginx = (layout.config / "nginx.conf").read_text()
    assert all(f"server {layout.address(name)} " in nginx for name in layout.replicas)
    assert ("user nobody" in nginx) == (os.geteuid() == 0)
    assert {path.name for path in layout.config.iterdir()} == {
        "nginx.conf", "prometheus.yml", "alerts.yml", "alertmanager.yml", "values.json",
        *(f"ml-api-{name}.rules.yml" for name in ("availability", "errors", "latency-p95", "latency-p99")),
    }  # fmt: skip


def test_the_agents_of_all_members_are_watched_through_their_cables(make_layout: MakeLayout) -> None:
    layout = make_layout(account=unprivileged_account())
    prepare.configuration(layout)
    jobs = {job["job_name"]: job for job in safe_load((layout.config / "prometheus.yml").read_text())["scrape_configs"]}
    assert [group["targets"] for group in jobs["database"]["static_configs"]] == [
        [layout.address(f"patroni-{number}")] for number in (1, 2, 3)
    ]


def test_values_that_the_system_refuses_are_told(make_layout: MakeLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "_values", lambda _: {"run": "/run"})
    with pytest.raises(CannotRun, match=r"the configuration cannot be rendered: template 'nginx.conf' cannot be rendered"):
        prepare.configuration(make_layout())
