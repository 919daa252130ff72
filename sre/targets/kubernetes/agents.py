"""Asks Patroni's agents through their nodes, past every network policy. Who only looks shows no certificate."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Callable
from pathlib import Path
from socket import socket
from typing import Any

ANSWER_WITHIN_S = 3.0
# One of the names in the agents' certificate, whichever pod shows it.
_NAME = "localhost"


class Agents:
    """The agents of one database cluster.

    Args:
        connect: to the REST port of a member, by its name. Raises OSError when it cannot.
        ca_file: certificate authority of the system.
    """

    def __init__(self, connect: Callable[[str], socket], ca_file: Path) -> None:
        self._connect = connect
        self._ca_file = ca_file

    def ask(self, member: str, path: str) -> tuple[int, Any]:
        """What one agent answers: HTTP status, and JSON where it is some.

        Raises:
            OSError: it does not answer, or is none of ours.
            http.client.HTTPException: it does not speak HTTP.
        """
        agent = http.client.HTTPConnection(_NAME)
        agent.sock = self._secured(self._connect(member))
        try:
            agent.request("GET", path)
            answer = agent.getresponse()
            body = answer.read()
        finally:
            agent.close()
        try:
            return answer.status, json.loads(body)
        except ValueError:
            return answer.status, None

    def _secured(self, plain: socket) -> ssl.SSLSocket:
        plain.settimeout(ANSWER_WITHIN_S)
        try:
            return ssl.create_default_context(cafile=self._ca_file).wrap_socket(plain, server_hostname=_NAME)
        except OSError:
            plain.close()
            raise
