"""Take out of an environment what no step reads, so that the platform's image stays small.

    python3 slim.py /opt/venv

A file belongs here if it only serves to test or to compile a package, or if it is a part of Ray
that a client does not start. tests/integration/images starts every step without them.
"""

import shutil
import sys
from pathlib import Path

FOLDERS = ("tests", "test")
"""Folders with a package's own tests, in every package."""
KEPT = ("numpy/_core/tests",)
"""numpy.testing, which others import, reads it."""
SUFFIXES = (".pyi", ".h", ".hpp", ".pxd", ".map")
"""Types, C headers and source maps."""
PARTS = (
    "pyarrow/include",
    # A step is a client of Ray: servers, the Java API and the dashboard's pages are the trainer's.
    "ray/core/src/ray/gcs",
    "ray/core/src/ray/raylet",
    "ray/jars",
    "ray/rllib",
    "ray/dashboard/client",
)


def slim(environment: Path) -> int:
    """Bytes that are gone."""
    (site,) = environment.glob("lib/python3*/site-packages")
    doomed = [site / part for part in PARTS if (site / part).exists()]
    for path in site.rglob("*"):
        name = path.relative_to(site).as_posix()
        if path.is_dir():
            if path.name in FOLDERS and name not in KEPT:
                doomed.append(path)
        elif path.suffix in SUFFIXES:
            doomed.append(path)
    gone = 0
    for path in doomed:
        files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
        gone += sum(each.stat().st_size for each in files)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    return gone


if __name__ == "__main__":
    print(f"{slim(Path(sys.argv[1])) / 1e6:.0f} MB are gone")
