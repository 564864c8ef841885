"""The evaluation step: contenders on common ground, per-user metrics, paired intervals and a report."""
