"""Promotions under way: one at a time, by a child that lives while there is something to do.

The registry's own log of promotions decides between rivals (zeroskew/registry/promotions.py), so
that one which was asked for twice, or by an operator that was killed since, happens once.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable

from operators.object_cache import ObjectKey
from zeroskew.rollout.rollout_actions import MoveAlias

SECONDS = 120.0
IDLE_SECONDS = 60.0
"""How long the child is kept for more."""

log = logging.getLogger(__name__)


class PromotionFailed(Exception):
    """The registry did not take it."""


class Promoter:
    """`done` is called with rollout and model once a promotion has ended, well or not."""

    def __init__(self, done: Callable[[ObjectKey, str], None]) -> None:
        self._done = done
        self._tasks: dict[ObjectKey, asyncio.Task[None]] = {}
        self._failed: dict[ObjectKey, str] = {}
        self._turn = asyncio.Lock()
        self._child: Process | None = None
        self._rest: asyncio.TimerHandle | None = None

    def start(self, key: ObjectKey, move: MoveAlias) -> None:
        """Does nothing while one of the rollout is under way.

        Raises `PromotionFailed`, once, if the last one has failed.
        """
        if (problem := self._failed.pop(key, None)) is not None:
            raise PromotionFailed(problem)
        if key not in self._tasks:
            self._tasks[key] = asyncio.create_task(self._run(key, move))

    def forget(self, key: ObjectKey) -> None:
        """The rollout is gone; what was begun is ended."""
        self._failed.pop(key, None)

    async def stop(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._let_go()

    async def _run(self, key: ObjectKey, move: MoveAlias) -> None:
        problem = ""
        try:
            async with self._turn:
                problem = await self._ask(key, move)
        except (OSError, ValueError, KeyError, TimeoutError) as error:
            problem = str(error) or f"no answer in {SECONDS:.0f} s"
            self._let_go()
        finally:
            self._tasks.pop(key, None)
        if problem:
            self._failed[key] = problem
        self._done(key, move.model)

    async def _ask(self, key: ObjectKey, move: MoveAlias) -> str:
        if self._rest is not None:
            self._rest.cancel()
        if self._child is None or self._child.returncode is not None:
            self._child = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "operators.promotion_child", stdin=PIPE, stdout=PIPE
            )
        child = self._child
        assert child.stdin is not None
        assert child.stdout is not None
        asked = {
            "model": move.model,
            "version": move.version,
            "expected": move.expected,
            "reason": f"ModelRollout {key[0]}/{key[1]} promoted it after its rollout",
        }
        child.stdin.write(json.dumps(asked).encode() + b"\n")
        await child.stdin.drain()
        answer = await asyncio.wait_for(child.stdout.readline(), SECONDS)
        self._rest = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._let_go)
        if not answer:
            raise OSError("the process that promotes has ended by itself; see the operator's log")
        return str(json.loads(answer)["error"])

    def _let_go(self) -> None:
        """The child ends by itself, after what it was asked."""
        child, self._child = self._child, None
        if child is not None and child.stdin is not None:
            child.stdin.close()
