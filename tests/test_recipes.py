import pytest

from recsys import recipes
from recsys.config import Model
from recsys.errors import ConfigError
from recsys.model.blocks import Blocks
from recsys.recipes import resolve


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_names_whole_networks_of_parts_that_exist(name: str) -> None:
    model = resolve(Model(recipe=name))
    assert model.recipe == name and model.width and model.max_events and model.loss is None
    blocks = Blocks.of(model)
    assert blocks.several["heads"] and Blocks.of(blocks.in_canonical_text()) == blocks
    assert resolve(model) == model, "resolving twice changes nothing"


def test_what_is_given_replaces_the_recipe() -> None:
    model = resolve(Model(recipe="sasrec", width=64, positions="NoPositions()", loss="CrossEntropy(temperature=0.5)"))
    recipe = resolve(Model(recipe="sasrec"))
    assert (model.width, model.positions, model.heads) == (64, "NoPositions()", ("NextItem(loss=CrossEntropy(temperature=0.5))",))
    assert (model.encoder, model.inputs, model.max_events) == (recipe.encoder, recipe.inputs, recipe.max_events)
    hstu = resolve(Model(recipe="hstu", loss="BCE(n_negatives=8)"))
    assert hstu.heads == ("NextItem(loss=BCE(n_negatives=8), similarity=Cosine())",), "of a recipe's head the loss alone is another"
    assert resolve(Model(heads=("NextItem(bias=true)",))).heads == ("NextItem(bias=true)",)


def test_an_unknown_recipe_names_the_closest() -> None:
    with pytest.raises(ConfigError, match="Did you mean sasrec"):
        resolve(Model(recipe="sasrek"))
    with pytest.raises(ConfigError, match="There are: .*sasrec"):
        resolve(Model(recipe="zzzzz"))


def test_functions_that_are_no_recipes_are_none() -> None:
    assert "resolve" not in recipes.names() and "names" not in recipes.names() and "expand" not in recipes.names()
