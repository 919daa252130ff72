"""`sre up`, `sre down`, `sre status`."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sre.cli import output
from sre.cli.output import AsJson
from sre.config import Settings
from sre.errors import ExitCode, TargetUnavailable, UsageError

if TYPE_CHECKING:
    from sre.targets.kubernetes.client import Api
    from sre.targets.kubernetes.place import Place

TargetName = Annotated[
    Literal["local", "kubernetes"],
    typer.Option("--target", help="This machine, or the cluster that SRE_KUBECONFIG names."),
]
Meant = Annotated[
    str | None, typer.Option("--yes-i-mean", metavar="CONTEXT", help="Name of a cluster's context that looks like production.")
]


def up(
    replicas: Annotated[int | None, typer.Option(min=1, max=20, help="Serving replicas; a running system keeps its own.")] = None,
    synchronous: Annotated[
        Literal["strict", "on", "off"],
        typer.Option(
            help="A commit waits for a standby: always, while there is one, or never. `strict` stops writes without one."
        ),
    ] = "on",
    target_name: TargetName = "local",
    overlay: Annotated[str, typer.Option(help="Of k8s/overlays, for a cluster.")] = "dev",
    images: Annotated[
        Literal["build", "registry"],
        typer.Option(help="For a cluster: run SRE_IMAGE_BUILD where it is set, or take them as they are."),
    ] = "build",
    meant: Meant = None,
    as_json: AsJson = False,
) -> None:
    """Begin the system on this machine, or join the one that runs: nginx, API replicas, a PostgreSQL cluster, MLflow, Prometheus,
    Alertmanager. The first time it also trains a model. Ctrl-C ends what was begun. With --target kubernetes, apply an overlay to
    a cluster and wait until all of it runs; Ctrl-C only ends the waiting."""  # noqa: D205, D209 - one paragraph of help
    settings = Settings()
    if target_name == "kubernetes":
        if replicas is not None:
            raise UsageError("--replicas is for the local target; the overlay says how many replicas a cluster has")
        _up_cluster(settings, overlay, meant, build=images == "build", as_json=as_json)
        return
    from sre.targets.local import target

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


def _up_cluster(settings: Settings, overlay: str, meant: str | None, *, build: bool, as_json: bool) -> None:
    from sre.targets.kubernetes import deploy, edge, velero_install

    where, api = _cluster(settings, meant, overlay)
    with output.progress() as narrator:
        if build and settings.image_build:
            deploy.build(settings.image_build, narrator.change)
        store = velero_install.store_of(settings)
        if store is None and settings.off_site_bucket:
            raise UsageError("SRE_OFF_SITE_BUCKET is a bucket of the store that SRE_VELERO_URL names; set that too")
        if store is not None:
            # Before the overlay, which may hold objects of Velero's.
            velero_install.install(settings.tools, settings.kubeconfig, api, store, narrator.change)
        outside = replace(store, bucket=settings.off_site_bucket) if store and settings.off_site_bucket else None
        deploy.up(where, settings.tools, api, narrator.change, outside)
    addresses = {
        "context": where.context,
        "ingress": settings.ingress or edge.address(api),
        "ca_file": str(where.ca_file),
        "api_key_file": str(where.api_key_file),
    }
    if as_json:
        output.document("sre.up/1", {"begun": True, "home": str(settings.home), **addresses})
        return
    output.table(("what", "where"), [*addresses.items()])


def attach(
    overlay: Annotated[str, typer.Option(help="That was applied there; it goes into the evidence.")] = "unknown",
    as_json: AsJson = False,
) -> None:
    """Use a system that somebody else began on the cluster that SRE_KUBECONFIG names: its key and its certificate authority are
    read from there, and nothing is changed. Drills then run from here, also inside of that cluster."""  # noqa: D205, D209 - one paragraph of help
    from sre.targets.kubernetes import deploy
    from sre.targets.kubernetes.client import Api
    from sre.targets.kubernetes.place import Place

    settings = Settings()
    api = Api(settings.kubeconfig, settings.context)
    where = Place(settings.home, settings.kubeconfig, api.context, overlay)
    deploy.join(where, api)
    if as_json:
        output.document("sre.attach/1", {"context": where.context, "home": str(settings.home)})
        return
    output.narrate(f"{where.folder} is for the system of {where.context}")


def _cluster(settings: Settings, meant: str | None, overlay: str = "") -> tuple[Place, Api]:
    """The cluster to change. A context that looks like production wants its name typed."""
    from sre.targets.kubernetes import deploy
    from sre.targets.kubernetes.client import Api
    from sre.targets.kubernetes.place import Place

    api = Api(settings.kubeconfig, settings.context)
    deploy.check_context(api.context, meant)
    return Place(settings.home, settings.kubeconfig, api.context, overlay), api


def check_meant(settings: Settings, target_name: str, meant: str | None) -> None:
    """Before a running system is changed: a cluster's context that looks like production wants its name typed.

    Raises:
        UsageError: it was not.
    """
    if target_name == "kubernetes":
        from sre.targets.kubernetes import deploy
        from sre.targets.kubernetes.place import read

        found = read(settings.home)
        deploy.check_context("" if found is None else found.context, meant)


def down(
    purge: Annotated[bool, typer.Option(help="Also delete database, objects, metrics and secrets.")] = False,
    target_name: TargetName = "local",
    meant: Meant = None,
    as_json: AsJson = False,
) -> None:
    """End the system of this machine, also after its supervisor was killed. Data stay unless purged. With --target kubernetes,
    delete the system's namespaces, and with them its data."""  # noqa: D205, D209 - one paragraph of help
    settings = Settings()
    if target_name == "kubernetes":
        _down_cluster(settings, meant, purge=purge, as_json=as_json)
        return
    from sre.targets.local import target

    left = target.down(settings.home, purge=purge)
    if as_json:
        output.document("sre.down/1", {"home": str(settings.home), "purged": purge, "ended_by_force": left})
        return
    output.narrate(f"nothing of {settings.home} runs any more{'; its data are deleted' if purge else ''}")
    if left:
        output.narrate(f"ended by force: {', '.join(left)}")


def _down_cluster(settings: Settings, meant: str | None, *, purge: bool, as_json: bool) -> None:
    from sre.targets.kubernetes import deploy

    if not purge:
        raise UsageError("data on a cluster go with its namespaces; add --purge to delete both")
    where, api = _cluster(settings, meant)
    with output.progress() as narrator:
        deploy.down(where, settings.tools, api, narrator.change)
    if as_json:
        output.document("sre.down/1", {"home": str(settings.home), "purged": True, "ended_by_force": []})
        return
    output.narrate(f"nothing of the system is left on {where.context}")


def status(target_name: TargetName = "local", as_json: AsJson = False) -> None:
    """Show every service: state, process, restarts, and what its check last saw; and every member of the database cluster."""
    settings = Settings()
    if target_name == "kubernetes":
        _status_of_cluster(settings, as_json=as_json)
        return
    from sre.targets.local import processes, state
    from sre.targets.local.members import LocalDatabase

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


def _status_of_cluster(settings: Settings, *, as_json: bool) -> None:
    from sre.targets.kubernetes import namespaces, target

    system = target.attach(settings.home)
    services = {
        name: {"state": "waiting" if waits else "ready", "pid": "", "restarts": 0, "last": waits}
        for name, waits in namespaces.workloads(system.api).items()
    }
    for replica in system.replicas():
        container, _, pod = replica.identity.partition("@")
        state = "ready" if replica.ready else "not ready"
        services[replica.name] = {"state": state, "pid": container, "restarts": replica.restarts, "last": pod}
    whole = all(row["state"] == "ready" for row in services.values())
    if as_json:
        state = "ready" if whole else "not ready"
        output.document("sre.status/1", {"state": state, "why": "", "services": services, "members": []})
    else:
        rows = [(name, *(str(value)[:60] for value in item.values())) for name, item in services.items()]
        output.table(("workload", "state", "container", "restarts", "last seen"), rows, right=frozenset({"restarts"}))
        output.narrate(f"{system.place.context}: {'ready' if whole else 'not ready'}")
    if not whole:
        raise typer.Exit(ExitCode.CANNOT_RUN)
