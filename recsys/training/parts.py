"""The building blocks that the `training` group names: how the network is fitted, not what it is."""

import logging
import warnings
from dataclasses import dataclass
from typing import Any, TypeVar

from pytorch_lightning import Callback, Trainer
from torch.optim import Optimizer

from recsys.config import Training
from recsys.errors import ConfigError
from recsys.model import own_parts
from recsys.parts import Spec, parse
from recsys.training.module import SequenceModule
from recsys.training.optimisation import Optimisation
from recsys.training.schedules import Schedule
from recsys.training.validation_users import ValidationUsers

# Set on import and not for each training: an interrupt inside setLevel leaves logging's lock taken for good (CPython 3.11),
# and every thread that logs then waits for it forever.
logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)

T = TypeVar("T")

SLOTS: dict[str, type] = {
    "optimizer": Optimizer,
    "schedule": Schedule,
    "validation_users": ValidationUsers,
    "module": SequenceModule,
    "trainer": Trainer,
}

# Arguments of Lightning's Trainer that something else decides.
FIELDS = {
    **{name: f"training.{name}" for name in ("max_epochs", "limit_train_batches", "deterministic", "callbacks", "accelerator")},
    "fast_dev_run": "training.limit_train_batches",
    "overfit_batches": "training.limit_train_batches",
}
FIXED = {
    "a network is trained on one device": ("devices", "num_nodes", "strategy"),
    "every epoch is validated once, on everybody who validates": (
        "check_val_every_n_epoch", "val_check_interval", "limit_val_batches", "num_sanity_val_steps",
    ),
    "every epoch is kept in epochs.parquet and in a checkpoint of the training's own": (
        "enable_checkpointing", "logger", "default_root_dir", "barebones", "reload_dataloaders_every_n_epochs", "model_registry",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Parts:
    """The blocks of a `training` group, found but not built."""

    training: Training
    one: dict[str, Spec[Any]]  # by field
    callbacks: tuple[Spec[Callback], ...]

    @classmethod
    def of(cls, training: Training, code: str | None = None) -> "Parts":
        """ConfigError names the field and what would be valid. `code` is the folder of own parts, `model.code`."""
        own_parts.put_on_path(code)
        one: dict[str, Spec[Any]] = {name: parse(getattr(training, name), slot, f"training.{name}") for name, slot in SLOTS.items()}
        return cls(training, one, tuple(parse(text, Callback, "training.callbacks") for text in training.callbacks))

    def in_canonical_text(self) -> Training:
        """The group with every block spelt in one way."""
        texts = {name: str(spec) for name, spec in self.one.items()}
        return self.training.model_copy(update={**texts, "callbacks": tuple(map(str, self.callbacks))})

    def classes(self) -> set[type]:
        """Classes of all blocks, nested ones too."""
        return {cls for spec in (*self.one.values(), *self.callbacks) for cls in spec.classes()}

    def check(self) -> None:
        """ConfigError where a block cannot be built, as far as that is known without data."""
        self.optimisation().check()
        self.validation_users()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a GPU, say, that is not used for this
            self.trainer(accelerator="cpu", devices=1, max_epochs=1, logger=False, callbacks=self.built_callbacks())

    def optimisation(self) -> Optimisation:
        training = self.training
        schedule = _built("schedule", self.one["schedule"])
        return Optimisation(self.one["optimizer"], schedule, training.learning_rate, training.weight_decay, training.max_epochs)

    def validation_users(self) -> ValidationUsers:
        return _built("validation_users", self.one["validation_users"])

    def built_callbacks(self) -> list[Callback]:
        return [_built("callbacks", spec) for spec in self.callbacks]

    def trainer(self, **ours: Any) -> Trainer:
        """Lightning's Trainer with our arguments, and those that were asked for over them."""
        spec = self.one["trainer"]
        for name in spec.arguments:
            if name in FIELDS:
                raise ConfigError(f"training.trainer: {name} is decided by {FIELDS[name]}: set it there.")
            for why, names in FIXED.items():
                if name in names:
                    raise ConfigError(f"training.trainer: {name} cannot be set: {why}.")
        arguments = {**ours, **spec.arguments}
        return _built("trainer", Spec(spec.cls, arguments))


def _built(field: str, spec: Spec[T]) -> T:
    try:
        return spec.build()
    except Exception as error:  # another library's constructor: anything can be wrong with what it is given
        raise ConfigError(f"training.{field}: {spec.cls.__name__} cannot be made: {error}") from error
