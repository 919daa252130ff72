"""MLServer's custom runtime: protocol V2 with a base64 BYTES tensor."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from mlserver import MLModel
from mlserver.codecs import Base64Codec, NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

sys.path.insert(0, str(Path(__file__).parent))
from model import Predictor


class Bench(MLModel):
    """As the custom model of the documentation."""

    async def load(self) -> bool:
        self.predictor = Predictor()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        bodies = Base64Codec.decode_input(payload.inputs[0])
        found = np.concatenate([self.predictor(body) for body in bodies])
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("probabilities", found)])
