"""The images: rules that every Dockerfile keeps, locks that agree, and what the built ones do in a restricted pod."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from sre.config import PROJECT
from tests.cluster import Cluster

IMAGES = PROJECT / "k8s" / "images"
REQUIREMENTS = PROJECT / "requirements"
NAMES = ("alertmanager", "api", "arms", "mlflow", "postgres", "prometheus", "training")
DOCKERFILES = {name: IMAGES / name / "Dockerfile" for name in NAMES}
# The lock of an image, and where it is other than its name says.
LOCKS = {"api": "serving", "mlflow": "mlflow", "postgres": "postgres", "training": "training"}
COMPILERS = re.compile(r"\b(gcc|g\+\+|clang|make|cmake|build-essential|cargo|rustc|golang|git|curl|wget|[a-z0-9.-]+-dev)\b")
# What a role runs: every module of ours that can be reached from here is in the image for it.
ENTRIES = {
    "serving": ("system.__main__", "system.serving.workers", "system.storage.engine", "system.storage.s3"),
    "training": ("system.__main__", "system.training.steps", "system.storage.s3"),
}
# Roles that the module reaches and the image has not.
OTHER_ROLES = {
    "serving": ("system.training", "system.render"),
    "training": ("system.serving", "system.render", "system.storage.engine"),
}


def instructions(path: Path) -> list[tuple[str, str]]:
    """Keyword and rest of every instruction, continued lines joined, comments left out."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [
        (word.upper(), " ".join(rest.split())) for line in joined.splitlines() if line for word, _, rest in [line.partition(" ")]
    ]


def said(path: Path, word: str) -> list[str]:
    return [rest for keyword, rest in instructions(path) if keyword == word]


def pins(name: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Version and hashes of every package of a lock, by name and marker; the marker says for which Python it is."""
    text = (REQUIREMENTS / f"{name}.lock").read_text(encoding="utf-8").replace("\\\n", " ")
    found = {}
    for line in text.splitlines():
        if line and not line.lstrip().startswith("#"):
            stated, *hashes = line.split(" --hash=")
            requirement = Requirement(stated.strip())
            key = f"{requirement.name.lower()} {requirement.marker or ''}".strip()
            found[key] = (str(requirement.specifier), frozenset(item.strip() for item in hashes))
    return found


def names(lock: str) -> set[str]:
    return {key.split()[0] for key in pins(lock)}


def listed(name: str) -> set[str]:
    lines = (REQUIREMENTS / f"{name}.in").read_text(encoding="utf-8").splitlines()
    return {Requirement(line.partition("#")[0]).name.lower() for line in lines if line.partition("#")[0].strip()}


@pytest.fixture(params=NAMES)
def dockerfile(request: pytest.FixtureRequest) -> Path:
    return DOCKERFILES[request.param]


def test_there_is_a_dockerfile_for_every_image_and_nothing_else() -> None:
    assert sorted(
        path.relative_to(IMAGES).as_posix() for path in IMAGES.rglob("*") if path.is_file() and path.parent.name != "wheels"
    ) == [f"{name}/Dockerfile" for name in NAMES]


def test_the_user_is_a_number_and_not_root(dockerfile: Path) -> None:
    assert said(dockerfile, "USER") == ["10001:10001"]
    after = [word for word, _ in instructions(dockerfile)]
    assert "RUN" not in after[after.index("USER") :]


def test_bases_are_named_in_full_and_never_latest(dockerfile: Path) -> None:
    stages: set[str] = set()
    for line in said(dockerfile, "FROM"):
        image, _, stage = line.partition(" AS ")
        assert image in stages or re.fullmatch(r"docker\.io/library/[a-z]+:(?!latest)[a-z0-9.-]+", image)
        stages.add(stage)


def test_nothing_that_compiles_or_fetches_is_installed(dockerfile: Path) -> None:
    for line in said(dockerfile, "RUN"):
        for command in line.split(" && "):
            if "apt-get install" in command:
                assert "--no-install-recommends" in command
                assert not COMPILERS.search(command.partition("--no-install-recommends")[2]), command
            assert not re.match(r"(curl|wget|git)\b", command)
    assert not said(dockerfile, "ADD")


def test_no_cache_of_a_package_manager_stays(dockerfile: Path) -> None:
    for line in said(dockerfile, "RUN"):
        if "apt-get" in line:
            assert "rm -rf /var/lib/apt/lists/* /var/cache/apt/*" in line
        for command in line.split(" && "):
            if re.search(r"\bpip\b.* install\b", command):
                assert {"--no-cache-dir", "--require-hashes", "--no-deps", "--no-compile"} <= set(command.split()), command


def test_what_is_copied_exists_and_reaches_the_build(dockerfile: Path) -> None:
    let_in = [line[1:] for line in (PROJECT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line.startswith("!")]
    for line in said(dockerfile, "COPY"):
        if line.startswith("--from="):
            continue
        for source in line.split()[:-1]:
            assert (PROJECT / source).exists(), source
            assert any(Path(source).match(pattern) or source.startswith(f"{pattern}/") for pattern in let_in), source


def test_the_context_holds_what_is_named_and_nothing_else() -> None:
    rules = [line for line in (PROJECT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    assert rules[0] == "*"
    assert [rule for rule in rules if rule.startswith("!")] == ["!requirements/*.lock", "!system", "!k8s/images/training/wheels"]


@pytest.mark.parametrize("image", LOCKS)
def test_an_image_installs_its_own_lock(image: str) -> None:
    locks = {Path(part).stem for line in said(DOCKERFILES[image], "RUN") for part in line.split() if part.endswith(".lock")}
    assert locks == {LOCKS[image]} | ({"torch"} if image == "training" else set())


@pytest.mark.parametrize("lock", LOCKS.values())
def test_locks_agree_with_the_main_one(lock: str) -> None:
    main = pins("main")
    for name, (version, hashes) in pins(lock).items():
        assert hashes, name
        # A lock of fewer packages may need a package under more conditions; it is the same file all the same.
        same = [pin for key, pin in main.items() if key.split()[0] == name.split()[0] and pin[0] == version]
        assert same, f"{name}{version} is not what main.lock has"
        assert hashes in [pin[1] for pin in same], f"{name}{version} has other hashes than in main.lock"


@pytest.mark.parametrize("lock", LOCKS.values())
def test_a_lock_has_what_its_list_names(lock: str) -> None:
    assert listed(lock) <= names(lock)
    assert listed(lock) <= names("main")


def test_torch_is_the_one_that_tests_train_with() -> None:
    (pinned,) = pins("torch")
    version, hashes = pins("torch")[pinned]
    assert f'"{pinned}{version}"' in (PROJECT / "noxfile.py").read_text(encoding="utf-8")
    assert len(hashes) == 1


def test_what_serves_carries_neither_torch_nor_mlflow() -> None:
    assert not {"torch", "mlflow", "mlflow-skinny", "scikit-learn", "onnx", "pandas", "jinja2", "boto3"} & names("serving")
    assert not {"mlflow", "fastapi-cli", "pyarrow", "pandas"} & names("training")


def source(module: str) -> Path | None:
    """The file of a module of ours; None for any other name."""
    base = PROJECT.joinpath(*module.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.exists()), None)


@cache
def imports(module: str) -> frozenset[str]:
    """Everything that a module of ours imports, at once or later."""
    path = source(module)
    assert path is not None, module
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(item.name for item in node.names)
        elif isinstance(node, ast.ImportFrom):
            within = {f"{node.module}.{item.name}" for item in node.names}
            found.update({name for name in within if source(name)} or {str(node.module)})
    return frozenset(found)


def reached(lock: str) -> Iterator[str]:
    """Top-level names of what the role's modules import from elsewhere."""
    open_, seen = list(ENTRIES[lock]), set(ENTRIES[lock])
    while open_:
        for name in imports(open_.pop()) - seen:
            seen.add(name)
            if name.startswith(OTHER_ROLES[lock]):
                continue
            if name.startswith("system."):
                open_.append(name)
            else:
                yield name.partition(".")[0]


@pytest.mark.parametrize("lock", ENTRIES)
def test_a_list_names_all_that_the_role_imports(lock: str) -> None:
    providers = metadata.packages_distributions()
    needed = {name: {canonicalize_name(item) for item in providers[name]} for name in set(reached(lock)) if name in providers}
    missing = {name: sorted(needed[name]) for name in needed if not needed[name] & (names(lock) | {"torch"})}
    assert not missing
    assert len(needed) > 10


# What proves of each image that it is whole, in a pod that may do nothing: the last line is the account's number.
NO_TORCH = "import importlib.util as i; assert not [n for n in ('torch', 'mlflow', 'sklearn') if i.find_spec(n)]"
TRAINS = "import torch, onnx, mlflow, system.training.steps, system.storage.s3"
CHECKS = {
    "alertmanager": "prometheus-alertmanager --version && amtool --version",
    "api": f'python -c "{NO_TORCH}; import system.serving.launcher, system.storage.s3" && python -m system validate serve',
    "arms": "nginx -v",
    "mlflow": "mlflow server --help && python -c 'import boto3, psycopg'",
    "postgres": "patroni --version && postgres --version && psql --version && pgbackrest version",
    "prometheus": "prometheus --version && promtool --version",
    "training": f'python -c "{TRAINS}" && python -m system validate train',
}
SETTINGS = {
    "ML_OBJECTS_URL": "s3+https://minio.data.svc:9000",
    "ML_MLFLOW_URL": "http://mlflow.data.svc:5000",
    "ML_DATABASE_URL": "postgresql://serving@postgres.data.svc/ml",
    "ML_API_KEYS_FILE": "/keys.json",
    "ML_CACHE_DIR": "/cache",
}
BUILT_WITHIN_S, ENDED_WITHIN_S = 1500, 120


def restricted(name: str, tag: str, script: str) -> dict[str, object]:
    """A pod that Pod Security's strictest level takes."""
    container = {
        "name": "check",
        "image": tag,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", f"{script} && id -u"],
        "env": [{"name": key, "value": value} for key, value in SETTINGS.items()],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - of the pod
    }
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> Iterator[str]:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    name = "images-test"
    made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    cluster.run("apply", "-f", "-", text=json.dumps(made))
    yield name
    cluster.run("delete", "namespace", name, "--wait=false")


@pytest.mark.skipif("SRE_BUILD_IMAGES" not in os.environ, reason="takes minutes for each image; see `nox -s images`")
@pytest.mark.timeout(BUILT_WITHIN_S + ENDED_WITHIN_S)
@pytest.mark.parametrize("image", NAMES)
def test_an_image_builds_and_runs_where_nothing_is_allowed(cluster: Cluster, namespace: str, image: str) -> None:
    if not cluster.command:
        pytest.skip("the cluster that KUBECONFIG names builds no images")
    tag = f"localhost/ml-sre/{image}:test"
    build = [*cluster.command, "build", "-t", tag, "-f", str(DOCKERFILES[image]), str(PROJECT)]
    done = subprocess.run(build, capture_output=True, text=True, timeout=BUILT_WITHIN_S, check=False)
    assert not done.returncode, done.stderr[-3000:]
    cluster.run("delete", "pod", image, "-n", namespace, "--ignore-not-found")
    cluster.run("apply", "-n", namespace, "-f", "-", text=json.dumps(restricted(image, tag, CHECKS[image])))
    deadline, phase = time.monotonic() + ENDED_WITHIN_S, "unknown"
    while phase not in {"Succeeded", "Failed"} and time.monotonic() < deadline:
        time.sleep(1)
        phase = cluster.get("pod", image, "-n", namespace)["status"]["phase"]
    said_last = cluster.run("logs", image, "-n", namespace, check=False).stdout
    assert phase == "Succeeded", f"{phase}: {said_last[-3000:]}"
    assert said_last.splitlines()[-1] == "10001"
