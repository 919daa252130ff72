from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch

from sre.drills.canary_site import LocalSite
from sre.errors import CannotRun, StepFailed
from sre.faults import model
from sre.faults.model import BUCKET, Defect, Place, register
from sre.targets.local.target import LocalTarget
from sre.targets.objects import Folder
from sre.targets.registry import MODEL, PRODUCTION, Registry
from system.config import MODEL_NAME
from system.model import artifact, engines
from system.model.artifact import FP32, MANIFEST_NAME, ONNX_NAME, Facts
from system.model.export import export_onnx
from system.model.network import ResNet8
from system.model.transform import Pixels
from tests.mlflow_server import first_version

Images = npt.NDArray[np.uint8]


def pixels(count: int, seed: int = 3) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact of a network with weights of its own that often says 3, as training leaves it; nobody writes to it."""
    torch.manual_seed(7)
    network = ResNet8(np.array([120, 110, 100], np.float32), np.array([60, 61, 62], np.float32))
    network.train()
    network(torch.from_numpy(pixels(64)))
    with torch.no_grad():
        network.head.bias[3] += 0.5
    folder = tmp_path_factory.mktemp("sealed")
    export_onnx(network, folder / ONNX_NAME)
    only = artifact.describe(folder, FP32, accuracy=0.99, agreement=1.0)
    facts = Facts(
        model=MODEL, version="1", labels=tuple("0123456789"), metrics={"accuracy": 0.99}, dataset_version="2026-01-01-120000",
        git_sha="unknown",
    )  # fmt: skip
    artifact.seal(folder, facts, [only], engines.golden(folder, pixels(32)))
    return folder


@pytest.fixture(scope="module")
def graph(sealed: Path) -> bytes:
    return (sealed / ONNX_NAME).read_bytes()


@pytest.fixture
def place(sealed: Path, mlflow_url: str, tmp_path: Path) -> Place:
    """Where a version, as training leaves it, is in production."""
    made = Place(Folder(tmp_path), Registry(mlflow_url))
    number = first_version(mlflow_url, MODEL)
    made.registry.name(PRODUCTION, number)
    shutil.copytree(sealed, folder_of(made, number))
    return made


def folder_of(place: Place, version: str) -> Path:
    """Where the system keeps the files of a version."""
    assert isinstance(place.objects, Folder)
    return place.objects.root / BUCKET / MODEL / version


def opened(graph: bytes, folder: Path) -> engines.Engine:
    """The graph in the engine that the servers run it in."""
    (folder / ONNX_NAME).write_bytes(graph)
    return engines.open_graph(folder / ONNX_NAME)


def kinds(graph: bytes) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load_from_string(graph).graph.node)


def edited(graph: bytes, defect: Defect, *, extra_s: float = 0.0, failing: Sequence[Images] = ()) -> bytes:
    return model._edited(graph, defect, extra_s, failing, pixels(1))


def test_the_names_are_those_of_the_system() -> None:
    assert (MODEL, model.SCHEMA) == (MODEL_NAME, artifact.SCHEMA)


def test_production_under_a_new_number_is_production(graph: bytes) -> None:
    assert edited(graph, "none") == graph


def test_layers_that_take_time_change_no_bit_of_an_answer(graph: bytes, tmp_path: Path) -> None:
    for layers in (1, 7):
        slowed = model._with(graph, lambda found, count=layers: model._burn(found, count))  # type: ignore[misc]
        assert kinds(slowed)["Relu"] - kinds(graph)["Relu"] == layers
        assert kinds(slowed)["MatMul"] - kinds(graph)["MatMul"] == layers
        for images in (pixels(1), pixels(8), np.zeros((2, 32, 32, 3), np.uint8), np.full((2, 32, 32, 3), 255, np.uint8)):
            np.testing.assert_array_equal(model._session(slowed)(images), model._session(graph)(images))


def test_no_layer_that_takes_time_is_taken_out_by_the_engine(graph: bytes, tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    slowed = model._with(graph, lambda found: model._burn(found, 20))
    onnxruntime.InferenceSession(slowed, options, providers=["CPUExecutionProvider"])
    left = Counter(node.op_type for node in onnx.load(str(tmp_path / "optimised.onnx"), load_external_data=False).graph.node)
    assert left["MatMul"] + left["FusedMatMul"] + left["FusedGemm"] >= 20


def test_more_time_takes_more_layers(graph: bytes) -> None:
    # By orders of magnitude, so that no noise of a measurement can turn it round.
    least = kinds(edited(graph, "slow", extra_s=0.0))["MatMul"]
    assert least == kinds(graph)["MatMul"] + 1
    assert kinds(edited(graph, "slow", extra_s=0.02))["MatMul"] > least + 5


def test_a_failing_model_fails_on_those_images_alone(graph: bytes, tmp_path: Path) -> None:
    images = shades()
    chosen = [images[5], images[40]]
    engine = opened(edited(graph, "failing", failing=chosen), tmp_path)
    for number, image in enumerate(images):
        if number in {5, 40}:
            with pytest.raises(Exception, match="indices element out of data bounds"):
                engine(image[None])
        else:
            np.testing.assert_array_equal(engine(image[None]), model._session(graph)(image[None]))


def shades() -> Images:
    """64 images of which no two are as dark as each other."""
    return np.arange(0, 256, 4, dtype=np.uint8)[:, None, None, None] // 2 + pixels(64, seed=9) // 2


def test_one_such_image_fails_its_whole_batch(graph: bytes, tmp_path: Path) -> None:
    images = shades()[:8]
    engine = opened(edited(graph, "failing", failing=[images[3]]), tmp_path)
    assert engine(images[:3]).shape == (3, 10)
    with pytest.raises(Exception, match="indices element out of data bounds"):
        engine(images)


def test_a_model_that_misnames_never_says_3_and_says_8_instead(graph: bytes, tmp_path: Path) -> None:
    images = pixels(40)
    before, after = model._session(graph)(images), opened(edited(graph, "wrong-classes"), tmp_path)(images)
    assert (before.argmax(axis=1) == 3).any()
    assert (after[:, 3] == 0).all()
    np.testing.assert_allclose(after[:, 8], before[:, 3] + before[:, 8], rtol=1e-6)
    others = [0, 1, 2, 4, 5, 6, 7, 9]
    np.testing.assert_array_equal(after[:, others], before[:, others])
    np.testing.assert_allclose(after.sum(axis=1), 1.0, rtol=1e-5)


@pytest.mark.parametrize("defect", get_args(Defect))
def test_what_is_registered_is_vouched_for_and_agrees_with_its_golden_answers(place: Place, defect: Defect) -> None:
    of = place.named(PRODUCTION)
    version = register(place, defect, extra_s=0.001, failing=[pixels(1, seed=5)[0]])
    folder = folder_of(place, version)
    manifest = artifact.verify(folder)
    assert (manifest.version, manifest.model, manifest.dataset_version) == (version, MODEL, "2026-01-01-120000")
    assert [variant.name for variant in manifest.variants] == [FP32]
    made = place.registry.version(version)
    assert made is not None
    assert made.tags == {
        "sha256": manifest.sha256, "dataset_version": manifest.dataset_version, "planted_defect": defect,
        "manifest_sha256": artifact.sha256_file(folder / MANIFEST_NAME),
    }  # fmt: skip
    # MLflow hands out the files of this version, not of the one that it was made from.
    for path in folder.iterdir():
        assert place.registry.sha256(made, path.name) == artifact.sha256_file(path)
    golden = artifact.read_golden(folder)
    np.testing.assert_array_equal(golden.images, artifact.read_golden(folder_of(place, of.number)).images)
    engine = engines.open_engine(folder, manifest, manifest.variants[0])
    assert golden.complaint(engine(golden.images), manifest.variants[0]) is None
    assert artifact.verify(folder_of(place, of.number)).version == "1"
    assert place.named(PRODUCTION) == of


def untouched(place: Place) -> bool:
    """Whether there is no version after the one in production, neither in the registry nor in the bucket."""
    of = place.named(PRODUCTION).number
    return place.registry.version(str(int(of) + 1)) is None and [one.name for one in folder_of(place, of).parent.iterdir()] == [
        of
    ]


def test_a_defect_that_golden_images_would_show_is_not_registered(place: Place) -> None:
    image = artifact.read_golden(folder_of(place, place.named(PRODUCTION).number)).images[7]
    with pytest.raises(StepFailed, match=r"the defect 'failing' shows in the golden images already .*; choose other images"):
        register(place, "failing", failing=[image])
    assert untouched(place)


def test_a_model_of_another_schema_is_left_alone(place: Place) -> None:
    of = place.named(PRODUCTION).number
    manifest = folder_of(place, of) / MANIFEST_NAME
    manifest.write_text(manifest.read_text(encoding="utf-8").replace(model.SCHEMA, "ml.model/9"), encoding="utf-8")
    with pytest.raises(CannotRun, match=f"version {of} of {MODEL} is ml.model/9, not {model.SCHEMA}; train a model first"):
        register(place, "none")
    assert untouched(place)


def test_an_alias_that_nobody_has_is_told(place: Place) -> None:
    with pytest.raises(StepFailed, match=f"no version of {MODEL} has the alias nobody; train a model first"):
        place.named("nobody")


def test_a_version_lies_where_the_system_keeps_it(tmp_path: Path) -> None:
    Place(Folder(tmp_path), Registry("")).write("7", "model.onnx", b"a graph")
    assert (tmp_path / BUCKET / MODEL / "7" / "model.onnx").read_bytes() == b"a graph"


@pytest.mark.local
def test_a_server_takes_a_model_with_a_defect_like_any_other(system: LocalTarget) -> None:
    router = system.router
    before: dict[str, Any] = system.versions()
    with LocalSite(system).models() as place:
        version = register(place, "wrong-classes")
    try:
        router.begin(version)
        split = router.split()
        assert split is not None
        assert (split.version, split.production) == (version, place.named(PRODUCTION).number)
        assert all(replica.ready for replica in split.replicas)
    finally:
        router.end()
    assert router.split() is None
    assert system.versions() == before
