"""`sre rebuild`: a lost cluster is made again from the store outside of it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sre.cli import output
from sre.cli.output import AsJson
from sre.cli.system import Meant
from sre.config import Settings
from sre.errors import UsageError


def rebuild(
    backup: Annotated[str | None, typer.Argument(help="Of Velero; the newest complete one when left out.")] = None,
    meant: Meant = None,
    as_json: AsJson = False,
) -> None:
    """Make a lost cluster again: run SRE_CLUSTER_CREATE where none answers, install Velero with the store that SRE_VELERO_URL
    names, bring back objects, volumes and database, and wait until all of it runs. A cluster that holds a system is left as it
    is."""  # noqa: D205, D209 - one paragraph of help
    from sre.dr.rebuild import rebuild as make_again
    from sre.targets.kubernetes import deploy, target
    from sre.targets.kubernetes.client import Api
    from sre.targets.kubernetes.place import Place, read

    settings = Settings()
    where = read(settings.home)
    if where is None:
        if not settings.context:
            raise UsageError(f"{settings.home} knows no cluster; set SRE_CONTEXT to the context that SRE_CLUSTER_CREATE makes")
        where = Place(settings.home, settings.kubeconfig, settings.context, "")
    deploy.check_context(where.context, meant)
    where.write()
    facts: dict[str, Any] = {}
    with output.progress() as narrator:
        system = target.of(where, Api(where.kubeconfig, where.context, lost=True), settings.tools)
        make_again(system, backup or "", narrator.change, facts.update)
    ingress = system.ingress()
    if as_json:
        found = {"backup": facts["backup"], "phases": facts["phases"], "ingress": ingress}
        output.document("sre.rebuilt/1", {"context": where.context, **found})
        return
    rows = [(phase, f"{seconds:,.0f} s") for phase, seconds in facts["phases"].items()]
    output.table(("phase", "took"), rows, right=frozenset({"took"}))
    output.narrate(f"{where.context} runs again from backup {facts['backup']}; users reach it at {ingress}")
