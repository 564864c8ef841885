"""A nightly batch recommender: event tables in, top-k lists for every user out."""

__version__ = "0.1.0"
