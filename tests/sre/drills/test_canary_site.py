from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sre.drills.base import Context
from sre.drills.canary_site import ClusterSite, LocalSite, site_of
from sre.drills.world import World
from sre.errors import CannotRun
from sre.faults.model import Place
from sre.targets.kubernetes.client import Api
from sre.targets.kubernetes.place import Place as Where
from sre.targets.kubernetes.target import KubernetesTarget
from sre.targets.objects import Folder
from sre.targets.registry import Registry
from tests.sre.targets.kubernetes.conftest import api, kubeconfig, served

from .silent import silent

__all__ = ["api", "kubeconfig", "served"]

MakeContext = Callable[..., Context]


def test_a_local_system_keeps_its_models_where_its_objects_are(make_context: MakeContext, tmp_path: Path) -> None:
    target = silent(tmp_path)
    context = make_context("canary-good")
    context.target = target
    site = site_of(context)
    assert isinstance(site, LocalSite)
    with site.models() as models:
        assert models == Place(Folder(target.layout.objects), Registry(target.endpoints.mlflow))
    assert site.arguments == ()
    assert site.environment == {"SRE_HOME": str(tmp_path), "SRE_TOOLS": str(tmp_path)}
    assert set(site.versions()) == {"serving-1"}


def test_a_cluster_is_named_to_the_rollout_as_it_was_to_the_drill(
    make_context: MakeContext, tmp_path: Path, kubeconfig: str, api: Api
) -> None:
    context = make_context("canary-good")
    context.target = KubernetesTarget(Where(tmp_path, kubeconfig, "testbed", "dev"), api)
    context.observers = World(silent(tmp_path).endpoints, 2.0, 5.0)
    site = site_of(context)
    assert isinstance(site, ClusterSite)
    assert site.arguments == ("--target", "kubernetes", "--yes-i-mean", "testbed")
    assert site.environment == {"SRE_HOME": str(tmp_path)}
    assert site.endpoints == context.observers.endpoints


def test_another_target_keeps_its_models_nobody_knows_where(make_context: MakeContext) -> None:
    with pytest.raises(CannotRun, match=r"target memory keeps its models elsewhere; .* need target local or kubernetes"):
        site_of(make_context("canary-good"))
