from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from prometheus_client.multiprocess import mark_process_dead

from system import telemetry


def _fresh(program: str, **environment: str) -> list[str]:
    """Lines printed by a new process: what it counts is nobody else's."""
    command = [sys.executable, "-c", f"from system import telemetry\n{program}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True, env=environment or None)
    return done.stdout.splitlines()


def test_every_metric_is_there_from_the_start_under_its_name() -> None:
    lines = _fresh("print(telemetry.exposition().decode())")
    kinds = dict(line.split()[2:4] for line in lines if line.startswith("# TYPE"))
    assert kinds == {
        "http_requests_total": "counter",
        "http_request_duration_seconds": "histogram",
        "http_request_errors_total": "counter",
        "model_prediction_duration_seconds": "histogram",
        "model_predictions_total": "counter",
        "model_version": "gauge",
        "request_stage_duration_seconds": "histogram",
        "model_prediction_records_written_total": "counter",
        "model_prediction_records_dropped_total": "counter",
        "model_prediction_records_waiting": "gauge",
        "model_variant": "gauge",
        "model_predicted_classes_total": "counter",
        "model_confidence": "histogram",
        "model_input_brightness": "histogram",
        "model_input_bytes": "histogram",
        "model_challenger_version": "gauge",
        "model_taken_total": "counter",
        "model_refused_total": "counter",
        "shadow_predictions_total": "counter",
        "shadow_agreements_total": "counter",
        "shadow_failures_total": "counter",
        "shadow_probability_difference": "histogram",
        "shadow_dropped_total": "counter",
        "api_keys_stale": "gauge",
        "http_requests_in_flight": "gauge",
        "process_start_time_seconds": "gauge",
        "trace_spans_exported_total": "counter",
        "trace_spans_dropped_total": "counter",
        "pod_cpu_usage": "gauge",
        "pod_memory_usage": "gauge",
    }


def test_what_a_promise_rests_on_is_seen_as_zero_first() -> None:
    lines = set(_fresh("telemetry.expect('/other'); print(telemetry.exposition().decode())"))
    for path in ("/predict", "/other"):
        for status in (200, 400, 401, 403, 404, 408, 413, 415, 429, 431, 499, 500, 503):
            assert f'http_requests_total{{method="POST",path="{path}",status="{status}"}} 0.0' in lines
        assert f'http_requests_total{{method="GET",path="{path}",status="405"}} 0.0' in lines
        for status in (500, 503):
            assert f'http_request_errors_total{{path="{path}",status="{status}"}} 0.0' in lines
        assert f'http_request_duration_seconds_count{{path="{path}"}} 0.0' in lines
    for stage in telemetry.STAGES:
        assert f'request_stage_duration_seconds_count{{stage="{stage}"}} 0.0' in lines
    assert "model_prediction_records_dropped_total 0.0" in lines


def test_the_bounds_of_the_promises_are_histogram_edges() -> None:
    assert {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5} <= set(telemetry.REQUEST_EDGES_S)
    assert {0.01, 0.02, 0.1} <= set(telemetry.STAGE_EDGES_S)


def test_edges_lie_close_together_where_answers_do() -> None:
    close = [edge for edge in telemetry.REQUEST_EDGES_S if 0.0005 <= edge <= 0.1]
    assert (close[0], close[-1]) == (0.0005, 0.1)
    assert all(1.25 <= after / before <= 1.5 for before, after in pairwise(close))


def test_several_processes_began_when_the_newest_of_them_did(tmp_path: Path) -> None:
    program = "telemetry.PROCESS_STARTED.set(float({}))\nprint(telemetry.exposition().decode())"
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    seen = [_fresh(program.format(began), **environment) for began in (1000, 3000, 2000)]
    assert [[line for line in lines if line.startswith("process_start_time_seconds ")] for lines in seen] == [
        ["process_start_time_seconds 1000.0"], ["process_start_time_seconds 3000.0"], ["process_start_time_seconds 3000.0"],
    ]  # fmt: skip


def _read(name: str, **labels: str) -> float | None:
    return telemetry.REGISTRY.get_sample_value(name, labels)


def test_only_what_is_served_now_is_shown_as_served() -> None:
    def shown(version: str, variant: str) -> float | None:
        return _read("model_variant", model_version=version, variant=variant)

    telemetry.serving("5", "fp32")
    telemetry.serving("6", "int8")
    assert (_read("model_version"), shown("5", "fp32"), shown("6", "int8")) == (6, 0, 1)
    telemetry.serving("5", "fp32")  # a rollback
    assert (_read("model_version"), shown("5", "fp32"), shown("6", "int8")) == (5, 1, 0)


async def test_requests_in_flight_are_shown_as_they_change() -> None:
    flying, looked = 3, asyncio.Event()

    def in_flight() -> int:
        looked.set()
        return flying

    reporting = asyncio.create_task(telemetry.report_in_flight(in_flight, 0.001))
    for flying in (3, 0):
        looked.clear()
        await asyncio.wait_for(looked.wait(), 10)
        assert _read("http_requests_in_flight") == flying
    reporting.cancel()


def test_processes_that_share_a_folder_are_added_up_and_the_dead_keep_their_counts(tmp_path: Path) -> None:
    """Two workers answer and end, one of them known to be dead; a third is scraped."""
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    work = (
        "import os\n"
        "from system.serving import meters\n"
        "meters.requests('POST', '/predict', 200).inc(3)\n"
        "meters.ModelMetrics('7', ['a', 'b']).answered(1, 0.5)\n"
        "telemetry.IN_FLIGHT.set(2); telemetry.RECORDS_WAITING.set(4)\n"
        "telemetry.serving('7', 'int8')\n"
        "print(os.getpid())\n"
    )
    dead, _ = (_fresh(work, **environment)[0] for _ in range(2))
    mark_process_dead(int(dead), str(tmp_path))  # type: ignore[no-untyped-call]
    lines = set(_fresh("telemetry.serving('6', 'fp32'); print(telemetry.exposition().decode())", **environment))
    assert 'http_requests_total{method="POST",path="/predict",status="200"} 6.0' in lines
    assert 'http_requests_total{method="POST",path="/predict",status="503"} 0.0' in lines
    assert 'model_predicted_classes_total{label="b",model_version="7"} 2.0' in lines
    assert 'model_predicted_classes_total{label="a",model_version="7"} 0.0' in lines
    assert 'model_confidence_count{model_version="7"} 2.0' in lines
    assert {"http_requests_in_flight 2.0", "model_prediction_records_waiting 4.0", "model_version 7.0"} <= lines
    assert 'model_variant{model_version="6",variant="fp32"} 1.0' in lines
    assert not any("pid=" in line for line in lines)  # a label that changes with each restart is a new series each time


def test_usage_is_of_this_process_and_of_the_time_since_the_last_look() -> None:
    usage = telemetry.PodUsage()

    def read() -> dict[str, float]:
        return {family.name: family.samples[0].value for family in usage.collect()}

    first = read()
    assert first["pod_memory_usage"] > 10e6
    assert 0 <= first["pod_cpu_usage"] < 64
    assert 0 <= read()["pod_cpu_usage"] < 64


def test_usage_of_a_family_counts_the_children() -> None:
    program = (
        "import os, subprocess, sys\n"
        "alone = [f.samples[0].value for f in telemetry.PodUsage(family_of=os.getpid()).collect()][1]\n"
        "child = subprocess.Popen([sys.executable, '-c', 'print(flush=True); input()'], stdin=-1, stdout=-1)\n"
        "child.stdout.readline()\n"
        "print(alone, [f.samples[0].value for f in telemetry.PodUsage(family_of=os.getpid()).collect()][1])\n"
        "child.communicate(b'\\n')\n"
    )
    alone, together = map(float, _fresh(program)[-1].split())
    assert together > alone + 3e6


def test_log_lines_are_json_with_the_documented_fields(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = (root.handlers[:], root.level, logging.getLogger("system").level)
    try:
        telemetry.configure_logging("INFO", "serving-3")
        fields = {
            "trace_id": "t1",
            "span_id": "s1",
            "request_id": "r1",
            "variant": "int8",
            "key": "client",
            "duration_ms": 87.5,
            "model_version": "12",
            "path": "/predict",
            "status": 200,
            "unlisted": "x",
        }
        logging.getLogger("system.serving").info("Prediction %s", "completed", extra=fields)
        logging.getLogger("system.serving").debug("not at this level")
        logging.getLogger("uvicorn.error").info("nor this")
        try:
            int("why")
        except ValueError:
            logging.getLogger("system").exception("failed")
    finally:
        root.handlers[:], root.level = before[0], before[1]
        logging.getLogger("system").setLevel(before[2])
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first.pop("timestamp").endswith("Z")
    assert first == {
        "level": "INFO",
        "service": "ml-api",
        "pod": "serving-3",
        "logger": "system.serving",
        "message": "Prediction completed",
        "trace_id": "t1",
        "span_id": "s1",
        "request_id": "r1",
        "variant": "int8",
        "key": "client",
        "duration_ms": 87.5,
        "model_version": "12",
        "path": "/predict",
        "status": 200,
    }
    assert (second["level"], second["message"]) == ("ERROR", "failed")
    assert second["stack"].endswith("ValueError: invalid literal for int() with base 10: 'why'")
