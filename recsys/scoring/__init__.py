"""The scoring step: tonight's list of every user."""
