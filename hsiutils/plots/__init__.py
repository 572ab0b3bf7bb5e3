"""Figures: holoviews elements with axis labels, units and a colour-blind-safe palette, shown with a description."""
