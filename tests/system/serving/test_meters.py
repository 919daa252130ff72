from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram

from system import telemetry
from system.serving import meters


def _read(name: str, **labels: str) -> float | None:
    return telemetry.REGISTRY.get_sample_value(name, labels)


def test_a_models_counts_are_there_before_its_first_answer_and_count_each_image() -> None:
    metrics = meters.ModelMetrics("91", ["zero", "one"])
    classes = [{"model_version": "91", "label": label} for label in ("zero", "one")]
    assert [_read("model_predicted_classes_total", **found) for found in classes] == [0, 0]
    assert (_read("model_predictions_total", model_version="91"), _read("model_confidence_count", model_version="91")) == (0, 0)
    for confidence in (0.35, 0.97, 0.97):
        metrics.answered(1, confidence)
    assert [_read("model_predicted_classes_total", **found) for found in classes] == [0, 3]
    assert _read("model_predictions_total", model_version="91") == 3
    buckets = {edge: _read("model_confidence_bucket", model_version="91", le=edge) for edge in ("0.3", "0.4", "0.95", "0.99")}
    assert buckets == {"0.3": 0, "0.4": 1, "0.95": 1, "0.99": 3}


def sent(length: int) -> list[tuple[bytes, str]]:
    return [(bytes(length), "image/png")]


def test_of_the_inputs_one_image_in_sixteen_is_looked_at() -> None:
    metrics = meters.ModelMetrics("92", ["zero"])

    def looked_at() -> list[float | None]:
        what = ("model_input_brightness_count", "model_input_brightness_sum", "model_input_bytes_count", "model_input_bytes_sum")
        return [_read(name, model_version="92") for name in what]

    dark, light = np.full((1, 32, 32, 3), 10, np.uint8), np.full((1, 32, 32, 3), 200, np.uint8)
    metrics.saw(dark, sent(5000))
    for _ in range(15):
        metrics.saw(light, sent(9000))
    assert looked_at() == [1, 10, 1, 5000]
    metrics.saw(light, sent(9000))
    assert looked_at() == [2, 210, 2, 14_000]
    metrics.saw(np.concatenate([light] * 16), sent(2000) * 16)  # one request of 16 images
    assert looked_at() == [3, 410, 3, 16_000]


@pytest.mark.parametrize("side", [1, 32, 224])
def test_the_brightness_of_a_large_image_is_near_the_mean_of_all_its_pixels(side: int) -> None:
    metrics = meters.ModelMetrics(f"93.{side}", ["zero"])
    rows = np.linspace(0, 250, side)[:, np.newaxis, np.newaxis]
    image = np.broadcast_to(rows, (side, side, 3)).astype(np.uint8)[np.newaxis]
    metrics.saw(image, sent(1))
    found = _read("model_input_brightness_sum", model_version=f"93.{side}")
    assert found == pytest.approx(float(image.mean()), abs=5)


def test_a_spread_counts_as_the_librarys_own_histogram_does() -> None:
    registry = CollectorRegistry()
    ours, theirs = (Histogram(name, "", buckets=(0.1, 1, 5), registry=registry) for name in ("ours", "theirs"))
    spread = meters.Spread(ours)
    for amount in (0.05, 0.1, 0.1000001, 1, 3, 5, 5.5, 1e9):
        spread.observe(amount)
        theirs.observe(amount)
    found = {name: {} for name in ("ours", "theirs")}  # type: dict[str, dict[str, float]]
    for family in registry.collect():
        for sample in family.samples:
            found[family.name][f"{sample.name.removeprefix(family.name)} {sample.labels.get('le')}"] = sample.value
    assert found["ours"] == found["theirs"]
    assert found["ours"]["_count None"] == 8


def test_two_that_add_to_one_child_add_up() -> None:
    counter = Counter("added", "", registry=None)
    meters.Tally(counter).inc()
    meters.Tally(counter).inc(2)
    assert [sample.value for family in counter.collect() for sample in family.samples] == [3]


MANY = """
import os
from prometheus_client import Counter, Histogram
from system import telemetry
from system.serving import meters

def work(number):
    models = [meters.ModelMetrics(f"{number}{more}", [f"class {index}" for index in range(200)]) for more in range(5)]
    for _ in range(100):
        for model in models:
            model.answered(_, 0.5)
            model.took(0, 0.001, 0.002, 0.003)
            meters.requests("POST", "/predict", 200).inc()
            meters.request_seconds("/predict").observe(0.01)

before = telemetry.exposition()
for number in (1, 2):
    child = os.fork()
    if not child:
        work(number)
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
print(telemetry.exposition().decode())
"""


def test_forked_processes_that_are_killed_keep_their_counts_also_when_their_files_grew(tmp_path: Path) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", MANY], env=environment, capture_output=True, text=True, check=True, timeout=30)
    assert max(file.stat().st_size for file in tmp_path.iterdir()) > 1 << 16  # where prometheus_client begins
    lines = set(done.stdout.splitlines())
    assert 'http_requests_total{method="POST",path="/predict",status="200"} 1000.0' in lines
    assert 'http_request_duration_seconds_count{path="/predict"} 1000.0' in lines
    assert 'request_stage_duration_seconds_count{stage="inference"} 1000.0' in lines
    assert {f'model_predictions_total{{model_version="{number}{more}"}} 100.0' for number in (1, 2) for more in range(5)} <= lines
    assert 'model_predicted_classes_total{label="class 99",model_version="14"} 1.0' in lines
    assert 'model_predicted_classes_total{label="class 100",model_version="14"} 0.0' in lines
