"""Analyses under way and done: each in a process of its own, so that the operator stays small.

Nothing is lost with a killed operator: an analysis only reads, and is asked for again.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Callable
from typing import Any

from operators.object_cache import ObjectKey
from zeroskew.rollout.rollout_actions import Analyse
from zeroskew.rollout.rollout_observations import AnalysisSeen
from zeroskew.rollout.rollout_state import MetricSeen, Outcome, from_json

AT_A_TIME = 2
SECONDS = 600.0
LONGEST_ANSWER = 1 << 20

log = logging.getLogger(__name__)


class AnalysisRunner:
    """`done` is called with the rollout whose analysis has ended."""

    def __init__(self, sink: str, pages: str, done: Callable[[ObjectKey], None]) -> None:
        """`sink`: the prediction log; `pages`: folder or s3:// prefix for pages, empty for none."""
        self._sink, self._pages, self._done = sink, pages, done
        self._slots = asyncio.Semaphore(AT_A_TIME)
        self._tasks: dict[ObjectKey, tuple[Analyse, asyncio.Task[None]]] = {}
        self._results: dict[ObjectKey, AnalysisSeen] = {}

    def results(self, key: ObjectKey) -> tuple[AnalysisSeen, ...]:
        """The newest result of the rollout, if there is one."""
        found = self._results.get(key)
        return (found,) if found else ()

    def start(self, key: ObjectKey, request: Analyse) -> None:
        """Does nothing if just this is under way or done; what is older is broken off."""
        result = self._results.get(key)
        if result is not None and result.run == request.run and result.until >= request.until:
            return
        known = self._tasks.get(key)
        if known is not None:
            if known[0].run == request.run:
                return
            known[1].cancel()
        self._tasks[key] = (request, asyncio.create_task(self._run(key, request)))

    def forget(self, key: ObjectKey) -> None:
        """The rollout is gone."""
        self._results.pop(key, None)
        if known := self._tasks.pop(key, None):
            known[1].cancel()

    async def stop(self) -> None:
        tasks = [task for _, task in self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, key: ObjectKey, request: Analyse) -> None:
        async with self._slots:
            outcome: Outcome
            outcome, pairs, message, requests, copies = "Error", 0, "", 0, 0
            metrics: tuple[MetricSeen, ...] = ()
            try:
                answer = await self._ask(key, request)
                outcome, pairs = answer["outcome"], int(answer["pairs"])
                message = str(answer["message"])
                requests, copies = int(answer["requests"]), int(answer["copies"])
                metrics = tuple(from_json(MetricSeen, each) for each in answer["metrics"])
            except (OSError, ValueError, KeyError, TypeError, TimeoutError) as error:
                message = str(error) or f"the analysis took longer than {SECONDS:.0f} s"
                log.warning("analysis of %s/%s failed: %s", *key, message)
        self._results[key] = AnalysisSeen(
            run=request.run, since=request.since, until=request.until,
            outcome=outcome, pairs=pairs, message=message[:1024],
            requests=requests, copies=copies,
            metrics=metrics,
        )  # fmt: skip
        self._tasks.pop(key, None)
        self._done(key)

    async def _ask(self, key: ObjectKey, request: Analyse) -> dict[str, Any]:
        asked = {
            "log": self._sink,
            "model": request.model,
            "champion": request.champion,
            "challenger": request.challenger,
            "mode": request.mode,
            "since": request.since.isoformat(),
            "until": request.until.isoformat(),
            "metrics": request.metrics,
            "mirrorPercent": request.mirror_percent,
            "pages": self._pages,
            "page": f"{key[0]}/{key[1]}/{request.run}/{request.until:%Y%m%dT%H%M%SZ}.html",
        }
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "operators.analysis_child",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            said, problem = await asyncio.wait_for(
                child.communicate(json.dumps(asked).encode()), SECONDS
            )
        finally:
            if child.returncode is None:
                child.kill()
        if child.returncode:
            lines = problem.decode("utf-8", "replace").strip().splitlines()
            raise ValueError(lines[-1] if lines else f"status {child.returncode}")
        answer: dict[str, Any] = json.loads(said[-LONGEST_ANSWER:])
        return answer
