"""Pipelines that run by a clock: `PipelineSchedule`, on a cluster and on a laptop.

Here is what a schedule is (`schedule_spec`, `cron`, `crd`), what it remembers (`schedule_state`),
the pure machine that decides (`machine`, `missed_times`, `conditions`), how model.yaml says it
(`schedule_config`), and the clock of a laptop (`local_clock`). What talks to a cluster is in
operators/schedule/.
"""
