"""One analysis: `python -m operators.analysis_child`, JSON on standard input and output.

A process of its own, so that what it read of a prediction log is given back when it ends.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime

from zeroskew.errors import ZeroskewError
from zeroskew.rollout.rollout_state import to_json


def main() -> int:
    """0 with the result on standard output, else the reason as the last line of standard error."""
    from zeroskew.rollout.analysis import Question, analyse, metrics_from_json

    asked = json.load(sys.stdin)
    question = Question(
        log=asked["log"],
        model=asked["model"],
        champion=asked["champion"],
        challenger=asked["challenger"],
        since=datetime.fromisoformat(asked["since"]),
        until=datetime.fromisoformat(asked["until"]),
        mode=asked["mode"],
        mirror_percent=asked["mirrorPercent"],
    )
    try:
        result = analyse(question, metrics_from_json(asked["metrics"]))
        if asked["pages"]:
            from zeroskew.rollout.analysis_page import analysis_page
            from zeroskew.serving.log_sink import check_sink, open_sink

            page = analysis_page(question, result).render()
            open_sink(check_sink(asked["pages"])).write(asked["page"], page.encode())
    except (ZeroskewError, OSError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 1
    answer = {
        "outcome": result.outcome,
        "pairs": result.pairs,
        "message": result.message,
        "requests": result.requests,
        "copies": result.copies,
        "metrics": [to_json(each) for each in result.seen],
    }
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
