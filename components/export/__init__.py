"""The KFP component `export`: the checkpoint as ONNX graphs, quantized and gated."""

from components.export.component import export

__all__ = ["export"]
