"""What the real service is compared with: the same server, transform and engine, and nothing else.

`python -m tests.bench.bare raw|hot PORT WORKERS` serves POST on 127.0.0.1 with uvicorn, uvloop and httptools, a SO_REUSEPORT
socket for each worker. `raw` reads the body and answers; `hot` decodes, infers and answers with the probabilities.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import uvicorn

from system.model.transform import JPEG, to_tensor

MAX_PIXELS = 40_000_000

Answer = Callable[[bytes], bytes]
Engine = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]


def engine(path: Path) -> Engine:
    """The graph in ONNX Runtime with the session settings that every server here uses: one thread that never spins."""
    import onnxruntime  # noqa: PLC0415 - `raw` needs none

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"image": images})[0]


def preprocess(side: int) -> Callable[[bytes], npt.NDArray[np.uint8]]:
    """The system's own transform for a side of the model's input."""
    return lambda body: to_tensor(body, JPEG, max_pixels=MAX_PIXELS, side=side)


def document(probabilities: npt.NDArray[np.float32]) -> bytes:
    """The answer that every server gives in its own words."""
    label = int(probabilities[0].argmax())
    values = probabilities[0].tolist()
    return orjson.dumps({"label": str(label), "confidence": values[label], "probabilities": values})


def hot(path: Path, side: int) -> Answer:
    """Decode, infer, answer."""
    transform, infer = preprocess(side), engine(path)
    return lambda body: document(infer(transform(body)))


def application(answer: Answer) -> Callable[..., Any]:
    """An ASGI application that reads a whole body and answers with JSON."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        chunks, more = [], True
        while more:
            message = await receive()
            chunks.append(message.get("body", b""))
            more = message.get("more_body", False)
        found = answer(b"".join(chunks))
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(found)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": found})

    return app


def serve(kind: str, port: int) -> None:
    """One worker."""
    answer: Answer = (
        (lambda _: b'{"label":"0"}') if kind == "raw" else hot(Path(os.environ["BENCH_MODEL"]), int(os.environ["BENCH_SIDE"]))
    )
    config = uvicorn.Config(
        application(answer), loop="uvloop", http="httptools", ws="none", lifespan="off", log_config=None, access_log=False,
        server_header=False, proxy_headers=False,
    )  # fmt: skip
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(2048)
        uvicorn.Server(config).run(sockets=[listener])


def main() -> None:
    """Serve until SIGTERM."""
    kind, port, workers = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    if workers == 1:
        serve(kind, port)
        return
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=serve, args=(kind, port)) for _ in range(workers)]
    for process in processes:
        process.start()

    def stop(_number: int, _frame: FrameType | None) -> None:
        for process in processes:
            process.terminate()

    signal.signal(signal.SIGTERM, stop)
    for process in processes:
        process.join()


if __name__ == "__main__":
    main()
