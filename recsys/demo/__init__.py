"""A synthetic shop with a known best score: data for a first trial, and the oracle of the tests.

Every customer walks through the catalogue by one Markov chain. The articles stand in a ring; from an article, 90 % of
the steps lead to one of six successors a little ahead of it, with fixed chances, and 10 % to any article by popularity.
Nobody takes the same article twice. An article is replaced by a new one after two years, a customer after
twelve weeks, each on a day of its own, so that nearly every night knows new items and new users.

Two labels can be learnt (`sql/labels/`): whether the next event is a purchase, whose chance depends on the article's
category, and the hours until the next visit, which customers make more or less often. Neither has a say in who visits what.

>>> from recsys.config import Data, Shop
>>> from recsys.windows import parse_as_of
>>> data = prepare(Data(demo=Shop()), parse_as_of("2025-03-01"), Path("store/demo"))      # doctest: +SKIP
>>> data.events.path                                                                      # doctest: +SKIP
'store/demo/9dac4b256637/events/date=*/*.parquet'
"""

from recsys.demo.shop import Best, best_lists
from recsys.demo.tables import folder_in, prepare

__all__ = ["Best", "best_lists", "folder_in", "prepare"]
