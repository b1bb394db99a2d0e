"""Makes versions champions, for as long as it is asked to: `python -m operators.promotion_child`.

One JSON object a line on standard input, one on standard output. A process of its own, because
MLflow's client takes seconds to import and stays in memory: it serves what comes in one burst, and
ends when its input does. What it was asked before the operator was killed, it still does.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from zeroskew.errors import ZeroskewError


def main() -> int:
    """Answers `{"error": ""}` once the version is the champion, else with the reason."""
    # Whatever a library prints must not come between the answers.
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        for line in sys.stdin:
            answers.write(json.dumps({"error": _promote(json.loads(line))}) + "\n")
            answers.flush()
    return 0


def _promote(asked: dict[str, Any]) -> str:
    from zeroskew.registry import Registry

    expected = asked["expected"]
    try:
        Registry.from_environment().promote(
            asked["model"],
            int(asked["version"]),
            asked["reason"],
            expected_champion=None if expected is None else int(expected),
        )
    except ZeroskewError as error:
        return " ".join(str(error).split())
    return ""


if __name__ == "__main__":
    sys.exit(main())
