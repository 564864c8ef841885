"""The network and its training: building blocks as text."""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from recsys.config.groups import Free, Group
from recsys.errors import ConfigError
from recsys.grammar import check_grammar
from recsys.parts import Spec
from recsys.slots import name_of


def _as_text(given: Any) -> Any:
    """From Python a part may be a spec, as `part(PreLN, n_blocks=4)`, or a class."""
    if given is not None and not isinstance(given, (str, Spec, type)):
        raise ValueError(f"a part is text, a class or part(…), and not a thing that is made already: write part({type(given).__name__}, …)")
    return str(given) if isinstance(given, Spec) else name_of(given) if isinstance(given, type) else given


def _call(text: str) -> str:
    """Grammar is checked here; names and arguments are looked up when a run starts."""
    try:
        check_grammar(text)
    except ConfigError as error:  # pydantic reports ValueErrors with the field's name
        raise ValueError(str(error)) from None
    return text


Part: TypeAlias = Annotated[str, BeforeValidator(_as_text), AfterValidator(_call)]  # a building block, as "PreLN(n_blocks=2)"


class Model(Group):
    """The network, as building blocks. A recipe fills what is not given; `recsys show model` prints the result."""

    recipe: str = Field("sasrec", description="Named model of recsys.recipes.")
    width: int | None = Field(None, ge=1, description="Width D of the hidden vectors.")
    max_events: int | None = Field(None, ge=1, description="Newest events of a history that the network reads (L).")
    inputs: Part | None = Field(None, description='How an event becomes a vector, e.g. "Inputs(aggregation=Concat())".')
    items: Part | None = Field(None, description='The item table, e.g. "IdEmbedding()".')
    positions: Part | None = Field(None, description='Position encoding, e.g. "Learned()" or "NoPositions()".')
    objective: Part | None = Field(None, description='Which positions are predicted, e.g. "CausalLM()".')
    encoder: Part | None = Field(None, description='The sequence encoder, e.g. "PreLN(n_blocks=2, n_heads=2)".')
    loss: Part | None = Field(None, description='Loss of the recipe\'s NextItem head, e.g. "CrossEntropy(label_smoothing=0.1)".')
    heads: tuple[Part, ...] | None = Field(None, description='Heads, e.g. ["NextItem(loss=CrossEntropy())"]; instead of `loss`.')
    towers: tuple[Part, ...] | None = Field(
        None, description="Inputs and encoders beside the main ones, e.g. \"Tower(name='context', inputs=Inputs(), encoder=GRU())\"."
    )
    fusion: Part | None = Field(
        None, description="User features after the encoder, e.g. \"UserFeatures(features=['age'])\"; none unless said."
    )
    merge: Part | None = Field(None, description='How hidden states of several towers become one, e.g. "Concat()"; their sum unless said.')
    network: Part | None = Field(
        None, description='The network that holds the parts, e.g. "team.networks.Debiased(strength=0.5)"; "Network()".'
    )
    batching: Part | None = Field(
        None, description='How a batch becomes padded tensors, e.g. "Padded()"; unless said "ByLength()" on a CPU, "FixedEdges()" on a GPU.'
    )
    initialisation: Part | None = Field(
        None, description='Weights to start from, e.g. "XavierNormal()" or "Normal(std=0.02)"; "AsBuilt()" unless said.'
    )
    code: str | None = Free(None, description="Folder with own parts: put on the path, its content into the version.")

    @model_validator(mode="after")
    def _loss_or_heads(self) -> "Model":
        if self.loss is not None and self.heads is not None:
            raise ValueError("`loss` is the loss of the recipe's NextItem head: name it or `heads`, not both")
        return self


class Training(Group):
    """How the network is fitted."""

    max_epochs: int = Field(20, ge=1, description="Epochs at most.")
    users_per_batch: int | None = Field(128, ge=1, description="Sequences per step.")
    events_per_batch: int | None = Field(
        None, ge=1, description="Events per step, about, instead of users_per_batch: the epoch in equal parts of at most so many."
    )
    optimizer: Part = Field(
        "AdamW(betas=[0.9, 0.98], fused=true)", description='The optimiser, of torch.optim or your own, e.g. "RAdam(eps=1e-6)".'
    )
    learning_rate: float = Field(1e-3, gt=0, description="The optimiser's learning rate.")
    weight_decay: float = Field(0.0, ge=0, description="The optimiser's weight decay, on matrices only: it spares biases and norms.")
    schedule: Part = Field(
        "Constant()",
        description='Learning rate by step, e.g. "WarmupCosine(warmup=0.1)" or "TorchSchedule(scheduler=OneCycleLR(max_lr=0.01))".',
    )
    patience: int = Field(3, ge=1, description="Epochs without a better validation NDCG@10 before it stops.")
    n_validation_users: int = Field(
        2048, ge=0, description="Users whose newest event before train_end validates; 0: nobody, and all of max_epochs are trained."
    )
    validation_users: Part = Field("RandomUsers()", description='Who they are: drawn by seed, or "SameUsers()" night after night.')
    min_user_events: int = Field(2, ge=2, description="Users with fewer events are not trained on; they are scored all the same.")
    min_item_events: int = Field(1, ge=1, description="Items with fewer events before train_end are unknown to the model.")
    long_histories: Literal["newest", "windows"] = Field(
        "newest", description="Learn from the newest max_events of a history, or from all of it in windows."
    )
    limit_train_batches: float | None = Field(None, gt=0, le=1, description="Share of the batches of an epoch: for quick tries.")
    module: Part = Field("SequenceModule()", description="The LightningModule: its steps, its validation and what it logs.")
    trainer: Part = Field("Trainer()", description='More for Lightning\'s Trainer, e.g. "Trainer(gradient_clip_val=1.0)".')
    callbacks: tuple[Part, ...] = Field((), description='Lightning callbacks, e.g. ["EMAWeightAveraging(decay=0.999)"].')
    warm_start: bool = Field(False, description="Start from the current model's vectors and weights, by item_id.")
    refit: bool = Field(True, description="Repeat the winner on everything before as_of.")
    deterministic: bool = Field(False, description="Bit-equal weights from equal inputs, on one device and thread count; slower.")
    accelerator: Literal["auto", "cpu", "gpu"] = Free("auto", description="Where it runs.")
    threads: int | None = Free(None, description="Torch's threads; all cores unless said.")

    @model_validator(mode="before")
    @classmethod
    def _events_or_users(cls, given: Any) -> Any:
        """A budget of events takes the place of the usual number of users."""
        if isinstance(given, dict) and given.get("events_per_batch") is not None:
            return {"users_per_batch": None, **given}
        return given

    @model_validator(mode="after")
    def _one_size_of_batches(self) -> "Training":
        if (self.users_per_batch is None) == (self.events_per_batch is None):
            raise ValueError("a batch is of users or of events: name users_per_batch or events_per_batch, and let the other be null")
        return self
