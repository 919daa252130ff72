"""The Secret over an API server made of a dict, and replicas that are real servers."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from sre.errors import StepFailed
from sre.targets.keys import ASKED, KNOWN, UNKNOWN
from sre.targets.kubernetes.client import Api
from sre.targets.kubernetes.keys import KubernetesKeys
from sre.targets.kubernetes.slots import Slot
from tests.sre.targets.kubernetes.conftest import Served

SECRET = "/api/v1/namespaces/ml-system/secrets/ml-api-keys"
OTHER = {"name": "drills", "sha256": "0" * 64}


class _Replica(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        known = self.path == ASKED and self.headers["X-API-Key"] == "known"
        self.send_response(KNOWN if known else UNKNOWN)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def replica() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Replica) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def secret(*entries: dict[str, Any]) -> dict[str, Any]:
    text = json.dumps({"keys": entries})
    return {"metadata": {"resourceVersion": "17"}, "data": {"api-keys.json": base64.b64encode(text.encode()).decode()}}


def keys_of(api: Api, port: int = 0) -> KubernetesKeys:
    slots = [Slot("serving-1", "a", "1@a", 0), Slot("serving-2", "b", "", 0), Slot("serving-3", "gone", "3@gone", 0)]

    def connect(pod: str) -> socket.socket:
        if pod == "gone":
            raise ConnectionError("no such pod")
        return socket.create_connection(("127.0.0.1", port))

    return KubernetesKeys(api, "ml-system", lambda: slots, connect)


def test_a_holder_is_listed_beside_the_others_as_the_list_was_read(served: Served, api: Api) -> None:
    served.objects[SECRET] = secret(OTHER, {"name": "mine", "sha256": "1" * 64})
    assert keys_of(api).held("mine") == 1
    keys_of(api).grant("mine", ["a", "b"])
    ((method, path, _, content),) = served.changes
    assert (method, path, content["metadata"]) == ("PATCH", SECRET, {"resourceVersion": "17"})
    written = json.loads(base64.b64decode(content["data"]["api-keys.json"]))["keys"]
    assert [entry["name"] for entry in written] == ["drills", "mine", "mine"]
    assert written[0] == OTHER
    assert b"a" not in [entry["sha256"] for entry in written]


def test_a_change_by_somebody_else_is_not_overwritten(served: Served, api: Api) -> None:
    served.objects[SECRET] = [secret(OTHER), 409]
    with pytest.raises(StepFailed, match=r"refused PATCH .*: 409"):
        keys_of(api).grant("mine", ["a"])


def test_each_replica_is_asked_and_who_is_away_says_nothing(api: Api, replica: int) -> None:
    assert keys_of(api, replica).ask("known") == {"serving-1": KNOWN, "serving-2": 0, "serving-3": 0}
    assert keys_of(api, replica).ask("other") == {"serving-1": UNKNOWN, "serving-2": 0, "serving-3": 0}
