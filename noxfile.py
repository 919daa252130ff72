"""The contributor's manual: `nox -l` lists what can be done, and CI does the same.

Every session runs in one environment, `.venv`, made from requirements/main.lock. A session brings it up to date first; no
resolver takes part, since the lock names exact versions with hashes.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import nox

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / "bin"
LOCK = ROOT / "requirements" / "main.lock"
STAMP = VENV / "locked"
ADDONS = "storage,metrics,gateway,minio"  # of the cluster that SRE_CLUSTER begins
IMAGES = ("serving", "training", "mlflow", "postgres")  # that hold Python packages, each with a lock of its own

# The CPU build: training needs no more. On Linux and x86-64 it has a name and an index of its own, because the build that goes by
# the plain name there brings gigabytes of CUDA; elsewhere the plain name is the CPU build.
ON_X86 = platform.system() == "Linux" and platform.machine() == "x86_64"
TORCH = "torch==2.13.0+cpu" if ON_X86 else "torch==2.13.0"
TORCH_INDEX = ("--extra-index-url", "https://download.pytorch.org/whl/cpu") if ON_X86 else ()

nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "types", "imports", "tests"]
nox.needs_version = ">=2025.5.1"


def ready(session: nox.Session, *, programs: bool = False) -> None:
    """Bring `.venv` to the locked state, and fetch the programs that are not Python packages where asked."""
    wanted = hashlib.sha256(LOCK.read_bytes() + (ROOT / "pyproject.toml").read_bytes() + TORCH.encode()).hexdigest()
    if not (BIN / "python").exists():
        session.run_always(sys.executable, "-m", "venv", str(VENV), external=True)
    if not STAMP.exists() or STAMP.read_text(encoding="utf-8") != wanted:
        session.log("installing the locked packages: about 1.5 GB unpacked, a few minutes the first time")
        _install(session, "--require-hashes", "-r", str(LOCK))
        # One try at the extra index: where it cannot be reached, a wheel that is already at hand is taken at once.
        _install(session, "--retries", "0", *TORCH_INDEX, TORCH)
        _install(session, "--no-build-isolation", "--editable", ".")
        STAMP.write_text(wanted, encoding="utf-8")
    if programs:
        sre(session, "tools", "install")


def _install(session: nox.Session, *arguments: str) -> None:
    command = (str(BIN / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", *arguments)
    session.run_always(*command, external=True)


def sre(session: nox.Session, *arguments: str) -> None:
    """Run the toolkit's own command."""
    session.run(str(BIN / "sre"), *arguments, external=True)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests with coverage; arguments go to pytest. Begins and ends a real system of its own."""
    ready(session, programs=True)
    coverage = ("--cov", "--cov-report=term", "--cov-fail-under=90")
    session.run(str(BIN / "python"), "-m", "pytest", *coverage, "--durations=25", *session.posargs, external=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format; `nox -s lint -- --fix` mends what can be mended."""
    ready(session)
    fix = "--fix" in session.posargs
    session.run(str(BIN / "ruff"), "check", *(["--fix"] if fix else []), external=True)
    session.run(str(BIN / "ruff"), "format", *([] if fix else ["--check"]), external=True)


@nox.session
def types(session: nox.Session) -> None:
    """Check types, strictly, over system, sre, tests and this file."""
    ready(session)
    session.run(str(BIN / "mypy"), external=True)


@nox.session
def imports(session: nox.Session) -> None:
    """Check who may import whom."""
    ready(session)
    session.run(str(BIN / "lint-imports"), external=True)


@nox.session
def manifests(session: nox.Session) -> None:
    """Judge all of k8s/; with SRE_CLUSTER or KUBECONFIG, by a cluster too. `python -m tests.manifests` writes the generated."""
    ready(session)
    judged = ("tests/manifests", "tests/sre/judges/manifests")
    session.run(str(BIN / "python"), "-m", "pytest", *judged, *session.posargs, external=True)


@nox.session
def cluster(session: nox.Session) -> None:
    """Run on a cluster what needs one: tests and every drill. SRE_CLUSTER begins and ends one, KUBECONFIG names one."""
    ready(session, programs=True)
    command = shlex.split(os.environ.get("SRE_CLUSTER", ""))
    if command:
        _begin_cluster(session, command)
    elif "KUBECONFIG" not in os.environ:
        session.error("no cluster: set KUBECONFIG to one, or SRE_CLUSTER to a command that begins one")
    try:
        sre(session, "up", "--target", "kubernetes")
        session.run(str(BIN / "python"), "-m", "pytest", "-m", "cluster", *session.posargs, external=True)
        sre(session, "gameday", "--target", "kubernetes")
        sre(session, "drill", "node-drain", "node-cut", "--target", "kubernetes")
        sre(session, "down", "--target", "kubernetes", "--purge")
    finally:
        if command:
            session.run(*command, "down", external=True)


@nox.session
def images(session: nox.Session) -> None:
    """Build every image and run it in a pod that may do nothing, on the cluster that SRE_CLUSTER begins."""
    ready(session)
    session.env["SRE_BUILD_IMAGES"] = "1"
    session.run(str(BIN / "python"), "-m", "pytest", "tests/manifests/test_images.py", *session.posargs, external=True)


def _begin_cluster(session: nox.Session, command: list[str]) -> None:
    told = str(session.run(*command, "up", "--addons", ADDONS, silent=True, external=True))
    session.env["KUBECONFIG"] = next(line.partition("KUBECONFIG=")[2] for line in told.splitlines() if "KUBECONFIG=" in line)
    settings = {
        "IMAGE_BUILD": ("build", "-t", "{tag}", "-f", "{dockerfile}", "{context}"),
        "NODE_POWER_OFF": ("stop-node", "{node}"), "NODE_POWER_OFF_UNDO": ("start-node", "{node}"),
        "NODE_CUT": ("cut-node", "{node}"), "NODE_CUT_UNDO": ("join-node", "{node}"),
    }  # fmt: skip
    for name, arguments in settings.items():
        session.env[f"SRE_{name}"] = os.environ.get(f"SRE_{name}") or shlex.join([*command, *arguments])


@nox.session
def gameday(session: nox.Session) -> None:
    """Begin a system, train, load, break, back up, restore and judge every promise; arguments go to `sre gameday`."""
    ready(session, programs=True)
    sre(session, "gameday", *session.posargs)


@nox.session
def drills(session: nox.Session) -> None:
    """Run drills at full length on a system begun for them: peak-load for ten minutes, then the others."""
    ready(session, programs=True)
    sre(session, "up")
    try:
        sre(session, "drill", "peak-load", "--duration", "10m")
        sre(session, "drill", *(session.posargs or ["training", "pod-recovery", "alerting", "database-recovery", "restore"]))
    finally:
        sre(session, "down")


@nox.session
def crash(session: nox.Session) -> None:
    """Kill drills at 20 random moments; after each, `sre undo` must leave a whole system."""
    ready(session, programs=True)
    session.run(str(BIN / "python"), "-m", "pytest", "tests/acceptance/test_crash.py", "--kills", "20", external=True)


@nox.session(name="failover-study")
def failover_study(session: nox.Session) -> None:
    """Run seeded faults against the database cluster, for hours, resumable: `-- strict`, `-- async` or `-- kills`."""
    ready(session, programs=True)
    session.run(str(BIN / "python"), "-m", "tests.studies.failover", *session.posargs, external=True)


@nox.session(name="backup-kill")
def backup_kill(session: nox.Session) -> None:
    """SIGKILL a backup and what stores it at 50 random moments; earlier ones must restore, a half one never count. Resumable."""
    ready(session, programs=True)
    session.run(str(BIN / "python"), "-m", "tests.studies.backup_kill", *session.posargs, external=True)


@nox.session(name="restore-study")
def restore_study(session: nox.Session) -> None:
    """Restore a gigabyte of rows and artifacts by the drill, and a database to 20 random moments. Some fifteen minutes."""
    ready(session, programs=True)
    moments = ("tests/sre/dr/test_pgbackrest.py", "-k", "random_moments", "--moments", "20")
    session.run(str(BIN / "python"), "-m", "pytest", *moments, external=True)
    session.run(str(BIN / "python"), "-m", "tests.studies.restore", *session.posargs, external=True)


@nox.session(name="recovery-study")
def recovery_study(session: nox.Session) -> None:
    """Run one drill many times on a cluster: `-- pod-recovery 59` when left out, or `-- node-recovery 29`. Resumable."""
    ready(session, programs=True)
    session.run(str(BIN / "python"), "-m", "tests.studies.recovery", *session.posargs, external=True)


@nox.session(name="corruption-study")
def corruption_study(session: nox.Session) -> None:
    """Damage a backup in every way that is known; each must be found and named, and no whole one be called damaged."""
    ready(session, programs=True)
    session.run(str(BIN / "python"), "-m", "tests.studies.corruption", *session.posargs, external=True)


@nox.session(name="canary-study")
def canary_study(session: nox.Session) -> None:
    """Simulate the gate's error rates and detection times, beside other gates' rules; resumable. `-- --short` takes a minute."""
    ready(session)
    session.run(str(BIN / "python"), "-m", "tests.studies.canary", *session.posargs, external=True)


@nox.session(name="slo-study")
def slo_study(session: nox.Session) -> None:
    """Hold rules and budgets to simulated months and their ledgers; resumable. `-- --short` takes a minute."""
    ready(session, programs=True)
    session.run(str(BIN / "python"), "-m", "tests.studies.slo", *session.posargs, external=True)


@nox.session(name="bench-synchronous")
def bench_synchronous(session: nox.Session) -> None:
    """Measure what synchronous commit costs, and what each mode does without standbys."""
    ready(session, programs=True)
    session.run(str(BIN / "python"), "-m", "tests.bench.synchronous", *session.posargs, external=True)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure the service against its peers, as ratios of one run, in about 45 minutes; `-- --quick` tries, `-- --help` tells."""
    ready(session, programs=True)
    session.run(str(BIN / "python"), "-m", "tests.bench", *session.posargs, external=True)


@nox.session
def report(session: nox.Session) -> None:
    """Print the newest run again and check its evidence; arguments name another run."""
    ready(session)
    sre(session, "verify", *session.posargs)
    session.run(str(BIN / "sre"), "report", *session.posargs, external=True, success_codes=list(range(7)))


@nox.session
def readme(session: nox.Session) -> None:
    """Rewrite the measured values in README.md from the newest runs."""
    ready(session)
    session.run(str(BIN / "python"), "docs/readme.py", external=True)


@nox.session
def lock(session: nox.Session) -> None:
    """Resolve main.in anew into main.lock, and the locks of the images to the same versions; needs uv on PATH."""
    uv = shutil.which("uv")
    if uv is None:
        session.error("uv is not on PATH; install it, for example with pipx")
    options = ("--universal", "--python-version", "3.11", "--generate-hashes", "--no-header", "--no-emit-index-url",
               "--no-emit-find-links", "--upgrade")  # fmt: skip
    for role in ("main", *IMAGES):
        held = () if role == "main" else ("--constraint", str(LOCK))
        source, locked = f"requirements/{role}.in", f"requirements/{role}.lock"
        session.run(uv, "pip", "compile", *options, *held, source, "-o", locked, external=True)


@nox.session
def clean(session: nox.Session) -> None:
    """End the system and delete its data, its programs and the environment; evidence stays."""
    if (BIN / "sre").exists():
        subprocess.run([str(BIN / "sre"), "down", "--purge"], env=os.environ, check=False)
    for folder in (ROOT / ".tools", VENV):
        shutil.rmtree(folder, ignore_errors=True)
        session.log(f"deleted {folder.name}")
