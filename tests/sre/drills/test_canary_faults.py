from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import cv2
import numpy as np
import pytest

from sre.drills import canary_faults
from sre.drills.base import Case, Context, Options
from sre.drills.canary import PROMOTED, ROLLED_BACK, CanaryDrill
from sre.drills.canary_faults import (
    CanaryCrash,
    CanaryErrors,
    CanaryGood,
    CanaryPrometheusDown,
    CanarySlow,
    CanaryTrainedDefect,
    CanaryWrongClasses,
    mislabelled,
)
from sre.drills.canary_site import LocalSite
from sre.drills.catalog import DRILLS
from sre.drills.world import World
from sre.errors import ExitCode, FaultWithoutEffect, StepFailed
from sre.faults import model
from sre.faults.model import Place
from sre.readings import LoadPlan
from sre.targets.local.target import LocalTarget, newest_dataset
from sre.targets.memory import Behaviour
from sre.targets.objects import Folder
from sre.targets.registry import MODEL, Registry
from sre.verdict import Outcome
from system.model import artifact
from system.storage.objects import FolderStore
from system.training.ingest import BUCKET, Dataset, ingest, read_dataset
from system.training.validate import validate

from .conftest import RunDrills
from .silent import silent

MakeCase = Callable[..., Case]
NOWHERE = Place(Folder(Path("/nowhere")), Registry("http://127.0.0.1:1"))
MakeContext = Callable[..., Context]

CANARIES = [kind for kind in DRILLS.values() if issubclass(kind, CanaryDrill)]
BAD = [kind for kind in CANARIES if kind is not CanaryGood]


def test_every_drill_of_the_module_is_in_the_catalogue() -> None:
    found = [kind for kind in vars(canary_faults).values() if isinstance(kind, type) and issubclass(kind, CanaryDrill)]
    assert set(found) - {CanaryDrill} == set(CANARIES)
    assert len(CANARIES) == 7


def test_what_is_wrong_must_be_rolled_back_within_its_time_and_what_is_right_promoted() -> None:
    assert (CanaryGood.ends, CanaryGood.promises) == (PROMOTED, ("canary", "canary-requests"))
    assert {(kind.ends, kind.promises) for kind in BAD} == {(ROLLED_BACK, ("canary", "canary-requests", "canary-rollback"))}


def noted(*, ended: str, serving: str) -> dict[str, Any]:
    decided = 1000.0 if ended == ROLLED_BACK else None
    return {
        "production": "1", "version": "2", "ended": ended, "why": "", "serving": [serving], "decided_at": decided,
        "counted_from": 900.0, "cleared_at": 1002.0, "watched_until": 1010.0, "canary_failed": 0.0,
    }  # fmt: skip


def outcomes(drill: CanaryDrill, case: Case, facts: dict[str, Any]) -> dict[str, Outcome]:
    judgement = drill.judge(replace(case, facts={**case.facts, **facts}))
    return {verdict.promise: verdict.outcome for verdict in judgement.verdicts}


@pytest.mark.parametrize("kind", CANARIES, ids=lambda kind: kind.name)
def test_sabotage_a_gate_that_is_blind(make_case: MakeCase, kind: type[CanaryDrill]) -> None:
    """One that promotes whatever it is given, or rolls back whatever it is given, does not get through."""
    right, wrong = noted(ended=PROMOTED, serving="2"), noted(ended=ROLLED_BACK, serving="1")
    if kind.ends == ROLLED_BACK:
        right, wrong = wrong, right
    case = make_case()
    assert outcomes(kind(), case, wrong)["canary"] is Outcome.BROKEN
    assert set(outcomes(kind(), case, right).values()) == {Outcome.KEPT}
    assert set(outcomes(kind(), case, right)) == set(kind.promises)


def in_traffic(context: Context) -> None:
    """A canary with a tenth of it."""
    context.target.router.begin("2")
    context.target.router.shift(0.1, 0.1)


def test_a_crash_is_proven_by_the_process_that_is_gone(make_context: MakeContext) -> None:
    context = make_context("canary-crash")
    in_traffic(context)
    split = context.target.router.split()
    assert split is not None
    assert CanaryCrash().harm(context) == ", SIGKILL canary-1"
    assert context.facts["victim"] == split.replicas[0].identity
    assert context.facts["fault"] == "SIGKILL canary-1"
    assert CanaryCrash().prove_injected(context) == f"process {context.facts['victim'].partition('@')[0]} is gone"


def test_a_crash_is_proven_when_the_rollout_has_ended_already(make_context: MakeContext) -> None:
    context = make_context("canary-crash")
    in_traffic(context)
    CanaryCrash().harm(context)
    context.target.router.end()
    assert "is gone" in CanaryCrash().prove_injected(context)


def test_sabotage_a_crash_that_was_only_reported(make_context: MakeContext) -> None:
    context = make_context("canary-crash", Behaviour(faults_work=False))
    in_traffic(context)
    CanaryCrash().harm(context)
    with pytest.raises(FaultWithoutEffect, match="the fault had no effect: canary-1 to be gone not within 10 s"):
        CanaryCrash().prove_injected(context)


@pytest.fixture
def answering() -> Iterator[int]:
    """Port of something that answers every query as Prometheus does."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"status": "success", "data": {"resultType": "vector", "result": []}}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


def test_sabotage_a_prometheus_that_answers_was_not_stopped(make_context: MakeContext, tmp_path: Path, answering: int) -> None:
    context = make_context("canary-prometheus-down")
    context.target = silent(tmp_path, prometheus=answering)
    with pytest.raises(FaultWithoutEffect, match="the fault had no effect: prometheus still answers"):
        CanaryPrometheusDown().prove_injected(context)
    context.target = silent(tmp_path)
    assert CanaryPrometheusDown().prove_injected(context) == "prometheus does not answer"


def test_without_traffic_nobody_knows_how_much_slower_a_quarter_is(
    make_context: MakeContext, tmp_path: Path, answering: int
) -> None:
    context = make_context("canary-slow")
    context.target = silent(tmp_path, prometheus=answering)
    with pytest.raises(StepFailed, match="Prometheus does not say how long a request takes here; see `sre slo`"):
        CanarySlow().version(context, NOWHERE)


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Dataset]:
    """A store with the dataset that training uses; tests only add to it."""
    root = tmp_path_factory.mktemp("ingested")
    return root, ingest(FolderStore(root), datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))


def test_a_mislabelled_dataset_passes_the_checks_of_training(ingested: tuple[Path, Dataset]) -> None:
    root, dataset = ingested
    version = mislabelled(root / BUCKET / dataset.version, "3", "8")
    made = read_dataset(FolderStore(root), version)
    validate(FolderStore(root), made)
    before, after = (Counter(file.label for file in one.files) for one in (dataset, made))
    assert after[3] == pytest.approx(before[3] / 2, abs=1)
    assert after[8] == before[8] + before[3] - after[3]
    assert {label: count for label, count in after.items() if label not in {3, 8}} == {
        label: count for label, count in before.items() if label not in {3, 8}
    }
    # What users send stays what it was.
    assert max(path.parent.name for path in (root / BUCKET).glob("*/manifest.json")) == dataset.version


def write_dataset(folder: Path, greys: dict[str, int]) -> None:
    """A dataset of plain grey images, by path."""
    files = []
    for path, grey in greys.items():
        _, encoded = cv2.imencode(".png", np.full((4, 4, 3), grey, np.uint8))
        content = encoded.tobytes()
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
        files.append({"path": path, "label": int(path[0]), "sha256": hashlib.sha256(content).hexdigest()})
    (folder / "manifest.json").write_text(json.dumps({"version": folder.name, "files": files}), encoding="utf-8")


def test_the_darker_half_of_one_label_is_given_another(tmp_path: Path) -> None:
    folder = tmp_path / "2026-01-01"
    write_dataset(folder, {"3/a.png": 10, "3/b.png": 90, "3/c.png": 50, "3/d.png": 20, "8/a.png": 5, "1/a.png": 1})
    before = (folder / "manifest.json").read_bytes()
    assert mislabelled(folder, "3", "8") == "0-mislabelled-2026-01-01"
    made = tmp_path / "0-mislabelled-2026-01-01"
    document = json.loads((made / "manifest.json").read_text(encoding="utf-8"))
    assert document["version"] == made.name
    labels = {file["path"]: file["label"] for file in document["files"]}
    assert labels == {"8/3-a.png": 8, "3/b.png": 3, "3/c.png": 3, "8/3-d.png": 8, "8/a.png": 8, "1/a.png": 1}
    for file in document["files"]:
        assert hashlib.sha256((made / file["path"]).read_bytes()).hexdigest() == file["sha256"]
    assert {str(path.relative_to(made)) for path in made.rglob("*.png")} == set(labels)
    assert (folder / "manifest.json").read_bytes() == before


def test_a_second_copy_of_a_dataset_is_the_first(tmp_path: Path) -> None:
    folder = tmp_path / "2026-01-01"
    write_dataset(folder, {"3/a.png": 10, "3/b.png": 90})
    made = tmp_path / mislabelled(folder, "3", "8")
    files = {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}
    mislabelled(folder, "3", "8")
    assert {path: path.read_bytes() for path in made.rglob("*") if path.is_file()} == files


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "2026-01-01"
    write_dataset(folder, {"3/a.png": 10})
    (folder / "3" / "a.png").write_bytes(b"no image")
    with pytest.raises(StepFailed, match=r"3/a\.png is no image; train again"):
        mislabelled(folder, "3", "8")


def test_a_training_that_fails_registers_nothing(make_context: MakeContext, tmp_path: Path) -> None:
    context = make_context("canary-trained-defect")
    context.folder.mkdir(parents=True)
    target = context.target = silent(tmp_path / "home")
    target.layout.run.mkdir()
    # Which training refuses, before it looks for a registry.
    write_dataset(target.layout.objects / "ml-datasets" / "1", {"3/a.png": 10, "3/b.png": 90})
    with pytest.raises(StepFailed, match=r"the training ended with \d+ and registered nothing; see train\.log"):
        CanaryTrainedDefect().version(context, NOWHERE)
    assert "0-mislabelled-1" in (context.folder / "train.log").read_text(encoding="utf-8")


def registered(drill: CanaryDrill, context: Context) -> str:
    assert isinstance(context.target, LocalTarget)
    with LocalSite(context.target).models() as models:
        context.note(version=drill.version(context, models))
    return str(context.facts["version"])


def folder_of(system: LocalTarget, version: str) -> Path:
    return system.layout.objects / model.BUCKET / MODEL / version


@pytest.mark.parametrize("kind", [CanaryTrainedDefect, CanaryPrometheusDown])
def test_what_only_a_local_target_can_do_is_refused_before_anything_changes(
    run_drills: RunDrills, kind: type[CanaryDrill]
) -> None:
    ran = run_drills(kind(), options=Options(seconds=60.0))
    assert ran.record.exit_code == ExitCode.CANNOT_RUN
    step = ran.step("preflight")
    assert (step.result, ran.step("steady").result) == ("failed", "skipped")
    assert "training" in step.detail or "target memory neither trains nor stops Prometheus" in step.detail
    assert ran.pending() == 0


@pytest.mark.local
@pytest.mark.parametrize("kind", [CanaryGood, CanaryErrors, CanaryWrongClasses, CanaryCrash, CanaryPrometheusDown])
def test_a_version_is_registered_whose_files_are_whole(
    system: LocalTarget, make_context: MakeContext, kind: type[CanaryDrill]
) -> None:
    context = make_context(kind.name)
    context.target = system
    assert artifact.verify(folder_of(system, registered(kind(), context))).version == context.facts["version"]


@pytest.mark.local
def test_the_share_of_users_images_that_fail_is_five_times_what_is_promised(
    system: LocalTarget, make_context: MakeContext
) -> None:
    context = make_context("canary-errors")
    context.target = system
    registered(CanaryErrors(), context)
    images = [path for path in newest_dataset(system.layout).rglob("*") if path.suffix in {".png", ".jpg"}]
    greys = {path: float(canary_faults._pixels(path).astype(np.float32).mean()) for path in images}
    chosen = [grey for path, grey in greys.items() if path.name in context.facts["failing"]]
    failing = [path for path, grey in greys.items() if any(abs(grey - one) < 1e-3 for one in chosen)]
    assert len(failing) / len(images) == pytest.approx(canary_faults.FAILING_SHARE, rel=0.3)


@pytest.mark.local
def test_a_quarter_slower_is_a_quarter_of_what_users_wait_here(
    system: LocalTarget, make_context: MakeContext, tmp_path: Path
) -> None:
    context = make_context("canary-slow")
    context.target = system
    load = World(system.endpoints, 2.0, 5.0).start_load(LoadPlan(rate=20.0, seconds=8.0, seed=2), tmp_path / "load")
    load.wait()
    folder = folder_of(system, registered(CanarySlow(), context))
    assert 0 < context.facts["median_s"] < 5.0
    assert artifact.verify(folder).version == context.facts["version"]
