"""What lies where inside a registered version; the registry keeps them, hashed, below the version.

| path | content |
|---|---|
| `export/` | ONNX graphs (`export/model.onnx` serves), `export.json`, TensorRT plans |
| `checkpoint/` | safetensors and `checkpoint.json` |
| `profile.json` | reference profile of the training set |
| `evaluation.json` | metrics, slices, verdict |
| `manifest.json` | of the training set: content hash, ranges, cuts |
| `read_plan.json` | how a server reads the features from the online store |
| `transforms.py`, `model.yaml` | of the model's folder, as they were |
"""

EXPORT = "export"
GRAPH = "export/model.onnx"
CHECKPOINT = "checkpoint"
PROFILE = "profile.json"
EVALUATION = "evaluation.json"
MANIFEST = "manifest.json"
READ_PLAN = "read_plan.json"
TRANSFORMS = "transforms.py"
MODEL_YAML = "model.yaml"
