"""The orchestration: flows and tasks, the command line, and the only package that imports prefect."""
