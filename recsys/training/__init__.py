"""Fits a network to the histories before a cut and leaves it as an artifact."""
