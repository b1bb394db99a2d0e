"""The operator's client of the API server: as many of them in a process as anybody likes."""

from operators.cluster_client import KINDS, ClusterClient


def test_a_second_client_knows_every_kind_too():
    first, second = ClusterClient(object()), ClusterClient(object())
    for kind in set(KINDS.values()):
        assert first._resource(kind) is second._resource(kind), kind
