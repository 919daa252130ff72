"""Rules for who may do what: nobody may do more than is needed, and nobody has another's keys."""

from __future__ import annotations

from collections.abc import Iterator

from sre.judges.manifests.objects import Manifests, Object, Workload, namespace, subject
from sre.judges.manifests.pods import Rule, Told

# Who may hold which Secret, by the label `app.kubernetes.io/name`: each has keys of one account, and so of its buckets, tables or
# ways. `velero-objects` is for whoever installs Velero, `drills` is asked of the API server.
_HOLDERS: dict[tuple[str, str], frozenset[str]] = {
    ("data", "minio"): frozenset({"minio", "buckets"}),
    ("data", "object-accounts"): frozenset({"buckets"}),
    ("data", "pgbackrest"): frozenset({"postgres"}),
    ("data", "restore"): frozenset({"drill-database-restore"}),
    ("data", "mlflow-objects"): frozenset({"mlflow"}),
    ("data", "velero-objects"): frozenset(),
    ("ml-system", "ml-objects"): frozenset({"ml-api"}),
    ("ml-system", "ml-training-objects"): frozenset({"ml-training"}),
    ("ml-system", "ml-api-keys"): frozenset({"ml-api"}),
    ("ml-system", "ml-database"): frozenset({"ml-api", "migrate"}),
    ("monitoring", "drills"): frozenset(),
}
# One with all passwords: each workload takes its own by key.
_PASSWORDS = ("data", "postgres-passwords")
_ALL_PASSWORDS = frozenset({"postgres-roles"})
_OWN_PASSWORDS = {"postgres": {"postgres", "replicator", "rewind", "backup", "monitor"}, "mlflow": {"mlflow"}}
# Ways into a pod that runs.
_INSIDE = {"pods/exec", "pods/attach", "pods/ephemeralcontainers"}
# By which an account gets rights that it was not given.
_RAISING = {"escalate", "bind", "impersonate"}


def _roles(manifests: Manifests) -> Told:
    for role in manifests.of("Role", "ClusterRole"):
        for rule in role.get("rules", ()):
            for what in _too_much(manifests, role, rule):
                yield subject(role), what


def _too_much(manifests: Manifests, role: Object, rule: Object) -> Iterator[str]:
    resources, verbs = set(rule.get("resources", ())), set(rule.get("verbs", ()))
    if "*" in (*rule.get("apiGroups", ()), *resources, *verbs):
        yield f"allows everything of something: {dict(rule)}"
    if "secrets" in resources and (verbs != {"get"} or not rule.get("resourceNames")):
        yield "may do more with Secrets than get those that it names"
    if "pods" in resources and "create" in verbs:
        yield "may start pods, and so become any account of the namespace"
    if _INSIDE & resources and (carrying := _carrying(manifests, namespace(role))):
        yield f"may enter pods that carry a token ({', '.join(carrying)}), and so become their accounts"
    if raising := sorted(_RAISING & verbs) or sorted({"serviceaccounts/token"} & resources):
        yield f"may {raising[0]}, and so get rights that it was not given"


def _carrying(manifests: Manifests, place: str) -> list[str]:
    """Workloads of a namespace, of all where it is empty, whose pods carry a token."""
    return sorted(
        one.name
        for one in manifests.workloads
        if place in ("", one.namespace) and one.pod.get("automountServiceAccountToken", True)
    )


def _admins(manifests: Manifests) -> Told:
    for binding in manifests.of("RoleBinding", "ClusterRoleBinding"):
        if binding["roleRef"]["name"] in ("cluster-admin", "admin", "edit"):
            yield subject(binding), f"gives {binding['roleRef']['name']}; write a role with what is needed"


def _foreign_secrets(manifests: Manifests) -> Told:
    for workload in manifests.workloads:
        label = workload.labels.get("app.kubernetes.io/name", "")
        for secret, key in taken(workload):
            place = (workload.namespace, secret)
            if place in _HOLDERS and label not in _HOLDERS[place]:
                yield (
                    workload.subject,
                    f"takes Secret {secret}, which is for {', '.join(sorted(_HOLDERS[place])) or 'no workload'}",
                )
            if place == _PASSWORDS and label not in _ALL_PASSWORDS and key not in _OWN_PASSWORDS.get(label, ()):
                yield workload.subject, f"takes {key or 'every key'} of Secret {secret}, which is another role's"


def taken(workload: Workload) -> Iterator[tuple[str, str]]:
    """Each Secret that a workload takes, and of it the key; an empty one where it takes all."""
    for volume in workload.pod.get("volumes", ()):
        for source in (volume, *volume.get("projected", {}).get("sources", ())):
            if found := source.get("secret"):
                yield found.get("secretName") or found["name"], ""
    for container in workload.all_containers:
        for source in container.get("envFrom", ()):
            if "secretRef" in source:
                yield source["secretRef"]["name"], ""
        for variable in container.get("env", ()):
            if found := variable.get("valueFrom", {}).get("secretKeyRef"):
                yield found["name"], found["key"]


RULES: dict[str, Rule] = {
    "wildcard-in-rules": _roles,
    "cluster-admin-role-binding": _admins,
    "secret-of-another-role": _foreign_secrets,
}
