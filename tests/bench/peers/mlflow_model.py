"""MLflow: a Python function model, saved by `python mlflow_model.py FOLDER` for `mlflow models serve`."""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import Any

import mlflow

sys.path.insert(0, str(Path(__file__).parent))
from model import Predictor


class Bench(mlflow.pyfunc.PythonModel):
    """As the image examples of the documentation: base64 strings in, lists out."""

    def load_context(self, context: Any) -> None:
        self.predictor = Predictor()

    def predict(self, context: Any, model_input: list[str], params: Any = None) -> list[list[float]]:
        return [self.predictor(base64.b64decode(item))[0].tolist() for item in model_input]


mlflow.models.set_model(Bench())

if __name__ == "__main__":
    mlflow.pyfunc.save_model(sys.argv[1], python_model=__file__, code_paths=[str(Path(__file__).parent / "model.py")])
