"""The steps of the pipelines as plain functions: files in, files out, no KFP.

A step reads what the step before it wrote, makes the calls of the library that belong together, and
returns what is worth showing as a plain dictionary. `components/` wraps each one into typed KFP
artifacts; anything that runs Python can call them without.

    ingest → validate_sources → join → validate_training_set → train → export → evaluate → register
    materialise, predict: pipelines of their own;  gate: between a validation and what relies on it
"""
