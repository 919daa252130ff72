"""A real Prometheus over a past that a test makes up: samples are written into its blocks before it begins."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from sre.targets.local.programs import find

Series = Mapping[str, Sequence[tuple[float, float]]]  # by name and labels, as http_requests_total{status="200"}


def backfill(programs: Path, folder: Path, series: Series) -> None:
    """Write samples, s since the epoch and value, into the blocks below `folder`."""
    families: dict[str, list[str]] = {}
    for name, points in series.items():
        family = name.partition("{")[0].removesuffix("_total")
        families.setdefault(family, []).extend(f"{name} {value:.17g} {at:.3f}" for at, value in points)
    lines = [line for family, samples in families.items() for line in (f"# TYPE {family} counter", *samples)]
    text = folder / "samples.txt"
    text.write_text("\n".join([*lines, "# EOF"]) + "\n")
    _promtool(programs, "tsdb", "create-blocks-from", "openmetrics", "--quiet", str(text), str(folder / "data"))


def record(programs: Path, folder: Path, url: str, rules: Path, span: tuple[float, float]) -> None:
    """Write what the recording rules of a file would have recorded in a span; a Prometheus that begins later has it."""
    first, last = (f"{at:.0f}" for at in span)
    _promtool(
        programs, "tsdb", "create-blocks-from", "rules", "--quiet", f"--url={url}", f"--start={first}", f"--end={last}",
        f"--output-dir={folder}/data", str(rules),
    )  # fmt: skip


@contextmanager
def served(programs: Path, folder: Path) -> Iterator[str]:
    """A Prometheus over the blocks below `folder`; gives its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "prometheus.yml").write_text("{}")
    found = find("prometheus", programs)
    command = [
        str(found.path), f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
        "--storage.tsdb.retention.time=100y", f"--web.listen-address=127.0.0.1:{port}", "--log.level=error",
    ]  # fmt: skip
    server = subprocess.Popen(command, env={**os.environ, **found.environment}, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        _until_ready(url)
        yield url
    finally:
        server.terminate()
        server.wait(20)


def _until_ready(url: str) -> None:
    deadline, seen = time.monotonic() + 30, "nothing"
    while time.monotonic() < deadline:
        try:
            answer = httpx.get(f"{url}/-/ready", trust_env=False)
            seen = f"status {answer.status_code}"
            if answer.is_success:
                return
        except httpx.HTTPError as error:
            seen = repr(error)
        time.sleep(0.05)
    raise AssertionError(f"Prometheus is not ready after 30 s; last seen: {seen}")


def _promtool(programs: Path, *arguments: str) -> None:
    found = find("promtool", programs)
    done = subprocess.run(
        [str(found.path), *arguments],
        env={**os.environ, **found.environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
