"""The address of a Gateway."""

from __future__ import annotations

from typing import Any

from sre.targets.kubernetes.edge import base_url

HTTP, HTTPS = {"name": "http", "protocol": "HTTP", "port": 80}, {"name": "https", "protocol": "HTTPS", "port": 443}


def _gateway(*listeners: dict[str, Any], address: str = "10.80.0.64") -> dict[str, Any]:
    return {"spec": {"listeners": list(listeners)}, "status": {"addresses": [{"type": "IPAddress", "value": address}]}}


def test_tls_is_used_where_there_is_a_listener_for_it() -> None:
    assert base_url(_gateway(HTTP)) == "http://10.80.0.64"
    assert base_url(_gateway(HTTP, HTTPS)) == "https://10.80.0.64"


def test_an_unusual_port_is_part_of_the_address() -> None:
    assert base_url(_gateway({**HTTP, "port": 8080})) == "http://10.80.0.64:8080"
    assert base_url(_gateway(HTTP, {**HTTPS, "port": 8443}, address="ml.example")) == "https://ml.example:8443"


def test_without_an_address_there_is_none() -> None:
    assert base_url({"spec": {"listeners": [HTTP]}}) is None
    assert base_url({"spec": {"listeners": [HTTP]}, "status": {"addresses": []}}) is None
