"""Makes one version the champion: `python -m operators.promotion_child`, JSON on standard input.

A process of its own, because MLflow's client stays in memory once it was imported.
"""

from __future__ import annotations

import json
import sys

from zeroskew.errors import ZeroskewError


def main() -> int:
    """0 if it is done or was done before; else the last line says why not."""
    from zeroskew.registry import Registry

    asked = json.load(sys.stdin)
    expected = asked["expected"]
    try:
        Registry.from_environment().promote(
            asked["model"],
            int(asked["version"]),
            asked["reason"],
            expected_champion=None if expected is None else int(expected),
        )
    except ZeroskewError as error:
        print(" ".join(str(error).split()))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
