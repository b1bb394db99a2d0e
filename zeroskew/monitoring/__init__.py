"""Watches what serving does: drift from training, freshness, live performance, and what follows."""
