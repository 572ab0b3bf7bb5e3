"""Executable companion to arXiv 2502.14416: reliable explainability of spatial-spectral classifiers."""

__version__ = "0.1.0"
