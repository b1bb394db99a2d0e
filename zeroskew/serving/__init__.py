"""What runs inside Triton: feature lookup, scoring, prediction log.

Runs in the environment of images/triton/requirements.lock, with NumPy 1: no feast, pandas, torch,
polars or pydantic here, and pyarrow only in the process that ships the log.
"""
