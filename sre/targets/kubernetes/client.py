"""One cluster's API, as far as the toolkit asks it: objects as plain dicts, a command in a container, a connection to a port.

The official client speaks; its models are left out, because a drill looks many times a second and building them costs more than
the request.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from socket import socket
from threading import Lock
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

    Raises:
        TargetUnavailable: the file is missing, or holds no such context.
    """

    def __init__(self, kubeconfig: str, context: str | None) -> None:
        settings = client.Configuration()
        try:
            config.load_kube_config(kubeconfig, context, settings, persist_config=False)  # type: ignore[no-untyped-call]
            _, current = config.list_kube_config_contexts(kubeconfig)  # type: ignore[no-untyped-call]
        except (config.ConfigException, OSError, yaml.YAMLError) as error:
            why = _words(error)
            raise TargetUnavailable(f"{kubeconfig} names no cluster ({why}); set SRE_KUBECONFIG and SRE_CONTEXT") from error
        settings.retries = False
        self.context: str = context or current["name"]
        self._client = client.ApiClient(settings)
        # The library's streams change their client while they connect, so they get one of their own, one at a time.
        self._streams = client.CoreV1Api(client.ApiClient(settings))
        self._one = Lock()

    def find(self, path: str) -> dict[str, Any] | None:
        """The object or list at a path of the API, None when there is none.

        Raises:
            TargetUnavailable: the API server does not answer, or refuses.
        """
        try:
            answer = self._client.call_api(
                *self._client.param_serialize("GET", path, auth_settings=["BearerToken"]), _request_timeout=ANSWER_WITHIN_S
            )
            body = answer.read()  # type: ignore[no-untyped-call]
        except (ApiException, HTTPError, OSError) as error:
            raise TargetUnavailable(
                f"cluster {self.context} did not answer GET {path}: {error}; see `kubectl get --raw`"
            ) from error
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise TargetUnavailable(f"cluster {self.context} refused GET {path}: {answer.status} {body[:200]!r}")
        found: dict[str, Any] = json.loads(body)
        return found

    def get(self, path: str) -> dict[str, Any]:
        """The same, for what must be there. Raises TargetUnavailable when it is not."""
        found = self.find(path)
        if found is None:
            raise TargetUnavailable(f"cluster {self.context} has nothing at {path}; run `sre up --target kubernetes`")
        return found

    def run(self, namespace: str, pod: str, container: str, command: Sequence[str], *, within_s: float = RUN_WITHIN_S) -> Ended:
        """Run a command in a container, without a shell; one that does not end within the time has no exit status.

        Raises:
            StepFailed: it cannot be begun: no such pod, or its container does not run.
        """
        try:
            with self._one:
                under_way = stream.stream(
                    self._streams.connect_get_namespaced_pod_exec, pod, namespace, container=container, command=list(command),
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
            with self._one:
                forward = stream.portforward(
                    self._streams.connect_get_namespaced_pod_portforward, pod, namespace, ports=str(port)
                )
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
