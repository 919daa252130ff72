"""The list of API keys of a cluster's system: a Secret, whose files the kubelets renew when they look at it again."""

from __future__ import annotations

import base64
import http.client
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from socket import socket
from typing import Any

from sre.targets.keys import ASKED, listed, rewritten
from sre.targets.kubernetes import secrets
from sre.targets.kubernetes.client import Api
from sre.targets.kubernetes.slots import Slot

_SECRET = "/api/v1/namespaces/{}/secrets/ml-api-keys"  # noqa: S105 - where it is
_ENTRY = "api-keys.json"
ANSWER_WITHIN_S = 3.0
POOL = 20


class KubernetesKeys:
    """See `targets.keys.ApiKeys`.

    Args:
        api: of the cluster.
        namespace: of the replicas.
        slots: the replicas just now.
        connect: to the port of a pod, by the pod's name. Raises OSError when it cannot.
    """

    def __init__(self, api: Api, namespace: str, slots: Callable[[], Sequence[Slot]], connect: Callable[[str], socket]) -> None:
        self._api, self._slots, self._connect = api, slots, connect
        self._path = _SECRET.format(namespace)

    def grant(self, holder: str, keys: Sequence[str]) -> None:
        """Patch the Secret as it was read: StepFailed when somebody else changed it meanwhile."""
        found = self._api.get(self._path)
        text = rewritten(secrets.decoded(found)[_ENTRY], holder, keys)
        version = {"resourceVersion": found["metadata"]["resourceVersion"]}
        self._api.patch(self._path, {"metadata": version, "data": {_ENTRY: base64.b64encode(text.encode()).decode()}})

    def held(self, holder: str) -> int:
        """By the Secret."""
        return len(listed(secrets.decoded(self._api.get(self._path))[_ENTRY], holder))

    def ask(self, key: str) -> Mapping[str, int]:
        """All at once, each over a connection of its own that its node carries into the pod."""
        found = self._slots()
        with ThreadPoolExecutor(POOL) as pool:
            return dict(zip((slot.name for slot in found), pool.map(lambda slot: self._asked(slot, key), found), strict=True))

    def _asked(self, slot: Slot, key: str) -> int:
        if not slot.identity:
            return 0
        try:
            with closing(_Connection(slot.pod, self._connect)) as connection:
                connection.request("POST", ASKED, headers={"Host": "localhost", "X-API-Key": key})
                return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0


class _Connection(http.client.HTTPConnection):
    def __init__(self, pod: str, connect: Callable[[str], socket]) -> None:
        super().__init__(pod, timeout=ANSWER_WITHIN_S)
        self._made: Callable[[str], Any] = connect

    def connect(self) -> None:
        self.sock = self._made(self.host)
        self.sock.settimeout(ANSWER_WITHIN_S)
