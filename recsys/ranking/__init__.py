"""Exact top-k, exclusions, popularity and metrics: shared by training (validation), evaluation and scoring."""
