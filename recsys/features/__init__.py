"""The features step: source tables in, typed and checked tables with derived columns out."""
