"""Exact top-k, exclusions, popularity and metrics: shared by training (validation), evaluation and scoring."""

K = 10  # places of a list that decide where no setting says how many: on the best epoch, popular-lately's window, the refit
