"""Training: the torch model, the Ray Tune search, the final fit with Ray Train."""
