"""Where users reach the system: the address of the Gateway that its route names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sre.errors import TargetUnavailable
from sre.targets.kubernetes.client import Api

_GATEWAYS = "/apis/gateway.networking.k8s.io/v1/namespaces/{}/gateways/{}"
_ROUTE = "/apis/gateway.networking.k8s.io/v1/namespaces/ml-system/httproutes/ml-api"


def address(api: Api) -> str:
    """Base URL of the edge.

    Raises:
        TargetUnavailable: there is no route, or its Gateway has no address yet.
    """
    route = api.get(_ROUTE)
    parent = route["spec"]["parentRefs"][0]
    namespace = parent.get("namespace", route["metadata"]["namespace"])
    gateway = api.get(_GATEWAYS.format(namespace, parent["name"]))
    found = base_url(gateway)
    if found is None:
        raise TargetUnavailable(
            f"Gateway {parent['name']} in {namespace} has no address; let a load balancer give it one, or set SRE_INGRESS"
        )
    return found


def base_url(gateway: Mapping[str, Any]) -> str | None:
    """Of a Gateway: https where it has such a listener. None when it has no address."""
    addresses = (gateway.get("status") or {}).get("addresses") or ()
    if not addresses:
        return None
    listeners = gateway["spec"]["listeners"]
    secure = [one for one in listeners if one["protocol"] == "HTTPS"]
    chosen = (secure or listeners)[0]
    scheme, usual = ("https", 443) if secure else ("http", 80)
    port = "" if chosen["port"] == usual else f":{chosen['port']}"
    return f"{scheme}://{addresses[0]['value']}{port}"
