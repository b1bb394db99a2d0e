"""Triton Python backend of `<model>_net`: ONNX Runtime behind the tensors of the other backends.

Copied as model.py into a model repository, for a Triton without the ONNX Runtime and TensorRT
backends (the embedded stack). It imports nothing of Zeroskew and runs with numpy 1 and 2, because
it lives in Triton's own environment. All requests that Triton hands over at once are scored as one
batch. Triton has compared each request with config.pbtxt by then: a missing input, a wrong type or
width has had its error and never gets here.
"""

import json
import os

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]


class TritonPythonModel:
    def initialize(self, args):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """Load model.onnx, which stands beside this file."""
        config = json.loads(args["model_config"])
        self.inputs = [tensor["name"] for tensor in config["input"]]
        folder = os.path.join(args["model_repository"], args["model_version"])
        options = ort.SessionOptions()
        # One thread: Triton runs as many instances as it is given cores.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = ort.InferenceSession(
            os.path.join(folder, "model.onnx"), options, providers=["CPUExecutionProvider"]
        )

    def execute(self, requests):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """One response per request, in order."""
        arrays = {
            name: [pb_utils.get_input_tensor_by_name(r, name).as_numpy() for r in requests]
            for name in self.inputs
        }
        feed = {name: np.concatenate(parts) for name, parts in arrays.items()}
        scores = self.session.run(["score"], feed)[0]
        responses, start = [], 0
        for part in arrays[self.inputs[0]]:
            end = start + len(part)
            tensor = pb_utils.Tensor("score", np.ascontiguousarray(scores[start:end]))
            responses.append(pb_utils.InferenceResponse(output_tensors=[tensor]))
            start = end
        return responses
