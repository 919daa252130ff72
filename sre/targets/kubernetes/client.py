"""One cluster's API, as far as the toolkit asks it: objects as plain dicts, a command in a container, a connection to a port.

The official client speaks; its models are left out, because a drill looks many times a second and building them costs more than
the request.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import socket
from typing import Any

import websocket
import yaml
from kubernetes import client, config, stream
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import ws_client
from urllib3.exceptions import HTTPError

from sre.errors import StepFailed, TargetUnavailable

ANSWER_WITHIN_S = 5.0
RUN_WITHIN_S = 15.0
_MERGE, _STRATEGIC_MERGE = "application/merge-patch+json", "application/strategic-merge-patch+json"
_NOBODY = "https://cluster.invalid"
# The library's own default is to wait for ever.
websocket.setdefaulttimeout(ANSWER_WITHIN_S)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command in a container ended.

    Attributes:
        code: its exit status; None when its end could not be seen.
        output: what it wrote to stdout and stderr.
    """

    code: int | None
    output: str


class _PortForward(ws_client.PortForward):
    """The library's, whose thread raises, its connection left open, when a pod goes away while it is asked."""

    def _proxy(self) -> None:
        try:
            super()._proxy()  # type: ignore[no-untyped-call]
        except (websocket.WebSocketException, OSError):
            # Whoever reads from it sees an end.
            pass
        finally:
            self.websocket.shutdown()
            for port in self.local_ports.values():
                port.python.close()


# There is no other way to say which one its `portforward` makes.
ws_client.PortForward = _PortForward  # type: ignore[misc]


class Api:
    """Asks one cluster.

    Args:
        kubeconfig: file that names it, or several as in KUBECONFIG.
        context: of that file; its current one when None.
        lost: whether the cluster may be gone, and its file with it: nothing answers then until `reload`.

    Raises:
        TargetUnavailable: the file is missing, or holds no such context.
    """

    def __init__(self, kubeconfig: str, context: str | None, *, lost: bool = False) -> None:
        self._kubeconfig = kubeconfig
        self.context: str = context or ""
        try:
            self.reload()
        except TargetUnavailable:
            if not lost:
                raise
            self._use(client.Configuration(host=_NOBODY))

    def reload(self) -> None:
        """Ask whatever cluster the file names now.

        Raises:
            TargetUnavailable: the file is missing, or holds no such context.
        """
        settings = client.Configuration()
        try:
            config.load_kube_config(self._kubeconfig, self.context or None, settings, persist_config=False)  # type: ignore[no-untyped-call]
            _, current = config.list_kube_config_contexts(self._kubeconfig)  # type: ignore[no-untyped-call]
        except (config.ConfigException, OSError, yaml.YAMLError) as error:
            why = _words(error)
            raise TargetUnavailable(f"{self._kubeconfig} names no cluster ({why}); set SRE_KUBECONFIG and SRE_CONTEXT") from error
        self.context = self.context or current["name"]
        self._use(settings)

    @property
    def server(self) -> str:
        """URL of the API server."""
        return str(self._settings.host)

    @property
    def authority(self) -> Path | None:
        """File of the certificates that the API server is verified with; None for those of this machine."""
        return Path(self._settings.ssl_ca_cert) if self._settings.ssl_ca_cert else None

    def _use(self, settings: client.Configuration) -> None:
        settings.retries = False
        self._settings = settings
        self._client = client.ApiClient(settings)
        self._idle: list[client.CoreV1Api] = []

    def find(self, path: str) -> dict[str, Any] | None:
        """The object or list at a path of the API, None when there is none.

        Raises:
            TargetUnavailable: the API server does not answer, or refuses.
        """
        status, body = self._ask("GET", path)
        if status == 404:
            return None
        if status != 200:
            raise TargetUnavailable(f"cluster {self.context} refused GET {path}: {status} {body[:200]!r}")
        found: dict[str, Any] = json.loads(body)
        return found

    def get(self, path: str) -> dict[str, Any]:
        """The same, for what must be there. Raises TargetUnavailable when it is not."""
        found = self.find(path)
        if found is None:
            raise TargetUnavailable(f"cluster {self.context} has nothing at {path}; run `sre up --target kubernetes`")
        return found

    def patch(self, path: str, content: Mapping[str, Any], *, whole_lists: bool = False) -> None:
        """Merge fields into the object at a path.

        Args:
            path: of the object.
            content: the fields.
            whole_lists: take lists as they are, which is all that custom resources can; else lists of names are merged too.

        Raises:
            StepFailed: the API server refuses, or there is no such object.
        """
        self._change("PATCH", path, content, _MERGE if whole_lists else _STRATEGIC_MERGE)

    def post(self, path: str, content: Mapping[str, Any]) -> int:
        """Ask for something new under a path.

        Returns:
            The status: 2xx, 404 when what it is about is not there, 429 when it may not be just now.

        Raises:
            StepFailed: the API server refuses.
        """
        status, body = self._ask("POST", path, content, "application/json")
        if status >= 300 and status not in (404, 429):
            raise StepFailed(f"cluster {self.context} refused POST {path}: {status} {body[:200]!r}")
        return status

    def delete(self, path: str) -> None:
        """Begin to delete the object at a path; where there is none, nothing happens.

        Raises:
            StepFailed: the API server refuses.
        """
        self._change("DELETE", path)

    def _change(self, method: str, path: str, content: Mapping[str, Any] | None = None, kind: str = "") -> None:
        status, body = self._ask(method, path, content, kind)
        if status >= 300 and not (method == "DELETE" and status == 404):
            raise StepFailed(f"cluster {self.context} refused {method} {path}: {status} {body[:200]!r}")

    def _ask(self, method: str, path: str, content: Mapping[str, Any] | None = None, kind: str = "") -> tuple[int, bytes]:
        headers = {"Content-Type": kind} if kind else {}
        asked = self._client.param_serialize(method, path, header_params=headers, body=content, auth_settings=["BearerToken"])
        try:
            answer = self._client.call_api(*asked, _request_timeout=ANSWER_WITHIN_S)
            return answer.status, answer.read()  # type: ignore[no-untyped-call]
        except (ApiException, HTTPError, OSError) as error:
            raise TargetUnavailable(
                f"cluster {self.context} did not answer {method} {path}: {error}; see `kubectl get --raw`"
            ) from error

    @contextmanager
    def _streaming(self) -> Iterator[client.CoreV1Api]:
        # The library's streams change their client while they connect, so each has one for itself until it is connected.
        try:
            own = self._idle.pop()
        except IndexError:
            own = client.CoreV1Api(client.ApiClient(self._settings))
        try:
            yield own
        finally:
            self._idle.append(own)

    def run(self, namespace: str, pod: str, container: str, command: Sequence[str], *, within_s: float = RUN_WITHIN_S) -> Ended:
        """Run a command in a container, without a shell; one that does not end within the time has no exit status.

        Raises:
            StepFailed: it cannot be begun: no such pod, or its container does not run.
        """
        try:
            with self._streaming() as streams:
                under_way = stream.stream(
                    streams.connect_get_namespaced_pod_exec, pod, namespace, container=container, command=list(command),
                    stdout=True, stderr=True, stdin=False, tty=False, _preload_content=False, _request_timeout=ANSWER_WITHIN_S,
                )  # fmt: skip
        except (ApiException, websocket.WebSocketException, OSError) as error:
            raise StepFailed(f"{command[0]} cannot be run in {container} of pod {pod}: {_words(error)}") from error
        try:
            under_way.run_forever(timeout=within_s)
            output = f"{under_way.read_channel(ws_client.STDOUT_CHANNEL)}{under_way.read_channel(ws_client.STDERR_CHANNEL)}"
            return Ended(_exit_code(under_way.read_channel(ws_client.ERROR_CHANNEL)), output)
        except (websocket.WebSocketException, OSError) as error:
            return Ended(None, _words(error))
        finally:
            # Its own close leaves the socket open where the server has said goodbye first.
            under_way.sock.shutdown()

    def connect(self, namespace: str, pod: str, port: int) -> socket:
        """A connection to a pod's port that no network policy sees: the node carries it into the pod.

        Raises:
            OSError: there is none; whether the port listens shows only when it is used.
        """
        try:
            with self._streaming() as streams:
                forward = stream.portforward(streams.connect_get_namespaced_pod_portforward, pod, namespace, ports=str(port))
        except (ApiException, websocket.WebSocketException) as error:
            raise ConnectionError(_words(error)) from error
        found: socket = forward.socket(port)
        return found


def _exit_code(status: str) -> int | None:
    # The API server's last word is a Status object; a connection that broke has none.
    try:
        ended = json.loads(status)
        if ended["status"] == "Success":
            return 0
        return next(int(cause["message"]) for cause in ended["details"]["causes"] if cause["reason"] == "ExitCode")
    except (ValueError, KeyError, TypeError, StopIteration):
        return None


def _words(error: Exception) -> str:
    return " ".join(str(getattr(error, "reason", None) or error).split())[-300:]
