"""Kubernetes operators."""
