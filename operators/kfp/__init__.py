"""Kubeflow Pipelines as the operator uses it: named runs, each started at most once.

    client.py     the API's requests, and what their answers mean
    request.py    what a run is made of, in the form that the server can keep
    workflows.py  what Argo knows of runs that the server has no row of, and of failed steps
    runs.py       runs by name: start, look, stop

Whoever starts runs (a DriftMonitor's decision, a schedule) goes through `KfpRuns`; nobody else
speaks to the server.
"""
