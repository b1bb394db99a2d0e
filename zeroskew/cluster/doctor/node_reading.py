"""Nodes, and what the pods on them leave free."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from zeroskew.cluster.access import Cluster, Kind
from zeroskew.cluster.doctor.observations import Node
from zeroskew.errors import ClusterError

__all__ = ["quantity", "read_nodes"]

NODE = Kind("", "v1", "nodes", "Node", False)
POD = Kind("", "v1", "pods", "Pod")
_OVER = frozenset({"Succeeded", "Failed"})
_UNITS = {
    "n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50,
}  # fmt: skip


def read_nodes(cluster: Cluster) -> tuple[Node, ...]:
    """Raises `ClusterError` if nodes may not be listed; free amounts need pods of the cluster."""
    bodies = cluster.list(NODE)
    try:
        used: dict[str, tuple[float, float]] | None = used_by(cluster.list(POD))
    except ClusterError as error:
        if error.code != 403:
            raise
        used = None
    return tuple(_node(each, used) for each in bodies)


def used_by(pods: Iterable[Mapping[str, Any]]) -> dict[str, tuple[float, float]]:
    """Cores and MiB that pods have asked for, by the node that they are on."""
    found: dict[str, tuple[float, float]] = {}
    for pod in pods:
        node = pod["spec"].get("nodeName")
        if not node or (pod.get("status") or {}).get("phase") in _OVER:
            continue
        cpu, memory = found.get(node, (0.0, 0.0))
        for container in pod["spec"].get("containers") or []:
            asked = (container.get("resources") or {}).get("requests") or {}
            cpu += quantity(asked.get("cpu", "0"))
            memory += quantity(asked.get("memory", "0")) / 2**20
        found[node] = cpu, memory
    return found


def quantity(text: str) -> float:
    """Of Kubernetes: `500m` is 0.5, `2Gi` is 2147483648, `1e3` is 1000."""
    for unit in sorted(_UNITS, key=len, reverse=True):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * _UNITS[unit]
    return float(text)


def _node(body: Mapping[str, Any], used: Mapping[str, tuple[float, float]] | None) -> Node:
    allocatable = (body.get("status") or {}).get("allocatable") or {}
    name = body["metadata"]["name"]
    cpu = quantity(allocatable.get("cpu", "0"))
    memory = quantity(allocatable.get("memory", "0")) / 2**20
    taken = None if used is None else used.get(name, (0.0, 0.0))
    said = (body.get("status") or {}).get("conditions") or []
    ready = any(each.get("type") == "Ready" and each.get("status") == "True" for each in said)
    return Node(
        name,
        schedulable=ready and not body["spec"].get("unschedulable"),
        cpu=cpu,
        memory=memory,
        gpus=sum(int(amount) for key, amount in allocatable.items() if key.endswith(".com/gpu")),
        free_cpu=None if taken is None else cpu - taken[0],
        free_memory=None if taken is None else memory - taken[1],
    )
