"""A process that counts what it is told to on its standard input, and shows its counters over HTTP.

`count STATUS NUMBER` counts one by one and answers `done`; `hide` makes every further scrape fail.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

disable_created_metrics()  # type: ignore[no-untyped-call]
REGISTRY = CollectorRegistry()
REQUESTS = Counter("requests_total", "All", ["status"], registry=REGISTRY)
SECONDS = Histogram("seconds", "Long", buckets=(0.1, 1.0), registry=REGISTRY)
CLASSES = Counter("classes_total", "By class", ["label"], registry=REGISTRY)
Gauge("process_start_time_seconds", "Began", registry=REGISTRY).set(time.time())
Gauge("load", "Between 0 and 10", registry=REGISTRY).set(5)
hidden = threading.Event()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        # Before it looks whether it is hidden: what is counted after `hide` is shown by no scrape that was under way.
        text = generate_latest(REGISTRY)
        self.send_response(503 if hidden.is_set() else 200)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


for status in ("200", "500"):
    REQUESTS.labels(status)
for name in ("cat", "dog"):
    CLASSES.labels(name)
server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
os.write(1, b"ready\n")
for line in sys.stdin:
    match line.split():
        case ["hide"]:
            hidden.set()
        case ["count", wanted, number]:
            requests, classes = REQUESTS.labels(wanted), [CLASSES.labels(label) for label in ("dog", "cat")]
            seconds = 0.05 if wanted == "200" else 5.0
            for index in range(int(number)):
                requests.inc()
                SECONDS.observe(seconds)
                classes[index % 2].inc()
                if index % 500 == 0:
                    time.sleep(0.005)
    os.write(1, b"done\n")
