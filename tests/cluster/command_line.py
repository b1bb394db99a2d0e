"""`zeroskew` as a user runs it against a test's API server: a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-c", "from zeroskew.cli import main; main()"]


def environment(kubeconfig) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "KUBERNETES_SERVICE_HOST"}
    return kept | {
        "KUBECONFIG": str(kubeconfig),
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "COLUMNS": "200",
    }


def zeroskew(kubeconfig, *arguments, code=0) -> str:
    """What it printed; with `code` other than 0, what it said of the error. None: any code."""
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        env=environment(kubeconfig), text=True, capture_output=True, timeout=240,
    )  # fmt: skip
    assert code is None or done.returncode == code, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout if code == 0 else done.stdout + done.stderr


def as_json(kubeconfig, *arguments, code=0):
    """The last line of its standard output, read."""
    return json.loads(zeroskew(kubeconfig, *arguments, "-o", "json", code=code).splitlines()[-1])


def start(kubeconfig, *arguments, **streams) -> subprocess.Popen:
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)], env=environment(kubeconfig), **streams
    )  # fmt: skip


def user(cluster, namespace, name, folder, *roles) -> Path:
    """A kubeconfig of a ServiceAccount that has these ClusterRoles in the namespace."""
    cluster.kubectl("create", "serviceaccount", name, "-n", namespace)
    for role in roles:
        cluster.kubectl(
            "create", "rolebinding", f"{name}-{role}", "-n", namespace, f"--clusterrole={role}",
            f"--serviceaccount={namespace}:{name}",
        )  # fmt: skip
    token = cluster.kubectl("create", "token", name, "-n", namespace).stdout.strip()
    path = folder / f"{name}.kubeconfig"
    cluster.write_kubeconfig(path, token)
    return path
