"""What a local system needs on disk before its processes start: folders, secrets, certificates, configuration."""

from __future__ import annotations

import grp
import hashlib
import json
import pwd
import subprocess
import sys
from typing import Any

from sre.config import PROJECT
from sre.errors import CannotRun
from sre.targets.certificates import Authority
from sre.targets.local.database import all_roles
from sre.targets.local.files import secret, write_private
from sre.targets.local.layout import ARMS, MEMBERS, Layout
from sre.targets.local.tools import ALERTMANAGER_SHARE, RELOCATED_SHARE

MAX_BODY_BYTES = 5_000_000
SCRAPE_INTERVAL_S = 2
_OBJECTIVES = ("availability", "errors", "latency-p95", "latency-p99")
_FILES = (
    "nginx.conf", "prometheus.yml", "alerts.yml", "alertmanager.yml", *(f"ml-api-{name}.rules.yml" for name in _OBJECTIVES),
)  # fmt: skip
# Long enough that a slow replica is not taken for a frozen one: at 2 s, a stall of the whole machine made the ingress give up on
# every replica at once, and a second of slowness became seconds of 502.
ANSWER_TIMEOUT_S = 5


def folders(layout: Layout) -> None:
    """Make every folder. Other accounts may pass through to the database's, and read nothing else."""
    for folder in (layout.config, layout.logs, layout.run, layout.objects, layout.arms, layout.home / "data" / "prometheus"):
        folder.mkdir(parents=True, exist_ok=True)
    layout.secrets.mkdir(mode=0o700, exist_ok=True)
    share, unpacked = layout.run / RELOCATED_SHARE, layout.tools / "root" / ALERTMANAGER_SHARE
    if unpacked.exists() and not share.is_symlink():
        share.parent.mkdir(exist_ok=True)
        share.symlink_to(unpacked)
    if layout.account:
        layout.home.chmod(0o711)
        (layout.home / "data").chmod(0o711)
        layout.run.chmod(0o711)


def passwords(layout: Layout) -> None:
    """Make what is missing: one password per database role, libpq's password file, the API key and the file of its hash."""
    lines = [f"127.0.0.1:*:*:{role}:{secret(layout.secrets / f'{role}.password')}" for role in all_roles()]
    write_private(layout.secrets / "passfile", "\n".join(lines) + "\n")
    key = secret(layout.secrets / "api-key")
    keys = {"keys": [{"name": "drills", "sha256": hashlib.sha256(key.encode()).hexdigest()}]}
    (layout.config / "api-keys.json").write_text(json.dumps(keys, indent=2) + "\n", encoding="utf-8")


def certificates(layout: Layout) -> Authority:
    """Make the authority and the certificates of the ingress and of the toolkit, which shows its own to change the cluster."""
    authority = Authority()
    (layout.config / "ca.pem").write_bytes(authority.pem)
    for name, client in (("server", False), ("toolkit", True)):
        certificate, key = authority.issue(name, client=client)
        (layout.config / f"{name}.pem").write_bytes(certificate)
        write_private(layout.secrets / f"{name}.key", key)
    return authority


def configuration(layout: Layout) -> None:
    """Render the system's own templates for this layout.

    Raises:
        CannotRun: the system refuses the values; the message holds its words.
    """
    values = layout.config / "values.json"
    values.write_text(json.dumps(_values(layout), indent=2) + "\n", encoding="utf-8")
    only = [part for name in _FILES for part in ("--only", name)]
    command = [sys.executable, "-m", "system", "render", "--values", str(values), "--into", str(layout.config), *only]
    done = subprocess.run(command, cwd=layout.run, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise CannotRun(f"the configuration cannot be rendered: {done.stderr.strip()[-600:]}")


def _account_and_group(layout: Layout) -> str:
    # The group's name differs: nogroup on Debian, nobody elsewhere.
    return f"{layout.account} {grp.getgrgid(pwd.getpwnam(layout.account).pw_gid).gr_name}" if layout.account else ""


def _values(layout: Layout) -> dict[str, Any]:
    return {
        "run": str(layout.run),
        "logs": str(layout.logs),
        "serving": [{"name": name, "address": layout.address(name)} for name in layout.replicas],
        "arms": [{"name": name, "track": name.partition("-")[0], "address": layout.address(name)} for name in ARMS],
        "split": str(layout.split),
        "ingress": {
            "address": layout.address("ingress"),
            "status_address": layout.address("ingress-status"),
            "certificate": str(layout.config / "server.pem"),
            "certificate_key": str(layout.secrets / "server.key"),
            "user": _account_and_group(layout),
            "workers": 1,
            "rate_per_key": 5000,
            "burst_per_key": 1000,
            "max_body_bytes": MAX_BODY_BYTES,
            "answer_timeout_s": ANSWER_TIMEOUT_S,
            "failures_until_away": 3,
            "away_s": 5,
        },
        "monitoring": {
            "scrape_interval_s": SCRAPE_INTERVAL_S,
            "scrape_timeout_s": 2,
            "alertmanager": layout.address("alertmanager"),
            "least_replicas": len(layout.replicas),
            "arms": str(layout.arms),
            "runbooks": (PROJECT / "runbooks").as_uri(),
            "authority": str(layout.config / "ca.pem"),
            "members": [{"name": member, "address": layout.address(member.replace("postgres", "patroni"))} for member in MEMBERS],
            "jobs": {
                name: layout.address(name)
                for name in ("prometheus", "alertmanager", "node-exporter", "postgres-exporter", "nginx-exporter")
            },
        },
    }
