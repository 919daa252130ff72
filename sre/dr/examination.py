"""Looks at a restored place, one fact per function, for the nine points of `checklist`; nothing here judges.

Every fact is plain data, so that it can be kept as evidence and judged again. Who calls turns what is raised into
`{"trouble": ...}`: psycopg.Error, httpx.HTTPError, OSError, ValueError, KeyError or StepFailed.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from sre.dr import content, isolation, lifecycle, scan, sets, vault
from sre.dr import structure as structures
from sre.dr.commands import Ran
from sre.dr.place import Restored
from sre.dr.sets import BackupSet, Place
from sre.dr.vault import ObjectRef
from sre.probes import http, sql
from sre.targets.local.database import SUPERUSER, superuser
from sre.targets.local.layout import Layout
from sre.targets.local.programs import find
from sre.targets.local.target import LocalTarget
from sre.targets.registry import Registry

Fact = dict[str, Any]

_WITHIN_S = 30.0
_SYSTEM = "SELECT system_identifier::text FROM pg_control_system()"


def reached(item: BackupSet, restored: Restored, place: Place) -> Fact:
    """What recovery came to, for `checklist.target`."""
    layout = restored.target.layout
    with superuser(layout) as connection:
        row = connection.execute(_SYSTEM).fetchone()
    return {
        "marker": item.database.marker, "words": restored.reached.words, "last_commit": restored.reached.last_commit,
        "system": str(row[0]) if row else "", "of_system": item.database.system_id,
        "timeline": restored.reached.timeline, "from_timeline": item.database.backups[place].timeline,
    }  # fmt: skip


def tables(item: BackupSet, layout: Layout) -> Fact:
    """Every table as the set says and as it came back, for `checklist.content`. Ask before anything is written there."""
    found = content.tables(layout.dsn(SUPERUSER, "postgres"), layout.secrets / "passfile", item.database.marker)
    return {
        name: {
            "expected": item.tables[name].model_dump() if name in item.tables else None,
            "restored": found[name].model_dump() if name in found else None,
        }
        for name in sorted({*item.tables, *found})
    }


def objects(item: BackupSet, layout: Layout) -> Fact:
    """Every object's checksum against the set's, for `checklist.content`."""
    found = checksums(layout.objects)
    return {
        "expected": len(item.objects),
        "lost": sorted(set(item.objects) - set(found)),
        "altered": sorted(name for name, ref in item.objects.items() if name in found and found[name] != ref),
        "invented": sorted(set(found) - set(item.objects)),
    }


def checksums(root: Path) -> dict[str, ObjectRef]:
    """SHA-256 and size of every object of a store, by `bucket/key`."""
    return {name: _content(path) for name, path in lifecycle.objects(root).items()}


def structure(source: Layout, layout: Layout) -> Fact:
    """The place's structure against the running system's, for `checklist.structure`. Ask before an extension is installed."""
    there, back = (structures.read(one.dsn("backup", "postgres"), one.secrets / "passfile") for one in (source, layout))
    return {
        "wrong": [*structures.compare(there, back), *back.behind],
        "databases": len(back.definitions), "roles": len(back.roles), "sequences": back.sequences,
    }  # fmt: skip


def registry(item: BackupSet, layout: Layout) -> Fact:
    """The registry as the place's own MLflow tells it and hands out its files, for `checklist.registry`."""
    wrong = sets.registry_gaps(item.registry, checksums(layout.objects))
    loaded, files = [], 0
    mlflow = Registry(layout.url("mlflow"), _WITHIN_S)
    aliases = mlflow.aliases()
    wrong += [f"model {name} is not in the registry" for name in item.registry if name not in aliases]
    for name, named in aliases.items():
        known = item.registry.get(name)
        if known is None or named != known.aliases:
            wrong.append(f"model {name} has aliases {named or 'none'}, the set says {known.aliases if known else 'nothing'}")
            continue
        for number in sorted(set(named.values())):
            version = mlflow.version(number, name)
            if version is None:
                wrong.append(f"model {name} version {number} has an alias and does not exist")
                continue
            for key, sha256 in sorted(known.versions[number].items()):
                files += 1
                if (seen := mlflow.sha256(version, Path(key).name)) != sha256:
                    wrong.append(f"model {name} version {number}: MLflow hands out {Path(key).name} as {seen[:12]}...")
            loaded.append(f"{name} {number}")
    return {"wrong": wrong, "loaded": loaded, "files": files}


def prediction(request_id: str, target: LocalTarget, again: str) -> Fact:
    """A recorded prediction asked of the place's replica once more, with the restored image; for `checklist.prediction`.

    Args:
        request_id: of the recorded one.
        target: the place.
        again: request id of the new one. Whether the place has recorded it is for `logged`.
    """
    row = sql.prediction(target.endpoints, request_id)
    if row is None:
        return {"recorded": None, "repeated": None, "why": "the recorded prediction is not in the restored log"}
    stored = lifecycle.objects(target.layout.objects)
    images = (path for path in stored.values() if path.suffix in http.MEDIA_TYPES)
    image = next((path for path in images if _content(path).sha256 == row.input_sha256), None)
    if image is None:
        return {"recorded": row.bits, "repeated": None, "why": "its image is not among the restored objects"}
    direct = replace(target.endpoints, ingress=target.layout.url(target.layout.replicas[0]))
    status, body = http.predict(direct, image, again)
    if status != httpx.codes.OK:
        return {"recorded": row.bits, "repeated": None, "why": f"the restored replica answered {status}: {body.get('detail')}"}
    return {"recorded": row.bits, "repeated": sql.float32_bits(body["probabilities"]), "why": ""}


def own_place(source: Layout, layout: Layout, found: list[str]) -> Fact:
    """What lay there before, and everything by which the place could reach the running system; for `checklist.place`."""
    reaches, looked = isolation.ties(source, layout)
    return {"found": found, "reaches": reaches, "looked": looked}


def relations(layout: Layout, ran: Ran) -> list[str]:
    """What pg_amcheck finds in the running place; installs an extension there."""
    dsn = layout.dsn(SUPERUSER, "postgres")
    found = scan.relations(find("postgres", layout.tools), dsn, layout.secrets / "passfile", ran=ran)
    return [str(damage) for damage in found]


def pages(layout: Layout, ran: Ran) -> list[str]:
    """What pg_checksums finds in the place, which must have been stopped."""
    found = scan.pages(find("postgres", layout.tools), layout.data(layout.members[0]), account=layout.account, ran=ran)
    return [str(damage) for damage in found]


def _content(path: Path) -> ObjectRef:
    with lifecycle.reading(path) as file:
        return vault.digest(file)
