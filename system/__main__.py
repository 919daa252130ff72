"""`python -m system ROLE`: one role per process. Each role imports only what it needs."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import NoReturn, TypeVar

import typer
from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings

from system.config import BucketsSettings, MigrateSettings, ServeSettings, TrainSettings
from system.errors import MlSystemError

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help="The production ML system.")

_FAILED = 1
_BAD_SETTINGS = 2

AnySettings = TypeVar("AnySettings", bound=BaseSettings)


class Role(StrEnum):
    """The roles that have settings."""

    SERVE = "serve"
    TRAIN = "train"
    MIGRATE = "migrate"
    BUCKETS = "buckets"


_SETTINGS: dict[Role, type[BaseSettings]] = {
    Role.SERVE: ServeSettings,
    Role.TRAIN: TrainSettings,
    Role.MIGRATE: MigrateSettings,
    Role.BUCKETS: BucketsSettings,
}


@app.command()
def serve() -> None:
    """Answer predictions over HTTP until SIGTERM."""
    settings = _read(ServeSettings)

    from system.serving import workers  # noqa: PLC0415 - the other roles need no server

    try:
        workers.serve(settings)
    except ValueError as error:
        _fail(f"ML_API_KEYS_FILE: {error}", _BAD_SETTINGS)


@app.command()
def train() -> None:
    """Train a model, and register and promote it when it is good enough."""
    settings = _read(TrainSettings)

    from system.training import steps  # noqa: PLC0415 - the other roles must not load torch and mlflow

    steps.run(settings)


@app.command()
def migrate() -> None:
    """Bring the database's tables to this version."""
    settings = _read(MigrateSettings)

    from system.storage import engine  # noqa: PLC0415 - the other roles need no driver

    applied = engine.migrate(settings.database_url.get_secret_value())
    typer.echo("\n".join(f"applied {name}" for name in applied) or "nothing to apply")


@app.command()
def buckets(
    rules: Path = typer.Option(..., help="What becomes of old objects, as `sre backup lifecycle --s3` prints it."),  # noqa: B008 - typer's way
    accounts: Path | None = typer.Option(None, help="What each account of a MinIO may do with which buckets."),  # noqa: B008 - the same
    secrets: Path | None = typer.Option(None, help="Folder with the secret key of each of these accounts."),  # noqa: B008 - the same
) -> None:
    """Make the buckets in S3, with versions of everything and rules for old objects, and accounts for them; may be repeated."""
    settings = _read(BucketsSettings)
    if (accounts is None) != (secrets is None):
        _fail("--accounts and --secrets belong together; give both or neither", _BAD_SETTINGS)

    from system.storage import objects, s3  # noqa: PLC0415 - the other roles need no S3 client

    store = objects.open_store(settings.objects_url)
    if not isinstance(store, s3.S3Store):
        _fail(f"ML_OBJECTS_URL is {settings.objects_url!r}: a folder makes its buckets itself; name an S3 server", _BAD_SETTINGS)
    typer.echo("\n".join(store.make_buckets(s3.read_rules(rules))))
    if accounts is not None and secrets is not None:
        from system.storage import accounts as store_accounts  # noqa: PLC0415 - where it is asked for

        typer.echo("\n".join(store_accounts.make(settings.objects_url, store_accounts.read_grants(accounts), secrets)))


@app.command()
def validate(role: Role = typer.Argument(Role.SERVE, help="Whose settings.")) -> None:  # noqa: B008 - typer's way
    """Print the settings a role would run with, and where each comes from; secrets are hidden."""
    settings = _read(_SETTINGS[role])
    for name in type(settings).model_fields:
        source = "environment" if _variable(name) in os.environ else "default"
        typer.echo(f"{_variable(name)} {getattr(settings, name)} ({source})")


@app.command()
def render(
    values: Path = typer.Option(..., help="JSON object with the values that the templates name."),  # noqa: B008 - typer's way
    into: Path = typer.Option(..., help="Folder that gets the files."),  # noqa: B008 - the same
    only: list[str] = typer.Option(..., help="Name of a file to write, for example nginx.conf; may be given again."),  # noqa: B008 - the same
) -> None:
    """Write configuration files: of the ingress, the database cluster, its backups, Prometheus, Alertmanager."""
    from system import render as templates  # noqa: PLC0415 - the other roles need no templates

    templates.render_all(only, templates.read_values(values), into)


def _read(kind: type[AnySettings]) -> AnySettings:
    try:
        return kind()
    except ValidationError as error:
        _fail(
            "\n".join(_complaint(kind, item["loc"], item["type"], item["msg"], item["input"]) for item in error.errors()),
            _BAD_SETTINGS,
        )


def _complaint(kind: type[BaseSettings], location: tuple[int | str, ...], error_type: str, message: str, value: object) -> str:
    """Variable, value unless it is a secret, remedy."""
    name = str(location[0])
    field = kind.model_fields[name]
    meaning = f" ({field.description})" if field.description else ""
    if error_type == "missing":
        return f"{_variable(name)} is not set; set it{meaning}"
    if field.annotation is SecretStr:  # pydantic's own message can quote the value
        return f"{_variable(name)} has a value that is not valid, hidden here because it is a secret; correct it{meaning}"
    return f"{_variable(name)} is {value!r}: {message}; correct it{meaning}"


def _variable(name: str) -> str:
    return f"ML_{name.upper()}"


def _fail(message: str, status: int) -> NoReturn:
    typer.echo(message, err=True)
    raise SystemExit(status)


def main() -> None:
    """Run one role; what the system raises on purpose ends with its message and status 1."""
    try:
        app()
    except MlSystemError as error:
        _fail(str(error), _FAILED)


if __name__ == "__main__":
    main()
