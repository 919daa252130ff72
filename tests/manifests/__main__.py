"""Write the generated files below k8s/ anew."""

from __future__ import annotations

import sys

from tests.cluster import find_kubectl
from tests.manifests import generated

if __name__ == "__main__":
    program = find_kubectl()
    if program is None:
        sys.exit("kubectl is not on PATH; install it")
    generated.write(program)
