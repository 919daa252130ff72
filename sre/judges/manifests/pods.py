"""Rules for what runs in a pod. Each carries the name that kube-linter gives it, where that has one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sre.judges.manifests.objects import Manifests, Object, Workload

Told = Iterator[tuple[str, str]]
Rule = Callable[[Manifests], Told]
_Trouble = Callable[[Object], str]

UNREACHABLE = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_SECRET_WORDS = ("PASSWORD", "SECRET", "TOKEN", "API_KEY", "PRIVATE_KEY")


def _each(manifests: Manifests) -> Iterator[tuple[str, Workload, Object]]:
    for workload in manifests.workloads:
        for container in workload.all_containers:
            yield f"{workload.subject}, container {container['name']}", workload, container


def _containers(trouble: _Trouble) -> Rule:
    """A rule that asks every container by itself; an empty answer is none."""

    def rule(manifests: Manifests) -> Told:
        return ((subject, what) for subject, _, container in _each(manifests) if (what := trouble(container)))

    return rule


def _pods(trouble: Callable[[Workload], str]) -> Rule:
    """A rule that asks every workload by itself."""

    def rule(manifests: Manifests) -> Told:
        return ((one.subject, what) for one in manifests.workloads if (what := trouble(one)))

    return rule


def _context(container: Object) -> Object:
    found: Object = container.get("securityContext", {})
    return found


def _latest_tag(container: Object) -> str:
    image = str(container["image"])
    tag = image.rsplit("/", 1)[-1].partition(":")[2]
    return (
        "" if "@sha256:" in image or tag not in ("", "latest") else f"image {image} names no version; give it a tag or a digest"
    )


def _pull(container: Object) -> str:
    policy = container.get("imagePullPolicy")
    return "" if policy == "IfNotPresent" else f"imagePullPolicy is {policy}; IfNotPresent also takes what a node was given"


def _privileged(container: Object) -> str:
    return "is privileged; it needs nothing of the node" if _context(container).get("privileged") else ""


def _escalation(container: Object) -> str:
    return "" if _context(container).get("allowPrivilegeEscalation") is False else "may gain privileges; forbid it"


def _writable_root(container: Object) -> str:
    return "" if _context(container).get("readOnlyRootFilesystem") else "may write to its image's files; mount what it writes to"


def _capabilities(container: Object) -> str:
    dropped = _context(container).get("capabilities", {})
    return "" if "ALL" in dropped.get("drop", ()) and not dropped.get("add") else f"keeps capabilities ({dropped}); drop ALL"


def _resource(which: str) -> _Trouble:
    def trouble(container: Object) -> str:
        resources = container.get("resources", {})
        missing = [part for part in ("requests", "limits") if which not in resources.get(part, {})]
        return f"has no {which} in its {' and '.join(missing)}; the scheduler and the kernel need both" if missing else ""

    return trouble


def _plain_secret(container: Object) -> str:
    for variable in container.get("env", ()):
        name = variable["name"].upper()
        if "value" in variable and not name.endswith("_FILE") and any(word in name for word in _SECRET_WORDS):
            return f"variable {variable['name']} holds a secret in plain text; take it from a Secret"
    return ""


def _duplicate_variable(container: Object) -> str:
    names = [variable["name"] for variable in container.get("env", ())]
    twice = sorted({one for one in names if names.count(one) > 1})
    return f"sets {', '.join(twice)} twice; the last one wins unseen" if twice else ""


def _probe(which: str) -> Rule:
    def rule(manifests: Manifests) -> Told:
        for subject, workload, container in _each(manifests):
            if workload.serves and container.get("ports") and f"{which}Probe" not in container:
                yield subject, f"has no {which} probe"

    return rule


def _probe_ports(manifests: Manifests) -> Told:
    for subject, workload, container in _each(manifests):
        for which in ("startup", "readiness", "liveness"):
            port = container.get(f"{which}Probe", {}).get("httpGet", {}).get("port")
            if port is not None and port not in workload.ports:
                yield subject, f"its {which} probe asks port {port}, which is none of {sorted(map(str, workload.ports))}"


def _non_root(workload: Workload) -> str:
    context = workload.pod.get("securityContext", {})
    own = [_context(one)["runAsUser"] for one in workload.all_containers if "runAsUser" in _context(one)]
    users = [context.get("runAsUser"), *own]
    enforced = context.get("runAsNonRoot")
    return "" if enforced and all(users) else f"may run as root (runAsNonRoot {enforced}, users {users})"


def _seccomp(workload: Workload) -> str:
    profile = workload.pod.get("securityContext", {}).get("seccompProfile", {}).get("type")
    return "" if profile == "RuntimeDefault" else f"its seccomp profile is {profile}; take RuntimeDefault"


def _host(which: str) -> Callable[[Workload], str]:
    def trouble(workload: Workload) -> str:
        return f"shares the node's {which.removeprefix('host')}" if workload.pod.get(which) else ""

    return trouble


def _host_path(workload: Workload) -> str:
    found = [volume["name"] for volume in workload.pod.get("volumes", ()) if "hostPath" in volume]
    return f"volume {found[0]} is a folder of the node, which no backup takes and no other node has" if found else ""


def _default_account(workload: Workload) -> str:
    account = workload.pod.get("serviceAccountName", "default")
    return "uses the account `default`; give it one of its own" if account == "default" else ""


def _tolerations(workload: Workload) -> str:
    if not workload.serves:
        return ""
    tolerated = {one.get("key") for one in workload.pod.get("tolerations", ()) if one.get("tolerationSeconds") is not None}
    missing = [key for key in UNREACHABLE if key not in tolerated]
    return f"says nothing of {' and '.join(missing)}, so it stays on a lost node for 300 s" if missing else ""


def _unneeded_token(manifests: Manifests) -> Told:
    bound = {
        (one.get("namespace"), one["name"]) for binding in manifests.of("RoleBinding", "ClusterRoleBinding")
        for one in binding.get("subjects", ()) if one["kind"] == "ServiceAccount"
    }  # fmt: skip
    for workload in manifests.workloads:
        account = (workload.namespace, workload.pod.get("serviceAccountName"))
        if account not in bound and workload.pod.get("automountServiceAccountToken", True):
            yield workload.subject, f"carries a token of account {account[1]}, which may do nothing; leave it out"


def _job_stays(manifests: Manifests) -> Told:
    for workload in manifests.workloads:
        if workload.kind == "Job" and "ttlSecondsAfterFinished" not in workload.object["spec"]:
            yield workload.subject, "stays when it has ended, and a job cannot be applied again with a change; give it a ttl"
        if workload.kind in ("Job", "CronJob"):
            spec = workload.object["spec"]
            if "activeDeadlineSeconds" not in spec.get("jobTemplate", {"spec": spec})["spec"]:
                yield workload.subject, "has no deadline"


RULES: dict[str, Rule] = {
    "latest-tag": _containers(_latest_tag),
    "image-pull-policy": _containers(_pull),
    "privileged-container": _containers(_privileged),
    "privilege-escalation-container": _containers(_escalation),
    "no-read-only-root-fs": _containers(_writable_root),
    "drop-all-capabilities": _containers(_capabilities),
    "unset-cpu-requirements": _containers(_resource("cpu")),
    "unset-memory-requirements": _containers(_resource("memory")),
    "env-var-secret": _containers(_plain_secret),
    "duplicate-env-var": _containers(_duplicate_variable),
    "no-readiness-probe": _probe("readiness"),
    "no-liveness-probe": _probe("liveness"),
    "no-startup-probe": _probe("startup"),
    "probe-port": _probe_ports,
    "run-as-non-root": _pods(_non_root),
    "no-seccomp-profile": _pods(_seccomp),
    "host-network": _pods(_host("hostNetwork")),
    "host-pid": _pods(_host("hostPID")),
    "host-ipc": _pods(_host("hostIPC")),
    "sensitive-host-mounts": _pods(_host_path),
    "default-service-account": _pods(_default_account),
    "no-node-loss-toleration": _pods(_tolerations),
    "unneeded-token": _unneeded_token,
    "job-ttl-seconds-after-finished": _job_stays,
}
