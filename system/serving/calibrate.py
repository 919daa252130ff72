"""Which variant of a model is served, and how: decided by measuring on the machine that serves.

A constant would be wrong somewhere: int8 is 1.6 times faster than fp32 for one network and slower for another, and bf16 needs a
CPU that has it. The decision is kept beside the model's files: a restart decides alike, at once, and loads one engine only.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import thread_time_ns
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from system.errors import RegistryError
from system.model.artifact import FP32, Manifest, read_golden, sha256_hex
from system.model.engines import Engine, open_engine, runnable

log = logging.getLogger(__name__)

AUTO = "auto"
BATCH = 8
_FILE_NAME = "calibration.json"
_LEAST_GAIN = 1.1  # a variant that is no faster than this is not worth another set of rounding errors
_LEAST_BATCH_GAIN = 1.2  # below it, waiting for company costs more than it saves
_ROUNDS = 5
_RUNS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a model is served.

    Attributes:
        variant: its name.
        image_us: CPU microseconds of one image alone.
        batch_gain: how many times less CPU an image takes in a batch of 8.
        measured: CPU microseconds of one image alone, of every variant that can run and passed the golden set.
        machine: what the figures hold for; on another one they are taken anew.
    """

    variant: str
    image_us: float
    batch_gain: float
    measured: dict[str, float]
    machine: dict[str, str]

    @property
    def batches(self) -> bool:
        """Whether images that wait together should be inferred together."""
        return self.batch_gain >= _LEAST_BATCH_GAIN


def load(folder: Path, manifest: Manifest, wanted: str) -> tuple[Engine, Plan]:
    """The engine that serves a verified folder, warm and checked against the golden set, and the plan that chose it.

    Args:
        folder: of the model.
        manifest: of the folder.
        wanted: a variant's name, or `auto` for the fastest.

    Raises:
        RegistryError: no wanted variant exists, can run and repeats the golden set.
    """
    machine = _machine()
    known = _remembered(folder, manifest, wanted, machine)
    engines = _usable(folder, manifest, known.variant if known else wanted)
    if known:
        return engines[known.variant], known
    plan = choose(engines, manifest.side, machine)
    if wanted == AUTO:
        _remember(folder, plan)
    log.info("calibrated model version %s: %s", manifest.version, json.dumps(asdict(plan)))
    return engines[plan.variant], plan


def choose(engines: Mapping[str, Engine], side: int, machine: dict[str, str]) -> Plan:
    """Measure every engine, interleaved, and take the fastest; the first, unless another is 1.1 times faster."""
    image = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), np.uint8)
    singles: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(_ROUNDS):
        for name, engine in engines.items():
            singles[name].append(_cpu_us(engine, image, _RUNS))
    measured = {name: statistics.median(found) for name, found in singles.items()}
    first = next(iter(engines))
    fastest = min(measured, key=measured.__getitem__)
    chosen = fastest if measured[first] >= _LEAST_GAIN * measured[fastest] else first
    batch = np.repeat(image, BATCH, axis=0)
    together = statistics.median(_cpu_us(engines[chosen], batch, 2) / BATCH for _ in range(_ROUNDS))
    return Plan(
        variant=chosen,
        image_us=measured[chosen],
        batch_gain=measured[chosen] / max(together, 0.1),
        measured=measured,
        machine=machine,
    )


def _usable(folder: Path, manifest: Manifest, wanted: str) -> dict[str, Engine]:
    """The engines of the wanted variants, in the manifest's order."""
    model = f"{manifest.model} version {manifest.version}"
    candidates = [variant for variant in manifest.variants if wanted in {AUTO, variant.name}]
    if not candidates:
        names = ", ".join(variant.name for variant in manifest.variants)
        raise RegistryError(f"{model} has no variant {wanted!r}; set ML_VARIANT to auto or one of {names}")
    golden = read_golden(folder)
    engines: dict[str, Engine] = {}
    complaints: list[str] = []
    for variant in candidates:
        if not runnable(variant):
            complaints.append(f"{variant.name} cannot run on this machine")
            continue
        try:
            engine = open_engine(folder, manifest, variant)
            complaint = golden.complaint(engine(golden.images), variant)
        except RegistryError as error:
            complaint = str(error)
        if complaint is None:
            engines[variant.name] = engine
        else:
            complaints.append(complaint)
            log.warning("model version %s: %s", manifest.version, complaints[-1])
    # where fp32 fails the model is wrong, whatever its variants say
    if not engines or (candidates[0].name == FP32 and FP32 not in engines):
        raise RegistryError(f"{model} cannot be served: {'; '.join(complaints)}")
    return engines


def _cpu_us(engine: Engine, images: Any, runs: int) -> float:
    """CPU microseconds of this thread a run; what others do on the machine hardly moves it."""
    engine(images)
    began = thread_time_ns()
    for _ in range(runs):
        engine(images)
    return (thread_time_ns() - began) / runs / 1000


def _machine() -> dict[str, str]:
    found = {"cpu": sha256_hex(_cpu_model().encode()), "architecture": platform.machine()}
    for package in ("onnxruntime", "openvino"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = ""
    return found


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    # the name alone does not tell: clouds call many generations the same
    return " ".join(line.partition(":")[2].strip() for line in lines[:64] if line.startswith(("model name", "flags", "Features")))


def _remembered(folder: Path, manifest: Manifest, wanted: str, machine: dict[str, str]) -> Plan | None:
    """The plan that was made here, if it still holds."""
    if wanted != AUTO:
        return None
    try:
        plan = TypeAdapter(Plan).validate_json((folder / _FILE_NAME).read_bytes())
    except (OSError, ValidationError):
        return None
    holds = plan.machine == machine and any(variant.name == plan.variant and runnable(variant) for variant in manifest.variants)
    return plan if holds else None


def _remember(folder: Path, plan: Plan) -> None:
    fresh = folder / f".{_FILE_NAME}.{os.getpid()}"
    try:
        fresh.write_text(json.dumps(asdict(plan), indent=2) + "\n", encoding="utf-8")
        fresh.replace(folder / _FILE_NAME)
    except OSError as error:  # it only costs the next start a calibration
        log.warning("the calibration cannot be kept in %s: %s", folder, error.strerror)
