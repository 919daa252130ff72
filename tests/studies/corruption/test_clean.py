from __future__ import annotations

import shutil

import psycopg
import pytest

from sre.dr import backup
from sre.targets.local.target import LocalTarget
from tests.studies.corruption import clean


@pytest.mark.local
def test_what_is_whole_is_without_an_alarm(system: LocalTarget) -> None:
    layout = system.layout
    backup.create(layout, "full")
    try:
        (looks,) = clean.run(layout, 1)
    finally:
        shutil.rmtree(layout.objects / "ml-datasets" / "grown-0")
        with psycopg.connect(layout.dsn("drills", "drills"), passfile=str(layout.secrets / "passfile")) as connection:
            connection.execute("DROP TABLE grown")
    assert [look.words for look in looks if look.alarm] == []
    assert len(looks) == clean.LOOKS == len({look.at for look in looks})
