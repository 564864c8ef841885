"""The examples in the docstrings are true."""

import doctest
import importlib
import pkgutil

import pytest
import torch

import recsys.model
from recsys.model.reader import Spans

MODULES = ["recsys.recipes", *(f"recsys.model.{m.name}" for m in pkgutil.iter_modules(recsys.model.__path__))]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name), extraglobs={"torch": torch, "Spans": Spans})
    assert result.failed == 0


def test_there_are_examples() -> None:
    assert sum(doctest.testmod(importlib.import_module(name)).attempted for name in MODULES) >= 3
