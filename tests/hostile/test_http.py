"""The hostile corpus over HTTP, every way in, and the promise that all ways lead to the same pixels."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import cache
from http import HTTPStatus
from itertools import count, islice
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt

from sre.config import PROJECT
from system.config import MODEL_NAME
from system.contracts import PROBLEM_TYPE, Problem
from system.errors import MlSystemError, RequestRefused, Unavailable
from system.model.artifact import read_manifest, sha256_hex
from system.model.engines import open_engine
from system.serving import protocol  # noqa: F401 - has refusals of its own
from system.storage.objects import FolderStore
from system.training.features import features
from system.training.ingest import BUCKET, Dataset, ImageFile, render
from system.training.preprocess import Splits
from tests.hostile.images import JPEG, PNG, WEBP, Hostile, corpus, encode, picture
from tests.system.serving.conftest import KEY

COUNT, WARM_UP, SAMPLE, SEED = 10_000, 1_000, 500, 1
GROWTH_MB = 60
TIMEOUT_S = 10
CONNECTIONS = 4
MAX_PIXELS = 2_000_000
V1, V2 = f"/v1/models/{MODEL_NAME}:predict", f"/v2/models/{MODEL_NAME}/infer"
BOUNDARY = "the-boundary-that-no-image-holds"
TABLE = re.compile(r"^\| `([a-z-]+)` \| (\d{3}) \|", re.MULTILINE)


@dataclass
class Call:
    """One POST.

    Attributes:
        name: of what it carries.
        path: of the request.
        fields: besides Host, Content-Length, the key and the id.
        body: the bytes.
    """

    name: str
    path: str
    fields: dict[str, str]
    body: bytes


def raw(item: Hostile) -> Call:
    return Call(item.name, "/predict", {"Content-Type": item.media_type}, item.body)


def form(item: Hostile) -> Call:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="x"\r\nContent-Type: {item.media_type}\r\n\r\n'
    body = head.encode() + item.body + f"\r\n--{BOUNDARY}--\r\n".encode()
    return Call(item.name, "/predict", {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}, body)


def v1(item: Hostile) -> Call:
    document = {"instances": [{"b64": base64.b64encode(item.body).decode()}]}
    return Call(item.name, V1, {"Content-Type": "application/json"}, json.dumps(document).encode())


def v2_json(item: Hostile) -> Call:
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [base64.b64encode(item.body).decode()]}
    return Call(item.name, V2, {"Content-Type": "application/json"}, json.dumps({"inputs": [tensor]}).encode())


def v2_binary(item: Hostile) -> Call:
    data = len(item.body).to_bytes(4, "little") + item.body
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    fields = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return Call(item.name, V2, fields, head + data)


WAYS: dict[str, Callable[[Hostile], Call]] = {"raw": raw, "form": form, "V1": v1, "V2 JSON": v2_json, "V2 binary": v2_binary}


@dataclass
class Attack:
    """Sends calls over keep-alive connections and judges each answer."""

    port: int
    wrong: list[str] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    numbers: Iterator[int] = field(default_factory=count)

    async def send(self, calls: Iterable[Call]) -> None:
        waiting = iter(calls)
        await asyncio.gather(*[self._connection(waiting) for _ in range(CONNECTIONS)])

    async def _connection(self, waiting: Iterator[Call]) -> None:
        """One connection after the other, as long as there are calls; the server ends one when it refuses a body unread."""
        call = next(waiting, None)
        while call is not None:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            with closing(writer):
                stays = True
                while call is not None and stays:
                    try:
                        async with asyncio.timeout(TIMEOUT_S):
                            stays = await self._exchange(reader, writer, call)
                    except (TimeoutError, OSError, EOFError) as error:
                        self.wrong.append(f"{call.path} {call.name}: {error!r}")
                        stays = False
                    call = next(waiting, None)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, call: Call) -> bool:
        """Whether the connection stays."""
        request_id = f"attack-{next(self.numbers)}"
        fields = call.fields | {"Host": "x", "X-API-Key": KEY, "X-Request-ID": request_id, "Content-Length": str(len(call.body))}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        writer.write(f"POST {call.path} HTTP/1.1\r\n{lines}\r\n".encode() + call.body)
        with suppress(ConnectionError):  # it refused, and the answer is there all the same
            await writer.drain()
        first, *rest = (await reader.readuntil(b"\r\n\r\n")).decode().rstrip().split("\r\n")
        found = dict(line.lower().split(": ", 1) for line in rest)
        body = await reader.readexactly(int(found["content-length"]))
        self._judge(call, int(first.split()[1]), found, body, request_id)
        return found.get("connection") != "close"

    def _judge(self, call: Call, status: int, found: dict[str, str], body: bytes, request_id: str) -> None:
        outcome = "answered"
        if found["x-request-id"] != request_id:
            self.wrong.append(f"{call.path} {call.name}: answer of another request")
        if status != 200:
            problem = Problem.model_validate_json(body)
            outcome = problem.code
            if found["content-type"] != PROBLEM_TYPE or status >= 500 or (problem.code, status) not in documented():
                self.wrong.append(f"{call.path} {call.name}: {status} {found['content-type']} {body!r}")
        self.outcomes[outcome] += 1


@cache
def documented() -> set[tuple[str, int]]:
    """Code and status of each row of the README's table."""
    section = (PROJECT / "README.md").read_text().partition("### Refusals\n")[2].partition("\n## ")[0]
    return {(code, int(status)) for code, status in TABLE.findall(section)}


def probabilities(url: str, call: Call) -> npt.NDArray[np.float32]:
    """Of one image, whatever the way."""
    response = httpx.post(url + call.path, content=call.body, headers=call.fields | {"X-API-Key": KEY}, timeout=TIMEOUT_S)
    assert response.status_code == 200, response.text
    if (length := response.headers.get("Inference-Header-Content-Length")) is not None:
        return np.frombuffer(response.content, "<f4", 10, int(length))
    document = response.json()
    if "outputs" in document:
        found = document["outputs"][0]["data"]
    else:
        found = document.get("predictions", [document])[0]["probabilities"]
    exact = np.array(found, np.float32)
    assert exact.tolist() == found
    return exact


async def test_ten_thousand_hostile_images_break_nothing_and_leave_nothing(serve: Callable[..., Any]) -> None:
    process = serve(max_pixels=MAX_PIXELS)
    good = raw(Hostile("good", encode(picture(), "JPEG"), JPEG))
    before = probabilities(process.url, good)
    attack = Attack(process.port)
    calls = map(raw, corpus(COUNT, SEED))
    await attack.send(islice(calls, WARM_UP))
    warm_mb = process.rss_mb()
    await attack.send(calls)
    assert sum(attack.outcomes.values()) == COUNT
    assert min(attack.outcomes[outcome] for outcome in ("answered", "invalid-image", "unsupported-media-type")) > 50
    for way in (form, v1, v2_binary):
        other = Attack(process.port, attack.wrong)
        await other.send(map(way, islice(corpus(COUNT, SEED), 0, None, COUNT // SAMPLE)))
        assert sum(other.outcomes.values()) == SAMPLE
        assert other.outcomes["answered"] > 50, way
    assert attack.wrong == []
    assert process.rss_mb() - warm_mb < GROWTH_MB
    assert np.array_equal(probabilities(process.url, good), before)


def test_every_way_in_gives_the_same_bits(serve: Callable[..., Any]) -> None:
    process = serve()
    images = [
        Hostile(f"{kind} {size}", encode(picture(*size), kind), media_type)
        for kind, media_type in (("JPEG", JPEG), ("PNG", PNG), ("WEBP", WEBP))
        for size in ((48, 40), (300, 200), (32, 32))
    ]
    for image in images:
        found = {name: probabilities(process.url, way(image)) for name, way in WAYS.items()}
        assert {name for name, each in found.items() if not np.array_equal(each, found["raw"])} == set(), image.name
    assert len({probabilities(process.url, raw(image)).tobytes() for image in images}) > len(images) // 2


def test_what_is_served_is_inferred_from_the_pixels_that_training_sees(serve: Callable[..., Any], place: Any) -> None:
    process = serve()
    objects, version, rng = FolderStore(place.root / "objects"), "2026-01-02-030405", np.random.default_rng(1)
    bodies: dict[str, Hostile] = {}
    for number in range(20):
        body, suffix, media_type = render(rng.integers(0, 17, (8, 8)).astype(np.float64), as_jpeg=number % 2 == 0)
        bodies[f"0/{number:04}.{suffix}"] = Hostile(str(number), body, media_type)
        objects.put(BUCKET, f"{version}/0/{number:04}.{suffix}", body)
    files = tuple(
        ImageFile(path=path, label=0, media_type=each.media_type, sha256=sha256_hex(each.body)) for path, each in bodies.items()
    )
    paths = tuple(bodies)
    splits = Splits(seed=1, train=paths, validation=paths[:1], test=paths[:1])
    trained = features(objects, Dataset(version=version, source="noise", files=files), splits).train
    folder = place.root / "objects" / "ml-models-production" / MODEL_NAME / "1"
    manifest = read_manifest(folder)
    engine = open_engine(folder, manifest, manifest.variants[0])
    for path, pixels in zip(paths, trained.images, strict=True):
        assert np.array_equal(probabilities(process.url, raw(bodies[path])), engine(pixels[np.newaxis])[0]), path


def refusals() -> set[tuple[str, int]]:
    """Code and status of whatever is answered on purpose: by the service, by its framework's router, by the ingress."""

    def below(error: type[MlSystemError]) -> Iterator[type[MlSystemError]]:
        yield error
        for each in error.__subclasses__():
            yield from below(each)

    template = (PROJECT / "system/ingress/nginx.conf.j2").read_text()
    ingress = {(code, int(status)) for status, code in re.findall(r'\((\d{3}), "[^"]+", "([a-z-]+)", (?:true|false)\)', template)}
    assert len(ingress) > 10
    router = {(HTTPStatus(status).phrase.lower().replace(" ", "-"), status) for status in (404, 405)}
    raised = {(error.code, error.status) for base in (RequestRefused, Unavailable) for error in below(base)}
    return raised | router | ingress | {(MlSystemError.code, MlSystemError.status)}


def test_the_readme_lists_every_code_and_no_other() -> None:
    assert documented() == refusals()
