"""One request as a user would send it, through the ingress, over verified TLS."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import httpx

from sre.readings import Endpoints

MEDIA_TYPES = {".jpg": "image/jpeg", ".png": "image/png"}


def first_image(endpoints: Endpoints) -> Path:
    """The first of the images that users send."""
    return next(path for path in sorted(endpoints.bodies.rglob("*")) if path.suffix in MEDIA_TYPES)


def predict(endpoints: Endpoints, image: Path, request_id: str | None = None) -> tuple[int, dict[str, Any]]:
    """Ask for one prediction.

    Args:
        endpoints: ingress, certificate authority and key file are used.
        image: a .jpg or .png file.
        request_id: sent along, so that the answer can be found in the prediction log.

    Returns:
        HTTP status, 0 for no answer, and the decoded body; `{"detail": ...}` says why there is none.
    """
    headers = {"X-API-Key": endpoints.api_key_file.read_text(encoding="utf-8").strip(), "Content-Type": MEDIA_TYPES[image.suffix]}
    if request_id:
        headers["X-Request-ID"] = request_id
    try:
        # A plain-HTTP address has no certificate to verify: the replica of a restored place is asked without an ingress.
        context = ssl.create_default_context(cafile=endpoints.ca_file) if endpoints.ingress.startswith("https") else False
        with httpx.Client(verify=context, timeout=10, trust_env=False) as client:
            answer = client.post(f"{endpoints.ingress}/predict", content=image.read_bytes(), headers=headers)
        body = answer.json()
    except (httpx.HTTPError, OSError, ValueError) as error:
        return 0, {"detail": f"{type(error).__name__}: {error}"}
    return answer.status_code, body if isinstance(body, dict) else {"detail": f"not an object: {str(body)[:80]}"}
