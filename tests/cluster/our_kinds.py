"""Kinds of this repository, and others, on a test's API server, ready to be used."""

import time
from pathlib import Path

ROOT = Path(__file__).parents[2]


def install(cluster, *files):
    """Our CRDs and these files of CRDs; returns once every kind is served."""
    cluster.kubectl("apply", "--server-side", "-k", ROOT / "manifests/crds")
    for each in files:
        cluster.kubectl("apply", "--server-side", "-f", each)
    arguments = ("wait", "--for=condition=established", "crd", "--all", "--timeout=60s")
    deadline = time.monotonic() + 180
    # A CRD that was just made has no conditions yet, which `kubectl wait` takes for an error.
    while (done := cluster.kubectl(*arguments, check=False)).returncode:
        assert time.monotonic() < deadline, done.stderr
        time.sleep(0.5)
