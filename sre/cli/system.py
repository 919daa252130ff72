"""`sre up`, `sre down`, `sre status`: the local system."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Literal

import typer

from sre.cli import output
from sre.cli.output import AsJson
from sre.config import Settings
from sre.errors import ExitCode, TargetUnavailable


def up(
    replicas: Annotated[int | None, typer.Option(min=1, max=20, help="Serving replicas; a running system keeps its own.")] = None,
    synchronous: Annotated[
        Literal["strict", "on", "off"],
        typer.Option(
            help="A commit waits for a standby: always, while there is one, or never. `strict` stops writes without one."
        ),
    ] = "on",
    as_json: AsJson = False,
) -> None:
    """Begin the system on this machine, or join the one that runs: nginx, API replicas, a PostgreSQL cluster, MLflow, Prometheus,
    Alertmanager. The first time it also trains a model. Ctrl-C ends what was begun."""  # noqa: D205, D209 - one paragraph of help
    from sre.targets.local import target

    settings = Settings()
    with output.progress() as narrator:
        system, begun = target.up(
            settings.home, settings.tools, replicas=replicas or settings.replicas, synchronous=synchronous,
            say=narrator.change,
        )  # fmt: skip
    endpoints = system.endpoints
    addresses = {
        "ingress": endpoints.ingress, "mlflow": endpoints.mlflow, "prometheus": endpoints.prometheus,
        "alertmanager": endpoints.alertmanager,
    }  # fmt: skip
    files = {"ca_file": str(endpoints.ca_file), "api_key_file": str(endpoints.api_key_file)}
    if as_json:
        output.document("sre.up/1", {"begun": begun, "home": str(settings.home), **addresses, **files})
        return
    output.table(("what", "where"), [*addresses.items(), *files.items()])


def down(
    purge: Annotated[bool, typer.Option(help="Also delete database, objects, metrics and secrets.")] = False,
    as_json: AsJson = False,
) -> None:
    """End the system of this machine, also after its supervisor was killed. Data stay unless purged."""
    from sre.targets.local import target

    settings = Settings()
    left = target.down(settings.home, purge=purge)
    if as_json:
        output.document("sre.down/1", {"home": str(settings.home), "purged": purge, "ended_by_force": left})
        return
    output.narrate(f"nothing of {settings.home} runs any more{'; its data are deleted' if purge else ''}")
    if left:
        output.narrate(f"ended by force: {', '.join(left)}")


def status(as_json: AsJson = False) -> None:
    """Show every service: state, process, restarts, and what its check last saw; and every member of the database cluster."""
    from sre.targets.local import processes, state
    from sre.targets.local.members import LocalDatabase

    settings = Settings()
    current = state.read(settings.home)
    if current is None:
        raise TargetUnavailable(f"no system runs in {settings.home}; run `sre up`")
    supervised = processes.alive(current.supervisor)
    services = {
        name: {"state": item.state, "pid": item.process.partition("@")[0], "restarts": item.restarts, "last": item.last}
        for name, item in current.services.items()
    }
    layout = current.layout(settings.home, settings.tools)
    members = LocalDatabase(layout).members() if supervised and layout.clustered else ()
    overall = current.state if supervised else "without a supervisor"
    if as_json:
        output.document("sre.status/1", {"state": overall, "why": current.why, "services": services,
                                         "members": [asdict(member) for member in members]})  # fmt: skip
    else:
        rows = [(name, *(str(value)[:60] for value in item.values())) for name, item in services.items()]
        output.table(("service", "state", "pid", "restarts", "last seen"), rows, right=frozenset({"pid", "restarts"}))
        lines = [
            (
                item.name,
                item.role or "no role",
                item.state,
                str(item.timeline),
                "unknown" if item.lag is None else f"{item.lag:,} B",
            )
            for item in members
        ]
        if lines:
            output.table(("database", "role", "state", "timeline", "lag"), lines, right=frozenset({"timeline", "lag"}))
        output.narrate(f"{settings.home}: {overall} {current.why}".rstrip())
    if not supervised or current.state != "ready":
        raise typer.Exit(ExitCode.CANNOT_RUN)
