"""Zeroskew: features computed once, for training and for serving, and proven row by row."""

__version__ = "0.1.0"
