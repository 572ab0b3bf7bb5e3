"""Executable companion to "Reliable Explainability of Deep Learning Spatial-Spectral Classifiers" (arXiv 2502.14416)."""

__version__ = "0.1.0"
