"""Checks of nodes: does the largest step find a place, and are there GPUs?"""

from __future__ import annotations

from zeroskew.cluster.doctor.observations import Finding, Node, Seen
from zeroskew.model_config import Serving
from zeroskew.pod_resources import STEPS, Resources, cores, mebibytes

__all__ = ["check_gpus", "check_nodes", "largest_request"]


def largest_request() -> tuple[str, float, float]:
    """What asks for most by default, a step or a server, with its cores and MiB."""
    amounts = {f"step {step}": Resources().of(step) for step in STEPS}
    asked = {name: (cores(each.cpu), mebibytes(each.memory)) for name, each in amounts.items()}
    server = Serving()
    asked["a server"] = cores(server.cpu), mebibytes(server.memory)
    worst = max(asked, key=lambda step: asked[step])
    return worst, *asked[worst]


def check_nodes(seen: Seen) -> list[Finding]:
    about = "nodes"
    if seen.nodes.forbidden:
        return [Finding(about, "not checkable", "nodes cannot be seen", seen.nodes.forbidden)]
    nodes = [each for each in seen.nodes.value or () if each.schedulable]
    if not nodes:
        hint = "kubectl get nodes"
        return [Finding(about, "problem", "no node is ready for pods", hint)]
    name, cpu, memory = largest_request()
    wants = f"the largest default request ({name}: {cpu:g} CPU, {memory:g} MiB)"
    if not any(each.cpu >= cpu and each.memory >= memory for each in nodes):
        hint = "lower resources or serving in model.yaml, or add a larger node"
        return [Finding(about, "problem", f"no node is large enough for {wants}", hint)]
    known = [each for each in nodes if each.free_cpu is not None]
    if not known:
        text = f"{len(nodes)} ready; what is free on them is not known, as pods cannot be listed"
        return [Finding(about, "not checkable", text)]
    if not any(_fits(each, cpu, memory) for each in known):
        best = max(known, key=lambda each: each.free_cpu or 0.0)
        text = (
            f"none has room now for {wants}: {best.name} has {best.free_cpu:.2f} CPU and "
            f"{best.free_memory:.0f} MiB free"
        )
        hint = "its pod stays Pending: end something, add a node, or ask for less in model.yaml"
        return [Finding(about, "warning", text, hint)]
    return [Finding(about, "ok", f"{len(nodes)} ready, with room for {wants}")]


def check_gpus(seen: Seen) -> list[Finding]:
    if seen.nodes.forbidden:
        return []
    count = sum(each.gpus for each in seen.nodes.value or () if each.schedulable)
    text = f"{count} allocatable" if count else "none; steps ask for one only if model.yaml does"
    return [Finding("GPUs", "ok", text)]


def _fits(node: Node, cpu: float, memory: float) -> bool:
    return (node.free_cpu or 0.0) >= cpu and (node.free_memory or 0.0) >= memory
