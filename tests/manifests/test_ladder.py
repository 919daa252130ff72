from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from sre.judges.manifests import difference, flows, ladder, rights, targets, ways
from sre.judges.manifests.objects import parsed
from sre.targets.kubernetes import off_site, secrets
from system import render
from tests.manifests import generated, overlays
from tests.manifests.generated import K8S, OVERLAYS

# The only places where staging and prod may differ.
ALLOWED_DIFFERENCES = (
    "Certificate ml-system/ml-api-edge: spec.dnsNames[0]",
    "Certificate ml-system/ml-api-edge: spec.issuerRef.name",
    "ConfigMap ml-system/ml-settings: data.ML_LOG_LEVEL",
)
# What staging alone has: drills that hurt something, and the account that may do so.
STAGING_ONLY = (
    *(f"{kind}: only in one" for kind in (
        "ClusterRole ml-drills", "ClusterRoleBinding ml-drills", "ConfigMap monitoring/drills-access",
        "ConfigMap monitoring/drills-settings", "CronJob monitoring/drill-pod-recovery",
        "NetworkPolicy monitoring/drill-pod-recovery", "PersistentVolumeClaim monitoring/drills",
        "Role data/drills", "Role ml-system/drills", "Role monitoring/drills", "RoleBinding data/drills",
        "RoleBinding ml-system/drills", "RoleBinding monitoring/drills", "ServiceAccount monitoring/drills",
    )), "ConfigMap monitoring/prometheus-rules: data.fault-drills.yml",
)  # fmt: skip
# Components that no overlay chooses; each must still fit onto one.
OPTIONAL = {"autoscale-requests": "staging", "ingress-nginx": "staging", "prometheus-operator": "staging"}
COMPONENTS = sorted(path.parent.name for path in K8S.glob("components/*/kustomization.yaml"))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_renders_to_what_is_committed(kubectl: Path, overlay: str) -> None:
    made = generated.kustomize(kubectl, K8S / "overlays" / overlay)
    assert overlays.text(overlay) == made, "run `python -m tests.manifests`"


@pytest.mark.parametrize(
    ("path", "text"), list(generated.sources()), ids=lambda value: value.name if isinstance(value, Path) else ""
)
def test_generated_files_are_what_their_sources_say(path: Path, text: str) -> None:
    assert path.read_text(encoding="utf-8") == text, "run `python -m tests.manifests`"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_policies_flows_and_arithmetic(overlay: str) -> None:
    made = overlays.manifests(overlay)
    assert ladder.climb(made, ways.between([one.path for one in made.workloads])) == ()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_who_comes_from_outside(overlay: str) -> None:
    assert flows.from_outside(overlays.manifests(overlay)) == ways.OUTSIDE


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_patch_and_image_found_what_it_names(kubectl: Path, overlay: str) -> None:
    bases = parsed(yaml.load_all(generated.kustomize(kubectl, K8S / "base"), Loader=yaml.CSafeLoader))
    used = overlays.kustomizations(K8S / "overlays" / overlay)
    assert list(targets.unmatched(used, overlays.manifests(overlay), bases)) == []


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_only_chooses(overlay: str) -> None:
    folder = K8S / "overlays" / overlay
    assert [path.name for path in folder.iterdir()] == ["kustomization.yaml"]
    assert len((folder / "kustomization.yaml").read_text(encoding="utf-8").splitlines()) <= 35


def test_staging_and_prod_differ_where_they_should() -> None:
    assert difference.paths(overlays.manifests("staging"), overlays.manifests("prod")) == tuple(
        sorted((*ALLOWED_DIFFERENCES, *STAGING_ONLY))
    )


@pytest.mark.parametrize("component", OPTIONAL)
def test_an_optional_component_fits(kubectl: Path, tmp_path: Path, component: str) -> None:
    # Kustomize wants relative paths, and none through a link.
    here = Path(*[".."] * len(tmp_path.resolve().parts[1:]), *K8S.parts[1:])
    (tmp_path / "kustomization.yaml").write_text(
        f"resources: [{here}/overlays/{OPTIONAL[component]}]\ncomponents: [{here}/components/{component}]\n", encoding="utf-8"
    )
    made = parsed(yaml.load_all(generated.kustomize(kubectl, tmp_path), Loader=yaml.CSafeLoader))
    before = overlays.manifests(OPTIONAL[component])
    assert made.objects != before.objects
    assert ladder.climb(made, ways.between([one.path for one in made.workloads])) == ()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_roles_name_secrets_that_are_made(overlay: str) -> None:
    made = {(one["metadata"]["namespace"], one["metadata"]["name"]) for one in secrets.render()}
    named = {
        (role["metadata"]["namespace"], name)
        for role in overlays.manifests(overlay).of("Role")
        for rule in role["rules"]
        if "secrets" in rule["resources"]
        for name in rule["resourceNames"]
    }
    assert named <= made
    assert bool(named) == (overlay == "staging")


def test_workloads_take_secrets_that_are_made() -> None:
    made = {(one["metadata"]["namespace"], one["metadata"]["name"]) for one in secrets.render()}
    # Optional: made where there is a store outside the cluster.
    made |= {(off_site.NAMESPACE, off_site.NAME)}
    for overlay in OVERLAYS:
        for workload in overlays.manifests(overlay).workloads:
            assert {(workload.namespace, name) for name, _ in rights.taken(workload)} <= made, workload.subject


def test_every_component_is_chosen_or_optional() -> None:
    chosen = {Path(name).parent.name for overlay in OVERLAYS for name in overlays.kustomizations(K8S / "overlays" / overlay)}
    assert sorted({*chosen, *OPTIONAL} & set(COMPONENTS)) == COMPONENTS


def test_the_database_cluster_is_tuned_as_the_local_one() -> None:
    member = dict.fromkeys(("name", "folder", "data", "postgres", "postgres_inside", "rest", "rest_inside"), "any")
    values = {"member": member, "authority": "any", "programs": "any", "pgbackrest": "any", "etcd": [], "authentication": {}}
    local = yaml.safe_load(render.render("patroni.yml", values | {"synchronous": "on"}))
    here = yaml.safe_load((K8S / "base/database/patroni.yml").read_text(encoding="utf-8"))
    # Here a backup is looked for first, and the same options are for where there is none; see test_bootstrap.py.
    assert here["bootstrap"].pop("method") in here["bootstrap"]
    assert here["bootstrap"].pop("backup")["command"].endswith("/bootstrap.py")
    assert here["bootstrap"] == local["bootstrap"]


def test_rules_name_jobs_that_are_scraped() -> None:
    config = yaml.safe_load((K8S / "base/monitoring/prometheus.yml").read_text(encoding="utf-8"))
    scraped = {job["job_name"] for job in config["scrape_configs"]}
    rules = "".join(path.read_text(encoding="utf-8") for path in (K8S / "base/monitoring/rules").glob("*.yml"))
    assert set(re.findall(r'job="([^"]+)"', rules)) <= scraped


def test_the_plain_scrape_configuration_and_the_operators_name_the_same_jobs() -> None:
    monitors = yaml.safe_load_all((K8S / "components/prometheus-operator/monitors.yaml").read_text(encoding="utf-8"))
    names = {
        relabeling["replacement"]
        for monitor in monitors
        for endpoint in monitor["spec"].get("endpoints", monitor["spec"].get("podMetricsEndpoints"))
        for relabeling in endpoint["relabelings"]
        if relabeling.get("targetLabel") == "job"
    }
    assert names == {"serving", "database", "postgres-exporter", "backups"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_edge_asks_another_replica(overlay: str) -> None:
    (route,) = (one for one in overlays.fresh(overlay) if (one["kind"], one["metadata"]["name"]) == ("HTTPRoute", "ml-api"))
    predictions, health = route["spec"]["rules"]
    (headers,) = (one["requestHeaderModifier"]["set"] for one in predictions["filters"])
    assert {one["name"] for one in headers} == {"x-envoy-retry-on", "x-envoy-retriable-status-codes", "x-envoy-max-retries"}
    assert "filters" not in health


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_an_arm_does_not_answer_goes_to_production_while_the_edge_still_waits(overlay: str) -> None:
    found = {(one["kind"], one["metadata"]["name"]): one for one in overlays.fresh(overlay)}
    (config,) = (one for (kind, name), one in found.items() if kind == "ConfigMap" and name.startswith("ml-api-arms-"))
    text = config["data"]["nginx.conf"]
    servers = re.findall(r"server ([a-z-]+)\.ml-system\.svc\.cluster\.local\.:(\d+)( backup)? max_fails=0;", text)
    assert servers == [
        ("ml-api-canary", "80", ""), ("ml-api", "80", " backup"), ("ml-api-control", "80", ""), ("ml-api", "80", " backup"),
    ]  # fmt: skip
    for name, port, _ in servers:
        assert [one["port"] for one in found["Service", name]["spec"]["ports"]] == [int(port)]
    predictions, _ = found["HTTPRoute", "ml-api"]["spec"]["rules"]
    (patience,) = re.findall(r"proxy_read_timeout (\d+)s;", text)
    assert int(patience) < int(predictions["timeouts"]["backendRequest"].removesuffix("s"))
