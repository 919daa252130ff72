"""The benchmark: our service and its peers in one run, judged by goals that are ratios wherever they can be.

    python -m tests.bench                        everything, about half an hour on two cores
    python -m tests.bench --quick                rounds of one second, to try it
    python -m tests.bench --only throughput,memory --peers kserve,litserve

Exit status: 0 when every goal was reached, 1 when one was missed (by name), 2 for a wrong command line, 3 when none was
missed and one is inconclusive, 4 when it could not run, 130 after Ctrl-C. Ctrl-C and SIGTERM end every process that was started.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))  # so that the folder can be run as a script too

from sre.config import PROJECT, Settings
from sre.errors import SreError
from system.model import artifact, engines
from tests.bench import envs, experiments, goals, inputs, measure, ours, report, servers
from tests.bench.figures import Results
from tests.bench.measure import Bench, Broken
from tests.bench.processes import free_ports
from tests.bench.servers import Model, Subject

OURS_VERSIONS = (
    "fastapi", "uvicorn", "uvloop", "httptools", "onnxruntime", "openvino", "numpy", "pillow", "simplejpeg",
    "opencv-python-headless", "orjson",
)  # fmt: skip
_PICTURES = {"resnet": inputs.MEDIUM, "mobilenet": inputs.LARGE}
_began = time.monotonic()


def say(line: str) -> None:
    """One line of progress, on stderr."""
    typer.echo(f"{time.monotonic() - _began:7.1f} s  {line}", err=True)


def main(
    *,
    quick: Annotated[bool, typer.Option(help="Rounds of one second: to try it, not to believe it.")] = False,
    peers: Annotated[str, typer.Option(help="Which peers, by comma.")] = ",".join(goals.PEERS),
    only: Annotated[str, typer.Option(help="Which groups of goals, by comma.")] = ",".join(goals.GROUPS),
) -> None:
    """Measure, judge, print, and write results.json and report.html."""
    asked = [_known(name, goals.PEERS, "--peers") for name in peers.split(",") if name]
    groups = [_known(name, goals.GROUPS, "--only") for name in only.split(",") if name]
    chosen = [goal for goal in goals.goals(asked) if goal.group in groups]
    if not chosen:
        raise typer.BadParameter("no goal is selected")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    began = datetime.now(UTC).isoformat(timespec="seconds")
    bench = Bench(root=envs.ROOT, seconds=1 if quick else 5, rounds=3, tries=1 if quick else 3, say=say)
    try:
        absent = _environments(asked if any(goal.peers for goal in chosen) else [], bench.results)
        _measure(bench, chosen, absent, quick=quick)
    except KeyboardInterrupt:
        say("interrupted; every server that was started has ended")
        raise typer.Exit(130) from None
    except (SreError, Broken) as error:
        say(f"could not run: {error}")
        raise typer.Exit(4) from None
    judged = [goals.judge(goal, bench.results, absent) for goal in chosen]
    environment = _environment([peer for peer in asked if peer not in absent], quick=quick)
    report.terminal(bench.results, judged, environment)
    _write(bench.results, judged, environment, began)
    for word, status in (("MISSED", 1), ("INCONCLUSIVE", 3)):
        if names := [item.goal.id for item in judged if item.word == word]:
            say(f"{word}: {', '.join(names)}")
            raise typer.Exit(status)


def _known(name: str, names: Sequence[str], option: str) -> str:
    if name not in names:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(names)}", param_hint=option)
    return name


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _environments(peers: Sequence[str], results: Results) -> list[str]:
    """Make the peers' environments; the names of those that have none."""
    absent = []
    for peer in peers:
        try:
            envs.ready(peer, say)
        except envs.NoEnvironment as error:
            say(f"no environment: {error}")
            results.remarks.append(f"no environment: {error}")
            absent.append(peer)
    return absent


def _measure(bench: Bench, chosen: Sequence[goals.Goal], absent: Sequence[str], *, quick: bool) -> None:
    keys = list(dict.fromkeys(key for goal in chosen for key in goal.rows if key.rpartition("/")[2] not in absent))
    wanted = list(dict.fromkeys(name for goal in chosen for name in goal.experiments))
    with ours.system(Settings().home.parent / ".bench" / "home", say) as system:
        bench = measure.with_backing(bench, system.supervisor)
        names = sorted({key.partition("/")[0] for key in keys} | ({"resnet"} if wanted else set()))
        if "mobilenet" in names:
            system.register_mobilenet(say)
        models = {
            name: Model(name=name, path=system.model_path(name), side=ours.SIDES[name], jpeg=inputs.jpeg(_PICTURES[name]))
            for name in names
        }
        say(f"{len(keys)} rows, {bench.rounds} interleaved rounds of {bench.seconds} s")
        measure.rows([_maker(key, models, system) for key in _runnable(keys, models, bench.results)], bench)
        steps: dict[str, Callable[[], None]] = {
            "stages": lambda: experiments.stages(bench, list(models.values())),
            "preprocess": lambda: experiments.preprocess(bench),
            "starts": lambda: experiments.starts(bench, _maker(goals.OURS, models, system)),
            "openloop": lambda: experiments.openloop(bench, _maker(goals.OURS, models, system), 5 if quick else 60),
            "overload": lambda: experiments.overload(bench, _maker(goals.OURS, models, system), 5 if quick else 20),
        }
        for name in wanted:
            try:
                steps[name]()
            except (Broken, KeyError) as error:
                say(f"{name}: FAILED {error}")
                bench.results.remarks.append(f"{name}: {error}")


def _runnable(keys: Sequence[str], models: dict[str, Model], results: Results) -> list[str]:
    """Without our rows of variants that the model does not have or this machine cannot run."""
    kept = []
    for key in keys:
        model, group, name = key.split("/")
        if group == "ours" and name not in ("auto", artifact.FP32):
            variants = {item.name: item for item in artifact.read_manifest(models[model].path.parent).variants}
            if name not in variants or not engines.runnable(variants[name]):
                results.remarks.append(
                    f"{key}: {'this machine cannot run it' if name in variants else 'the model has no such variant'}"
                )
                continue
        kept.append(key)
    return kept


def _maker(key: str, models: dict[str, Model], system: ours.System) -> Callable[[], Subject]:
    """What makes the subject of a row, on ports that are free when it is called."""
    name, group, who = key.split("/")
    model = models[name]

    def make() -> Subject:
        ports = free_ports(2 if group == "replicas" else 1)
        if group == "bare":
            return servers.bare(who, model, ports[0], workers=1 if who == "raw" else servers.WORKERS)
        if group == "ours" or who == "ours":
            return system.subject(model, artifact.FP32 if who == "ours" else who, ports, workers=3 - len(ports))
        workers = 0 if who == "mlserver-w0" else 1 if group == "replicas" else servers.WORKERS
        mode = "tutorial" if group == "tutorial" else "lent"
        return servers.peer(who, model, ports, mode=mode, workers=workers)

    return make


def _environment(peers: Sequence[str], *, quick: bool) -> dict[str, Any]:
    names = {
        line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")
    }
    return {
        "machine": {
            "processor": ", ".join(sorted(names)), "cores": str(os.cpu_count()), "system": platform.platform(),
            "Python": platform.python_version(), "rounds": "of one second (--quick)" if quick else "of 5 s",
        },
        "versions": {
            "ours": {package: version(package) for package in OURS_VERSIONS},
            **{peer: envs.versions(envs.folder(peer)) for peer in peers},
        },
    }  # fmt: skip


def _write(results: Results, judged: Sequence[goals.Judged], environment: dict[str, Any], began: str) -> None:
    folder = envs.ROOT / "results" / began.replace(":", "").replace("-", "")[:15]
    folder.mkdir(parents=True, exist_ok=True)
    document = report.document(results, judged, environment)
    (folder / "results.json").write_text(json.dumps(document | {"began": began}, indent=2) + "\n", encoding="utf-8")
    (folder / "report.html").write_text(report.html(results, judged, environment, began), encoding="utf-8")
    say(f"{folder.relative_to(PROJECT)}/report.html and results.json")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
