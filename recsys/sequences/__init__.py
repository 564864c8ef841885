"""The step *sequences*: a dictionary of everything that has a code, and every user's history as flat sorted columns."""
