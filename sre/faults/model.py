"""Models with a planted defect, registered like any other, so that nothing in the server knows of them.

A defect is an edit of the graph in production. The golden answers are computed anew from the edited graph and every checksum is
written anew, so the loader takes the model: what is wrong with it only its users can find out.

In the bucket, a version is `model.onnx`, `golden.npz` and `manifest.json`, schema `ml.model/2`; the registry's tags `sha256` and
`manifest_sha256` vouch for graph and manifest.
"""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sre.errors import CannotRun, StepFailed
from sre.targets.objects import Objects
from sre.targets.registry import MODEL, PRODUCTION, Registry, Version

BUCKET = "ml-models-production"
SCHEMA = "ml.model/2"
Defect = Literal["none", "slow", "failing", "wrong-classes"]
_SAMPLES = 60
_WIDTH = 64  # of the layer whose repetition costs time


@dataclass(frozen=True, slots=True)
class Place:
    """Where models are.

    Attributes:
        objects: the object store.
        registry: of its models.
    """

    objects: Objects
    registry: Registry

    def read(self, version: str, name: str) -> bytes:
        """A file of one version."""
        return self.objects.get(BUCKET, f"{MODEL}/{version}/{name}")

    def write(self, version: str, name: str, content: bytes) -> None:
        """Write a file of one version."""
        self.objects.put(BUCKET, f"{MODEL}/{version}/{name}", content)

    def named(self, alias: str) -> Version:
        """The version that has an alias.

        Raises:
            StepFailed: there is none, or the registry does not say.
        """
        found = self.registry.named(alias)
        if found is None:
            raise StepFailed(f"no version of {MODEL} has the alias {alias}; train a model first")
        return found


def register(place: Place, defect: Defect, *, extra_s: float = 0.0, failing: Sequence[npt.NDArray[np.uint8]] = ()) -> str:
    """Register a version that is the one in production with a defect.

    Args:
        place: where models are.
        defect: `slow` takes `extra_s` longer for each image; `failing` raises on images that are as dark on average as one of
            `failing`, to a thousandth of a grey level; `wrong-classes` calls each 3 an 8; `none` is production under a new
            number.
        extra_s: for `slow`, s.
        failing: for `failing`: uint8 (32, 32, 3) each.

    Returns:
        The new version. It has no alias, and stays in the registry as every version does.

    Raises:
        StepFailed: the registry refuses, or the defect would show in the golden answers.
        CannotRun: the model in production is of another schema.
    """
    of = place.named(PRODUCTION)
    manifest: dict[str, Any] = json.loads(place.read(of.number, "manifest.json"))
    if manifest.get("schema") != SCHEMA:
        raise CannotRun(f"version {of.number} of {MODEL} is {manifest.get('schema')}, not {SCHEMA}; train a model first")
    with np.load(io.BytesIO(place.read(of.number, "golden.npz")), allow_pickle=False) as arrays:
        images = arrays["images"]
    graph = _edited(place.read(of.number, "model.onnx"), defect, extra_s, failing, images[:1])
    try:
        answers = _session(graph)(images)
    except Exception as error:
        raise StepFailed(f"the defect {defect!r} shows in the golden images already ({error}); choose other images") from error
    packed = io.BytesIO()
    np.savez(packed, images=images, probabilities=answers)
    return _store(place, of, manifest, {"model.onnx": graph, "golden.npz": packed.getvalue()}, defect)


def _store(place: Place, of: Version, manifest: dict[str, Any], files: dict[str, bytes], defect: Defect) -> str:
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    tags = {"sha256": digests["model.onnx"], "dataset_version": manifest["dataset_version"], "planted_defect": defect}
    made = place.registry.create(of, tags)
    # A variant of its own would need a gate of its own: the graph in float32 is enough.
    first = {**manifest["variants"][0], "sha256": digests["model.onnx"]}
    vouched = {
        **manifest, "version": made.number, "sha256": digests["model.onnx"], "golden_sha256": digests["golden.npz"],
        "variants": [first],
    }  # fmt: skip
    document = (json.dumps(vouched, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()
    for name, content in {**files, "manifest.json": document}.items():
        place.registry.put(made, name, content)
        place.write(made.number, name, content)
    place.registry.tag(made, "manifest_sha256", hashlib.sha256(document).hexdigest())
    return made.number


def _edited(
    graph: bytes, defect: Defect, extra_s: float, failing: Sequence[npt.NDArray[np.uint8]], image: npt.NDArray[np.uint8]
) -> bytes:
    if defect == "none":
        return graph
    if defect == "slow":
        return _slowed(graph, extra_s, image)
    if defect == "failing":
        return _with(graph, lambda model: _fail_on(model, failing))
    return _with(graph, _misname)


def _with(graph: bytes, edit: Callable[[Any], None]) -> bytes:
    """The graph with nodes between what it computed and its output `probabilities`."""
    import onnx  # noqa: PLC0415 - heavy, and most commands plant nothing

    model = onnx.load_from_string(graph)
    output = model.graph.output[0].name
    for node in model.graph.node:
        for index, name in enumerate(node.output):
            if name == output:
                node.output[index] = "honest"
    edit(model)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _constant(model: Any, name: str, value: npt.NDArray[Any]) -> str:
    from onnx import numpy_helper  # noqa: PLC0415 - see _with

    model.graph.initializer.append(numpy_helper.from_array(value, name))
    return name


def _node(model: Any, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
    from onnx import helper  # noqa: PLC0415 - see _with

    model.graph.node.append(helper.make_node(kind, list(inputs), [output], name=f"planted_{output}", **attributes))
    return output


def _misname(model: Any) -> None:
    """Each 3 becomes an 8: a tenth of all predictions moves."""
    moved = np.eye(10, dtype=np.float32)
    moved[3] = moved[8]
    _node(model, "MatMul", ["honest", _constant(model, "moved", moved)], model.graph.output[0].name)


def _means(model: Any) -> str:
    """Mean grey of each image, float32 (batch,)."""
    pixels = _node(model, "Cast", [model.graph.input[0].name], "pixels", to=1)
    return _node(model, "ReduceMean", [pixels], "means", axes=[1, 2, 3], keepdims=0)


def _fail_on(model: Any, failing: Sequence[npt.NDArray[np.uint8]]) -> None:
    """A look-up in a table of one entry, which for those images asks for another."""
    wanted = np.array([[float(image.astype(np.float32).mean())] for image in failing], np.float32)
    apart = _node(model, "Sub", [_means(model), _constant(model, "wanted", wanted)], "apart")
    near = _node(
        model, "Less", [_node(model, "Abs", [apart], "distance"), _constant(model, "step", np.array(1e-3, np.float32))], "near"
    )
    any_near = _node(model, "ReduceMax", [_node(model, "Cast", [near], "hit", to=7)], "any_near", keepdims=0)
    looked = _node(model, "Gather", [_constant(model, "table", np.zeros(1, np.float32)), any_near], "looked")
    _node(model, "Add", ["honest", looked], model.graph.output[0].name)


def _slowed(graph: bytes, extra_s: float, image: npt.NDArray[np.uint8]) -> bytes:
    """As many layers as take that long here, of which nothing reaches the answer."""

    def layered(count: int) -> bytes:
        return _with(graph, lambda model: _burn(model, count))

    unit = 8
    base, more = _took(graph, image), _took(layered(unit), image)
    each = max((more - base) / unit, 1e-7)
    return layered(max(1, round(extra_s / each)))


def _burn(model: Any, layers: int) -> None:
    seed = _node(model, "ReduceMean", [_means(model)], "grey", keepdims=0)
    weights = _constant(model, "weights", np.full((_WIDTH, _WIDTH), 1.0 / _WIDTH, np.float32))
    at = _node(model, "Add", [_constant(model, "ones", np.ones((_WIDTH, _WIDTH), np.float32)), seed], "burn_0")
    for layer in range(1, layers + 1):
        at = _node(model, "Relu", [_node(model, "MatMul", [at, weights], f"product_{layer}")], f"burn_{layer}")
    least = _node(model, "ReduceMin", [at], "least", keepdims=0)
    nothing = _node(model, "Min", [least, _constant(model, "zero", np.array(0, np.float32))], "nothing")
    _node(model, "Add", ["honest", nothing], model.graph.output[0].name)


def _session(graph: bytes) -> Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]:
    import onnxruntime  # noqa: PLC0415 - see _with

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def run(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        found: npt.NDArray[np.float32] = session.run(["probabilities"], {"image": images})[0]
        return found

    return run


def _took(graph: bytes, image: npt.NDArray[np.uint8]) -> float:
    """Median seconds of one prediction."""
    run = _session(graph)
    taken = []
    for _ in range(_SAMPLES):
        began = time.perf_counter()
        run(image)
        taken.append(time.perf_counter() - began)
    return float(np.median(taken))
