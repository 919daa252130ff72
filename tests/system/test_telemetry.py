from __future__ import annotations

import json
import logging
import subprocess
import sys

import pytest

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
        "pod_cpu_usage": "gauge",
        "pod_memory_usage": "gauge",
    }


def test_what_a_promise_rests_on_is_seen_as_zero_first() -> None:
    lines = set(_fresh("print(telemetry.exposition().decode())"))
    for status in (200, 500, 503):
        assert f'http_requests_total{{method="POST",path="/predict",status="{status}"}} 0.0' in lines
    for status in (500, 503):
        assert f'http_request_errors_total{{path="/predict",status="{status}"}} 0.0' in lines
    assert 'http_request_duration_seconds_count{path="/predict"} 0.0' in lines
    for stage in telemetry.STAGES:
        assert f'request_stage_duration_seconds_count{{stage="{stage}"}} 0.0' in lines
    assert "model_prediction_records_dropped_total 0.0" in lines


def test_the_bounds_of_the_promises_are_histogram_edges() -> None:
    assert {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5} <= set(telemetry.REQUEST_EDGES_S)
    assert {0.01, 0.02, 0.1} <= set(telemetry.STAGE_EDGES_S)


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
        "duration_ms": 87.5,
        "model_version": "12",
        "path": "/predict",
        "status": 200,
    }
    assert (second["level"], second["message"]) == ("ERROR", "failed")
    assert second["stack"].endswith("ValueError: invalid literal for int() with base 10: 'why'")
