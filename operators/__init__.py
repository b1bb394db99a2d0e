"""The operator: Kopf watches, the library decides, this package does.

    python -m operators

    kopf events ─► ObjectCache ─► WorkQueue ─► RolloutReconciler: observe ─► step() ─► act ─► store
                        ▲ lists once a minute, for what a watch did not say

Handlers hold no logic and nothing is kept in Kopf's annotations: a decision depends only on what is
in the cluster, the registry and the prediction log, so that a killed operator goes on where it was.
"""
