from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from sre.dr import content, objects, place
from sre.probes import http
from sre.targets.local import processes
from sre.targets.local.target import LocalTarget, down

pytestmark = pytest.mark.local


def test_a_restored_place_answers_on_its_own_and_shares_no_credential(system: LocalTarget) -> None:
    layout, backup = system.layout, system.layout.objects / objects.BACKUPS / "test"
    fresh = layout.home / "restored" / "test"
    try:
        place.back_up(layout, backup)
        restored = place.restore(backup, fresh, layout, "auto")
        endpoints = restored.endpoints
        there, back = (
            content.rows(system.endpoints.database, system.endpoints.passfile),
            content.rows(endpoints.database, endpoints.passfile),
        )
        assert there.keys() == back.keys()
        assert back["mlflow.public.model_versions"] == there["mlflow.public.model_versions"]
        assert objects.checksums(restored.layout.objects) == objects.checksums(layout.objects)
        direct = replace(endpoints, ingress=restored.layout.url("serving-1"))
        image = next(endpoints.bodies.rglob("*.png"))
        assert http.predict(direct, image)[0] == 200
        # Its keys open nothing of the running system, nor the other way round.
        assert not set(restored.layout.ports.values()) & set(layout.ports.values())
        assert http.predict(replace(system.endpoints, api_key_file=endpoints.api_key_file), image)[0] == 401
        assert http.predict(replace(direct, api_key_file=system.endpoints.api_key_file), image)[0] == 401
        for database, passfile in (
            (endpoints.database, system.endpoints.passfile),
            (system.endpoints.database, endpoints.passfile),
        ):
            with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                psycopg.connect(database, passfile=str(passfile), connect_timeout=10)
        assert [item.ready for item in system.replicas()] == [True] * 3
    finally:
        down(fresh, purge=True)
        shutil.rmtree(backup)
    assert not fresh.exists()
    assert not processes.of_system(fresh)
    assert [item.ready for item in system.replicas()] == [True] * 3


def test_an_existing_backup_is_never_written_over(system: LocalTarget, tmp_path: Path) -> None:
    (tmp_path / place.OBJECTS).mkdir()
    with pytest.raises(FileExistsError):
        place.back_up(system.layout, tmp_path)
