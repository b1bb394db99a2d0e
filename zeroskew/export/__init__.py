"""Export: ONNX, INT8, TensorRT, the Triton model repository."""
