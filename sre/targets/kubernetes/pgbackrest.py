"""pgBackRest of a cluster's database, asked where it runs: beside each member, in a container that sees its files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sre.errors import StepFailed
from sre.targets.kubernetes.client import Api
from sre.targets.kubernetes.database import MEMBERS, NAMESPACE

CONTAINER = "pgbackrest"
# The second one, which Secret `off-site` names.
OUTSIDE = 2
ASK_WITHIN_S = 60.0
BACKUP_WITHIN_S = 3600.0
# More than `archive-timeout` of pgbackrest.conf.
CHECK_WITHIN_S = 120.0
_PRIMARY = f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=app.kubernetes.io%2Fname%3Dpostgres%2Crole%3Dprimary"
_INFO = "pgbackrest --stanza=ml --log-level-console=off --output=json info 2>/dev/null"
_SYSTEM = "LC_ALL=C pg_controldata -D /var/lib/postgresql/data | sed -n 's/^Database system identifier: *//p'"


@dataclass(frozen=True, slots=True)
class Held:
    """One backup as pgBackRest's records have it.

    Attributes:
        repository: key.
        label: name of the backup.
        system: identifier of the database that it is of.
    """

    repository: int
    label: str
    system: str


def held(info: str) -> tuple[Held, ...]:
    """Every backup of every repository, oldest first; those with damaged pages are none.

    Args:
        info: what `pgbackrest info --output=json` printed.

    Raises:
        StepFailed: the answer is not understood.
    """
    stanza = _parsed(info)
    systems = {(one["repo-key"], one["id"]): str(one["system-id"]) for one in stanza["db"]}
    return tuple(
        Held(of["repo-key"], one["label"], systems[of["repo-key"], of["id"]])
        for one in stanza["backup"]
        if not one["error"] and (of := one["database"])
    )


def unusable(info: str, repository: int) -> str:
    """Why a repository takes no backups, in words; empty when it does.

    Args:
        info: as in `held`.
        repository: key.

    Raises:
        StepFailed: the answer is not understood.
    """
    for one in _parsed(info)["repo"]:
        if one["key"] == repository:
            # 2: it has none yet.
            return "" if one["status"]["code"] in {0, 2} else " ".join(one["status"]["message"].split())[:300]
    return f"pgBackRest knows no repository {repository}"


def kept(api: Api) -> dict[str, str]:
    """Pods whose very database has a backup, as `namespace/name`, and where. None of them where nobody can be asked."""
    found = {}
    for member in MEMBERS:
        try:
            there, system = {one.system: one for one in held(ask(api, member))}, _run(api, member, _SYSTEM)
        except StepFailed:
            continue
        if system in there:
            newest = there[system]
            found[f"{NAMESPACE}/{member}"] = f"repository {newest.repository} holds {newest.label}"
    return found


def ask(api: Api, member: str) -> str:
    """`pgbackrest info` as JSON.

    Raises:
        StepFailed: it cannot be asked beside that member.
    """
    return _run(api, member, _INFO)


def primary(api: Api) -> str:
    """The member that takes writes.

    Raises:
        StepFailed: there is none.
    """
    pods = api.get(_PRIMARY)["items"]
    if len(pods) != 1:
        raise StepFailed(f"{len(pods)} members say that they are the primary; see `sre status --target kubernetes`")
    return str(pods[0]["metadata"]["name"])


def check(api: Api, member: str) -> None:
    """See that WAL written now arrives in every repository.

    Raises:
        StepFailed: it does not within pgBackRest's time, or cannot be asked; the message holds its words.
    """
    _run(api, member, "pgbackrest --stanza=ml --log-level-console=warn check 2>&1", within_s=CHECK_WITHIN_S)


def back_up(api: Api, repository: int) -> str:
    """Make a full backup of the running database; returns its label.

    Raises:
        StepFailed: pgBackRest failed, or lists no new backup.
    """
    member = primary(api)
    before = set(held(ask(api, member)))
    command = f"pgbackrest --stanza=ml --repo={repository} --type=full --log-level-console=warn backup 2>&1"
    _run(api, member, command, within_s=BACKUP_WITHIN_S)
    fresh = [one.label for one in held(ask(api, member)) if one not in before and one.repository == repository]
    if not fresh:
        raise StepFailed(f"pgBackRest ended without an error, and repository {repository} lists no new backup")
    return fresh[-1]


def _run(api: Api, member: str, script: str, *, within_s: float = ASK_WITHIN_S) -> str:
    ended = api.run(NAMESPACE, member, CONTAINER, ["sh", "-c", f"set -eu\n{script}"], within_s=within_s)
    if ended.code != 0:
        words = " ".join(ended.output.split())[-400:]
        raise StepFailed(f"`{script.partition(' 2>')[0]}` beside {member} ended with {ended.code}: {words or 'it said nothing'}")
    return ended.output.strip()


def _parsed(info: str) -> dict[str, Any]:
    try:
        (stanza,) = json.loads(info, strict=False)
        return {part: stanza[part] for part in ("db", "backup", "repo")}
    except (ValueError, TypeError, KeyError) as error:
        raise StepFailed(f"`pgbackrest info` gave an answer that is not understood ({error!r}): {info[:200]}") from error
