"""Evaluations and backtests for people: a page that opens without a network, and the same in markdown.

`night` and `folds` put a `document` together from tables; `figures` draws, `users` and `popularity` look at the lists themselves.
"""
