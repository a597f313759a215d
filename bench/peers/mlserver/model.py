"""The FFNN as a custom runtime of MLServer, on ONNX Runtime, as its documentation shows."""

import numpy as np
import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class OnnxModel(MLModel):
    """Takes `x`, gives `y`. With adaptive batching, a request holds the rows of many."""

    async def load(self) -> bool:
        """Load the file that ``model-settings.json`` names."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        uri = self.settings.parameters.uri
        self._session = onnxruntime.InferenceSession(
            uri, options, providers=["CPUExecutionProvider"]
        )
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """One run for the whole request."""
        rows = NumpyCodec.decode_input(payload.inputs[0])
        scores = self._session.run(["y"], {"x": rows.astype(np.float32, copy=False)})[0]
        return InferenceResponse(
            id=payload.id,
            model_name=self.name,
            model_version=self.version,
            outputs=[NumpyCodec.encode_output("y", scores)],
        )
