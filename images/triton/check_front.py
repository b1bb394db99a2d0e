"""Import the front as a server will: Triton starts its Python backend's stub, the stub imports it.

    python3 check_front.py [tritonserver [--backend-directory=… …]]

`python3 -c "import …"` proves less: the stub's interpreter is another one, with another path. Ends
with 1 and the server's log if the front cannot be imported.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SECONDS = 120.0
MODEL = """
import json, os, sys
import zeroskew.serving.front_settings
from zeroskew.export import scoring
from zeroskew.serving import front, triton_front
import pyarrow.fs


class TritonPythonModel:
    def initialize(self, args):
        found = {"isolated": sys.flags.isolated, "front": triton_front.__file__}
        with open(os.environ["ZEROSKEW_CHECK"] + ".new", "w") as file:
            json.dump(found, file)
        os.rename(os.environ["ZEROSKEW_CHECK"] + ".new", os.environ["ZEROSKEW_CHECK"])

    def execute(self, requests):
        return [None] * len(requests)
"""
CONFIG = """
name: "check"
backend: "python"
max_batch_size: 0
input { name: "x" data_type: TYPE_FP32 dims: [ 1 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ 1 ] }
instance_group { count: 1 kind: KIND_CPU }
"""


def check(command: list[str], folder: Path) -> int:
    """Start the server on a model that imports the front; 0 if it did."""
    version = folder / "models" / "check" / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(MODEL, encoding="utf-8")
    (version.parent / "config.pbtxt").write_text(CONFIG, encoding="utf-8")
    found, log = folder / "found.json", folder / "log"
    command = [
        *command,
        f"--model-repository={folder / 'models'}",
        "--allow-grpc=false",
        "--allow-metrics=false",
        # No port is needed, but Triton wants to listen to something.
        "--http-address=127.0.0.1",
        "--http-port=0",
        "--exit-timeout-secs=1",
    ]
    with log.open("wb") as output:
        server = subprocess.Popen(
            command, stdout=output, stderr=output, cwd=folder,
            env={**os.environ, "ZEROSKEW_CHECK": str(found), "PYTHONPATH": ""},
        )  # fmt: skip
    try:
        deadline = time.monotonic() + SECONDS
        while not found.exists() and server.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
    if found.exists():
        print(f"Triton's stub imports the front: {found.read_text(encoding='utf-8')}")
        return 0
    sys.stderr.write(log.read_text(encoding="utf-8", errors="replace"))
    print("Triton's stub cannot import the front; its log stands above", file=sys.stderr)
    return 1


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        sys.exit(check(sys.argv[1:] or ["tritonserver"], Path(temporary)))
