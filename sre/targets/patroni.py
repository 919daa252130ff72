"""What Patroni's agents say of their cluster, whatever it runs on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sre.readings import Member

_ROLES = {"leader": "primary", "standby_leader": "primary", "sync_standby": "sync_standby", "replica": "standby"}


def member(name: str, identity: str, known: Mapping[str, Any]) -> Member:
    """One member.

    Args:
        name: of it.
        identity: of its server; empty while there is none.
        known: its item of `members` in what an agent answers to `/cluster`; empty when no agent knows it.
    """
    role = _ROLES.get(known.get("role", ""), "")
    lag = known.get("lag")
    return Member(
        name, identity, role, known.get("state", "unknown"), int(known.get("timeline") or 0),
        0 if role == "primary" else lag if isinstance(lag, int) else None,
    )  # fmt: skip
