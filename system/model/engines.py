"""The engines that run a graph: images in, probabilities out. Training, evaluation and serving all run graphs through here.

An engine computes in the thread that calls it and takes one call at a time. Measured with ResNet-8 at batch 1: ONNX Runtime
takes 237 us; with its input and output bound 233, and 8 less in a server, where the code around the kernels is cold; its memory
and denormal settings change nothing. OpenVINO takes 253 us for the same float32 graph, so it has no variant of that. For int8
it takes 152 us when its own input tensor is filled, 178 to 266 when it is handed an array, and 15 more when the batch size is
free.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from system.errors import RegistryError
from system.model.artifact import (
    INPUT_NAME,
    ONNX_NAME,
    OUTPUT_NAME,
    EngineName,
    Golden,
    Manifest,
    Precision,
    Probabilities,
    Variant,
)
from system.model.transform import SIDE, Pixels

_BATCH = 64  # beyond it nothing gets faster, only the memory grows


class Engine(Protocol):
    """A graph that is ready to run."""

    def __call__(self, images: Pixels, /) -> Probabilities:
        """Float32 (n, classes) for images, uint8 (n, side, side, 3), n at least 1; no later call writes to it."""
        ...


class _OnnxRuntime:
    def __init__(self, path: Path) -> None:
        onnxruntime = _onnxruntime()
        options = onnxruntime.SessionOptions()
        # one process per core: threads of the runtime would only fight with those of the other processes
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3  # errors only: nobody can act on a warning about a graph that passed its gate
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._one: Any = None
        self._image: Pixels
        self._answer: Probabilities

    def __call__(self, images: Pixels) -> Probabilities:
        if len(images) == 1 and self._one is not None:
            self._image[:] = images
            self._session.run_with_iobinding(self._one)
            return self._answer.copy()
        found: Probabilities = self._session.run([OUTPUT_NAME], {INPUT_NAME: images})[0]
        if len(images) == 1:
            self._image, self._answer = images.copy(), found.copy()
            self._one = self._session.io_binding()
            self._one.bind_cpu_input(INPUT_NAME, self._image)
            self._one.bind_output(OUTPUT_NAME, "cpu", 0, found.dtype, found.shape, self._answer.ctypes.data)
        return found


class _OpenVino:
    def __init__(self, path: Path, precision: Precision, side: int) -> None:
        self._path = path
        # Left alone it computes in bf16 wherever the processor can; int8 parts of a graph are int8 with either.
        self._float = "bf16" if precision == "bf16" else "f32"
        self._one = self._request([1, side, side, 3])
        self._image = self._one.get_input_tensor().data
        self._answer: Probabilities = self._one.get_output_tensor().data
        self._many: Any = None

    def __call__(self, images: Pixels) -> Probabilities:
        if len(images) == 1:
            self._image[:] = images
            self._one.infer()
            return self._answer.copy()
        if self._many is None:
            self._many = self._request([-1, *images.shape[1:]])
        self._many.set_input_tensor(_openvino().Tensor(images))
        self._many.infer()
        answer: Probabilities = self._many.get_output_tensor().data
        return answer.copy()

    def _request(self, shape: list[int]) -> Any:
        model = _core().read_model(self._path)
        model.reshape(shape)
        settings = {
            "INFERENCE_NUM_THREADS": 1,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": self._float,
            "ENABLE_CPU_PINNING": False,  # each process would pin itself to the machine's first core
        }
        return _core().compile_model(model, "CPU", settings).create_infer_request()


def runnable(variant: Variant) -> bool:
    """Whether this machine has what the variant needs: the library, and for bf16 a processor that can compute in it."""
    return supported(variant.engine, variant.precision)


def supported(engine: EngineName, precision: Precision) -> bool:
    """Whether this machine has the library, and for bf16 a processor that can compute in it."""
    if engine == "onnxruntime":
        return True
    if importlib.util.find_spec("openvino") is None:
        return False
    return precision != "bf16" or "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def open_engine(folder: Path, manifest: Manifest, variant: Variant) -> Engine:
    """The engine for one variant of a verified folder; it has answered a blank image.

    Raises:
        RegistryError: the graph cannot be run here, or does not answer as the manifest promises.
    """
    path = folder / variant.file
    engine = open_graph(path, variant.engine, variant.precision, side=manifest.side)
    try:
        found = engine(np.zeros((1, manifest.side, manifest.side, 3), np.uint8))
    except Exception as error:  # the engines' exceptions have no common base
        raise _cannot_run(path, variant.engine, error) from error
    if found.dtype != np.float32 or found.shape != (1, len(manifest.labels)) or not abs(float(found.sum()) - 1) <= 1e-2:
        raise RegistryError(
            f"{path} answers {found.dtype} {found.shape} with sum {float(found.sum()):.4g} as {variant.name}, "
            f"not float32 (1, {len(manifest.labels)}) with sum 1; register the model again"
        )
    return engine


def open_graph(path: Path, engine: EngineName = "onnxruntime", precision: Precision = "fp32", *, side: int = SIDE) -> Engine:
    """The engine for a graph, whatever it answers.

    Args:
        path: the ONNX file.
        engine: library that runs it.
        precision: that it computes in where the graph says float32.
        side: height and width of its images, pixels.

    Raises:
        RegistryError: the file cannot be run here.
    """
    try:
        return _OnnxRuntime(path) if engine == "onnxruntime" else _OpenVino(path, precision, side)
    except Exception as error:  # the engines' exceptions have no common base
        raise _cannot_run(path, engine, error) from error


def answers(engine: Engine, images: Pixels) -> Probabilities:
    """Float32 (n, classes) for any number of images, uint8 (n, side, side, 3), in batches."""
    return np.concatenate([engine(images[start : start + _BATCH]) for start in range(0, len(images), _BATCH)])


def golden(folder: Path, images: Pixels) -> Golden:
    """What the folder's float32 graph says about images, uint8 (n, side, side, 3), n at least 1."""
    return Golden(images, answers(open_graph(folder / ONNX_NAME), images))


def _cannot_run(path: Path, engine: str, error: Exception) -> RegistryError:
    return RegistryError(f"{path} cannot be run by {engine}: {error}; register the model again")


@cache
def _onnxruntime() -> Any:
    # Read at its import: else a thread of it sends usage data, and an identifier is written into the home folder.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    return importlib.import_module("onnxruntime")


@cache
def _core() -> Any:
    return _openvino().Core()


@cache
def _openvino() -> Any:
    # Importing openvino sends usage data and writes an identifier into the home folder; without this package it does neither.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # Python's own way to say "cannot be imported"
    return importlib.import_module("openvino")  # half a second, and only a variant that asks for it pays
