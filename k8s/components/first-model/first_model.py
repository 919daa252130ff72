"""Train the first model unless the registry names one. The job's deadline ends the wait for it."""  # noqa: INP001 - a script

from __future__ import annotations

import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

_ASK_WITHIN_S = 5
_ASK_EVERY_S = 2


def main() -> None:
    """Ask, then become the training."""
    model = os.environ.get("ML_MODEL_NAME", "digits-resnet8")
    question = urllib.parse.urlencode({"name": model, "alias": os.environ["ML_MODEL_ALIAS"]})
    url = f"{os.environ['ML_MLFLOW_URL']}/api/2.0/mlflow/registered-models/alias?{question}"
    while True:
        try:
            with urllib.request.urlopen(url, timeout=_ASK_WITHIN_S) as answer:  # noqa: S310 - the settings name the registry
                version = json.load(answer)["model_version"]["version"]
        except urllib.error.HTTPError as error:
            if error.code in (400, 404):  # no such model, or none with the alias
                break
            seen = f"status {error.code}"
        except OSError as error:
            seen = str(error)
        else:
            sys.stdout.write(f"{model} has version {version}; nothing to train\n")
            return
        sys.stdout.write(f"the registry at {url} is not there yet: {seen}\n")
        sys.stdout.flush()
        time.sleep(_ASK_EVERY_S)
    os.execv(sys.executable, [sys.executable, "-m", "system", "train"])  # noqa: S606 - nothing of it comes from outside


if __name__ == "__main__":
    main()
