"""Rollouts while the operator is killed at random moments, and what must hold of them then."""

import itertools
import random
import time
from pathlib import Path

from operator_stage import Stage, apply, manifest, register

STEPS = (
    {"set_weight": 5},
    {"pause": {"duration": "2s"}},
    {"set_weight": 25},
    {"pause": {"duration": "2s"}},
    {"set_weight": 60},
    {"pause": {"duration": "2s"}},
)


def roll_out_while_killed(
    stage: Stage, folder: Path, *, rollouts: int, kills: int, seed: int = 1, seconds: float = 600
) -> int:
    """Bring version after version to as many rollouts until there were so many kills, each at a
    random moment of an operator that was healthy or not yet, and a second version is under way in
    each; then let them end, and judge.

    Returns how many versions were promoted. Raises `AssertionError` if an invariant is broken.
    """
    dice = random.Random(seed)
    models = [f"killed_{number}" for number in range(rollouts)]
    spaces = {model: stage.namespace() for model in models}
    killed = 0
    deadline = time.monotonic() + seconds
    versions = 2 + kills // 12
    for model in models:
        register(stage.registry, folder, model, versions=versions)
    wanted = dict.fromkeys(models, 1)
    for model in models:
        apply(stage.cluster, manifest(spaces[model], 1, model, STEPS))
    while killed < kills or min(wanted.values()) < 2:
        for model in models:
            if wanted[model] < versions and _stable(stage, spaces[model], model) == wanted[model]:
                wanted[model] += 1
                apply(stage.cluster, manifest(spaces[model], wanted[model], model, STEPS))
        time.sleep(dice.uniform(0.0, 5.0))
        stage.operator.kill()
        stage.operator.start()
        killed += 1
        assert time.monotonic() < deadline, f"{killed} kills in {seconds} s"
    stage.operator.wait_healthy()
    for model in models:
        stage.wait(
            spaces[model],
            lambda s, model=model: (
                s.get("phase") == "Succeeded" and s.get("stable") == str(wanted[model])
            ),
            seconds=180,
            name=model.replace("_", "-"),
        )
    for model in models:
        _judge(stage, spaces[model], model, wanted[model])
    return sum(wanted.values())


def _stable(stage: Stage, space: str, model: str) -> int:
    return int(stage.status(space, model.replace("_", "-")).get("stable", 0))


def _judge(stage: Stage, space: str, model: str, versions: int) -> None:
    name = model.replace("_", "-")
    assert stage.registry.champion(model) == versions
    promoted = [each.version for each in stage.registry.history(model)]
    assert promoted == [*range(1, versions + 1)], "each version was promoted once, in order"
    written = stage.routes(space, name)
    for route in written:
        assert sum(route.weights.values()) == 100, route
        challengers = [each for each, weight in route.weights.items() if weight]
        assert all(each in route.ready for each in challengers), route
        assert not (route.mirrored and len(challengers) > 1), route
        assert route.accepted, "a plan before the one before was accepted"
    for version in range(2, versions + 1):
        own = f"{name}-{version}"
        later = f"{name}-{version + 1}"
        weights = [
            route.weights.get(own, 0) for route in written if not route.weights.get(later, 0)
        ]
        rising = [weight for weight in weights if weight]
        assert rising == sorted(rising), f"version {version} took a step back: {weights}"
        distinct = [key for key, _ in itertools.groupby(rising)]
        assert distinct == [5, 25, 60, 100], f"each plan once, in order: {weights}"
        # 100 twice: as the canary, then as the champion that it has become.
        assert len(rising) <= len(distinct) + 1, f"a plan was written twice: {weights}"
    for each in stage.record.services(space):
        assert each.generation in (0, 1), f"{each.name} was changed after it was made"
