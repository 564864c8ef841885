"""What a backtest compares, and on which folds."""

from datetime import datetime

from pydantic import Field

from recsys.config.groups import Free, Group
from recsys.windows import Duration, Fold, Split, folds


class Backtest(Group):
    """Several models on several folds of one data set. Each model's training and lists of a fold are kept, and reused."""

    models: tuple[str, ...] = Field(
        ("candidate", "popular_lately", "popular"),
        min_length=1,
        description='Who is compared: "candidate" (the model of this configuration), "popular", "popular_lately", a recipe with what it '
        'has of its own ("albert", "sasrec(width=128, max_epochs=5)"), or a file with the groups model and training ("team/mine.yaml"). '
        '"short=sasrec(max_events=10)" gives one a name.',
    )
    split: Split | None = Field(
        None,
        description='What a fold holds out: a duration ("7d"), "last-1" for the newest event of each user, "random-10%" of all events. '
        "The holdout of the evaluation unless said.",
    )
    n_folds: int = Field(1, ge=1, le=1000, description="Folds, which follow each other and end at as_of.")
    gap: Duration | None = Field(None, description="Time before each fold in which nothing is learnt, nor read unless last_only is set.")
    train_window: Duration | None = Field(None, description="Learn from this long before a fold; from everything before it unless said.")
    continuing: bool = Field(False, description="Begin the training of a fold with the weights of the fold before.")
    last_only: bool = Field(False, description="Ask for the last event of each user in a fold only, and read all before it.")
    cold_users: bool = Field(False, description="Ask users too who have no event before the fold.")
    cold_items: bool = Field(False, description="Ask for items too that nobody had before the fold: no list can have earned them.")
    seen: bool | None = Field(
        None,
        description="Ask for items too that the user had before. Unless said, where lists may have them (scoring.exclude_seen: false).",
    )
    references: tuple[str, ...] = Field(
        (), description="Models of `models`, or further ones, whose lists the others' are intersected with."
    )
    test_references: bool = Field(True, description="Whether references that `models` does not name stand in the tables too.")
    csv: str | None = Free(
        None, description="Folder for models.csv (means over folds) and folds.csv. ${NAME} is taken from the environment."
    )

    def folds(self, as_of: datetime, holdout: str, seed: int) -> list[Fold]:
        """The folds before as_of, oldest first; ConfigError where what is asked for does not go together."""
        return folds(
            as_of, self.split or holdout, self.n_folds, gap=self.gap, train_window=self.train_window, last_only=self.last_only, seed=seed
        )  # fmt: skip
