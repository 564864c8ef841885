"""The configuration: one frozen group per step, each a parameter of the flow and a typed form in the UI.

Fields made with `Free(...)` cannot change a result (threads, memory, devices, places) and stay out of versions.
"""

from recsys.config.backtest import Backtest
from recsys.config.data import Data, Drift, Events, Features, Items, Levels, Sequences, Shop, Table, Users
from recsys.config.groups import Free, Group, expand, provide
from recsys.config.model import Model, Part, Training
from recsys.config.night import Evaluation, Export, Night, Promotion, Publishing, Scoring

__all__ = [
    "Backtest",
    "Data",
    "Drift",
    "Evaluation",
    "Events",
    "Export",
    "Features",
    "Free",
    "Group",
    "Items",
    "Levels",
    "Model",
    "Night",
    "Part",
    "Promotion",
    "Publishing",
    "Scoring",
    "Sequences",
    "Shop",
    "Table",
    "Training",
    "Users",
    "expand",
    "provide",
]
