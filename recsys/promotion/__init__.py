"""The gate: which contender is published tonight, and why."""
