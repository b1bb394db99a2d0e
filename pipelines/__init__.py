"""KFP pipelines, and one folder for every model."""
