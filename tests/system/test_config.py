from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from system.config import BucketsSettings, MigrateSettings, ServeSettings, TrainSettings

GOOD = {
    "objects_url": "file:///srv/my%20objects",
    "mlflow_url": "http://127.0.0.1:5000",
    "database_url": "postgresql://u:hunter2@a:5432,b:5432/ml?target_session_attrs=read-write",
    "api_keys_file": "/etc/keys.json",
    "cache_dir": "/var/cache/ml",
}


def _serve(**changes: Any) -> ServeSettings:
    return ServeSettings.model_validate(GOOD | changes)


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (GOOD | {"port": "8123"}).items():
        monkeypatch.setenv(f"ML_{name.upper()}", value)
    settings = ServeSettings()
    assert (settings.port, settings.workers) == (8123, 1)
    assert settings.objects_url == GOOD["objects_url"] == BucketsSettings().objects_url
    assert TrainSettings().min_accuracy == 0.85
    assert MigrateSettings().database_url.get_secret_value() == GOOD["database_url"]


def test_settings_do_not_change_and_do_not_show_secrets() -> None:
    settings = _serve()
    with pytest.raises(ValidationError, match="frozen"):
        settings.port = 9  # type: ignore[misc] # that it is read-only is what is tested
    assert "hunter2" not in f"{settings!r} {settings}"


@pytest.mark.parametrize("url", ["s3://minio.data.svc:9000", "s3+https://minio.data.svc:9000/", "s3+https://objects.example"])
def test_a_server_of_objects_has_no_bucket(url: str) -> None:
    assert _serve(objects_url=url).objects_url == url


@pytest.mark.parametrize(
    "change",
    [
        {"objects_url": "s3://bucket"},
        {"objects_url": "s3://minio:9000/bucket"},
        {"objects_url": "s3://user:hunter2@minio:9000"},
        {"objects_url": "s3+https://"},
        {"objects_url": "s3://minio:0x"},
        {"objects_url": "https://minio:9000"},
        {"objects_url": "file://host/folder"},
        {"objects_url": "/folder"},
        {"mlflow_url": "localhost:5000"},
        {"model_name": "../elsewhere"},
        {"database_url": "mysql://a/b"},
        {"port": 0},
        {"port": 65_536},
        {"workers": 0},
        {"log_level": "LOUD"},
        {"registry_deadline_s": 0},
        {"unknown": 1},
    ],
)
def test_what_cannot_work_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        _serve(**change)
