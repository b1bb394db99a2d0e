"""PipelineSchedules on a cluster: what talks to the API server, the pipelines and Prometheus.

Everything that decides is in zeroskew/schedule/.
"""
