"""What a request costs, counted and not timed, so that a busy machine changes nothing: calls, memory, imports, hops.

The benchmark measures time, on a machine of its own. This is the part of it that holds everywhere: a layer that is added to
every request, or a module to every start, is seen here first.
"""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import threading
import tracemalloc
from collections import Counter
from collections.abc import Awaitable, Callable
from types import CodeType, FrameType
from typing import Any, NamedTuple

import pytest
from prometheus_client.metrics import MetricWrapperBase
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from system import telemetry
from system.model.artifact import verify
from system.serving.app import Application, create_app
from system.serving.predictor import Predictor

# One image in 16 is looked at closely (telemetry.py), so that many requests are the unit of which every run costs the same.
REQUESTS = 16

# Calls of Python and of C functions for 16 requests, counted on 2026-11-24 with Python 3.11: 1,000 and 2,000 for an image
MOST_CALLS = {"image": (1, 1), "tensor": (1, 1)}
