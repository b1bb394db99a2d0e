"""Triton Python backend of `<model>_net`: ONNX Runtime behind the tensors of the other backends.

Copied as model.py into a model repository, for a Triton without the ONNX Runtime and TensorRT
backends (the embedded stack). It imports nothing of Zeroskew and runs with numpy 1 and 2, because
it lives in Triton's own environment. All requests that Triton hands over at once are scored as one
batch; a request with wrong tensors gets an error of its own and does not spoil the others.
"""

import json
import os

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]

TYPES = {"TYPE_FP32": np.float32, "TYPE_INT32": np.int32}


class TritonPythonModel:
    def initialize(self, args):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """Load model.onnx, which stands beside this file."""
        config = json.loads(args["model_config"])
        self.inputs = {
            tensor["name"]: (int(tensor["dims"][0]), TYPES[tensor["data_type"]])
            for tensor in config["input"]
        }
        folder = os.path.join(args["model_repository"], args["model_version"])
        options = ort.SessionOptions()
        # One thread: Triton runs as many instances as it is given cores.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = ort.InferenceSession(
            os.path.join(folder, "model.onnx"), options, providers=["CPUExecutionProvider"]
        )

    def execute(self, requests):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """One response per request, in order."""
        responses = [None] * len(requests)
        places, arrays = [], []
        for place, request in enumerate(requests):
            read, problem = self.read(request)
            if problem is None:
                places.append(place)
                arrays.append(read)
            else:
                responses[place] = pb_utils.InferenceResponse(error=pb_utils.TritonError(problem))
        if arrays:
            feed = {name: np.concatenate([a[name] for a in arrays]) for name in self.inputs}
            scores = self.session.run(["score"], feed)[0]
            start = 0
            for place, read in zip(places, arrays):  # noqa: B905
                end = start + len(next(iter(read.values())))
                tensor = pb_utils.Tensor("score", np.ascontiguousarray(scores[start:end]))
                responses[place] = pb_utils.InferenceResponse(output_tensors=[tensor])
                start = end
        return responses

    def read(self, request):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """The request's arrays by name, or what is wrong with them."""
        arrays, rows = {}, None
        for name, (width, kind) in self.inputs.items():
            tensor = pb_utils.get_input_tensor_by_name(request, name)
            if tensor is None:
                return None, f"input `{name}` is missing"
            array = tensor.as_numpy()
            if array.dtype != kind:
                return None, f"`{name}` must be {np.dtype(kind).name}, not {array.dtype}"
            if array.ndim != 2 or array.shape[1] != width:
                shape = list(array.shape)
                return None, f"`{name}` must have the shape [rows, {width}], not {shape}"
            if rows is not None and len(array) != rows:
                return None, f"`{name}` has {len(array)} rows, another input {rows}"
            rows = len(array)
            arrays[name] = array
        return arrays, None
