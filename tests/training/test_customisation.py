"""How training goes is a matter of building blocks: of each kind one of somebody's own, named in a configuration and seen at work."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from flows.checks import check
from recsys import load as load_recommender
from recsys.config import Night, Training
from recsys.dictionary import Dictionary
from recsys.errors import ConfigError, ContractError
from recsys.histories import Histories
from recsys.model import saving
from recsys.model.inference import encode
from recsys.model.reader import Spans
from recsys.store import Artifact, Store
from recsys.training.parts import Parts
from recsys.training.validation_users import SameUsers

Fit = Callable[..., Artifact]


def epochs(done: Artifact) -> dict[str, list[Any]]:
    return pq.read_table(done.path / "epochs.parquet").to_pydict()


def weights(done: Artifact) -> dict[str, torch.Tensor]:
    return load_file(done.path / "weights.safetensors")


# ---------------------------------------------------------------- optimiser and schedule


def test_another_optimiser_of_torch_and_one_of_ones_own(own: Fit) -> None:
    usual = own()
    assert own(training={"optimizer": "AdamW(fused=true, betas=[0.9, 0.98])"}).content != ""
    for optimizer in ("RAdam()", "torch.optim.SGD(momentum=0.9)", "team_training.Lion(beta=0.8)"):
        other = own(training={"optimizer": optimizer})
        assert other.content != usual.content and np.isfinite(epochs(other)["train_loss"]).all()
    steps = [(own(training={"optimizer": f"team_training.Lion(beta={beta})"}).content) for beta in (0.8, 0.5)]
    assert steps[0] != steps[1], "its argument is used"


def test_weight_decay_spares_biases_and_norms_whatever_the_optimiser(own: Fit) -> None:
    """With a learning rate × decay of one, a matrix is gone after a step of SGD; a norm's gain is not."""
    done = own(training={"optimizer": "SGD()", "learning_rate": 1e-3, "weight_decay": 1e3, "max_epochs": 1}, epochs=1)
    found = weights(done)
    assert found["encoder.norm.weight"].mean() > 0.9
    assert max(tensor.abs().mean() for tensor in found.values() if tensor.ndim >= 2) < 0.05


def test_a_schedule_moves_the_learning_rate(own: Fit) -> None:
    half = own(training={"schedule": "team_training.Frozen(share=0.5)"}, epochs=1)
    whole = own(training={"schedule": "team_training.Frozen(share=1.0)"}, epochs=2)
    same = own(training={"schedule": "team_training.Frozen(share=0.5)"}, epochs=2)
    torch.testing.assert_close(weights(half), weights(same), rtol=0, atol=0)
    assert whole.content != same.content, "the second epoch learns nothing under the schedule, and something without"
    warmed = own(training={"schedule": "WarmupCosine(warmup=0.3)"})
    assert warmed.content != own(training={"schedule": "TorchSchedule(scheduler=OneCycleLR(max_lr=0.01))"}).content


# ---------------------------------------------------------------- Lightning


def test_a_module_replaces_the_training_step_the_validation_and_what_is_logged(own: Fit) -> None:
    usual = epochs(own(training={"optimizer": "SGD()", "learning_rate": 1e-9}))
    found = epochs(own(training={"optimizer": "SGD()", "learning_rate": 1e-9, "module": "team_training.Doubled(factor=2.0, k=10)"}))
    assert found["train_loss"][0] == pytest.approx(2 * usual["train_loss"][0], rel=1e-6)
    assert found["ndcg_at_10"] == usual["ndcg_at_10"]
    assert all(0 < ndcg < hit <= 1 for ndcg, hit in zip(found["ndcg_at_10"], found["hit_at"], strict=True))
    assert found["buckets"][0] >= 1


def test_arguments_of_the_trainer(own: Fit) -> None:
    """Clipped to nearly nothing, SGD stays where it is; two batches to a step are another training, of the same mean loss."""
    start = own(training={"optimizer": "SGD()", "learning_rate": 1e-9, "max_epochs": 1})
    clipped = own(training={"optimizer": "SGD()", "learning_rate": 0.1, "max_epochs": 1, "trainer": "Trainer(gradient_clip_val=1e-9)"})
    free = own(training={"optimizer": "SGD()", "learning_rate": 0.1, "max_epochs": 1})
    for name, tensor in weights(start).items():
        torch.testing.assert_close(weights(clipped)[name], tensor, rtol=0, atol=1e-7)
    assert any(not torch.allclose(tensor, weights(free)[name], atol=1e-4) for name, tensor in weights(start).items())
    two = {"optimizer": "SGD()", "learning_rate": 1e-9, "max_epochs": 1, "trainer": "Trainer(accumulate_grad_batches=2)"}
    assert epochs(own(training=two))["train_loss"] == pytest.approx(epochs(start)["train_loss"], rel=1e-6)


def test_callbacks_are_called_and_may_end_it(own: Fit) -> None:
    found = epochs(own(training={"max_epochs": 9, "callbacks": ("team_training.Counter(limit=9)",)}))
    per_epoch = found["steps_so_far"][0]
    assert len(found["epoch"]) == int(np.ceil(9 / per_epoch)) < 9
    early = {"max_epochs": 9, "learning_rate": 0.5, "callbacks": ("EarlyStopping(monitor='ndcg_at_10', mode='max', patience=1)",)}
    assert len(epochs(own(training={**early, "patience": 9}))["epoch"]) < 9


def test_an_average_of_weights_is_what_is_validated_and_kept(own: Fit) -> None:
    """With a decay of one the average never moves: it is the start, epoch after epoch, while the loss falls."""
    done = own(training={"max_epochs": 3, "callbacks": ("EMAWeightAveraging(decay=1.0, update_starting_at_step=0)",)})
    found, start = epochs(done), own(training={"optimizer": "SGD()", "learning_rate": 1e-12, "max_epochs": 1})
    assert found["train_loss"][-1] < found["train_loss"][0] and len(set(found["ndcg_at_10"])) == 1
    for name, tensor in weights(done).items():
        torch.testing.assert_close(tensor, weights(start)[name], rtol=0, atol=2e-2)


@pytest.mark.parametrize("schedule", ["WarmupCosine(warmup=0.2)", "TorchSchedule(scheduler=StepLR(step_size=1, gamma=0.5), per='epoch')"])
def test_a_killed_training_with_everything_replaced_goes_on_to_the_same_bytes(
    own: Fit, kill_halfway: Callable[..., Store], code: Path, schedule: str
) -> None:
    settings: dict[str, Any] = {
        "max_epochs": 4,
        "schedule": schedule,
        "optimizer": "team_training.Lion()",
        "module": "team_training.Doubled(factor=0.5)",
        "callbacks": ("team_training.Counter(limit=28)", "EMAWeightAveraging(decay=0.9)", "EarlyStopping(monitor='hit_at', mode='max')"),
    }
    undisturbed = own(training=settings)
    other = kill_halfway(undisturbed, code=str(code))
    shares: list[float] = []
    resumed = own(training=settings, store=other, sequences=other.find("sequences"), progress=shares.append)
    assert shares[0] > 0.5, "it started from the beginning"
    assert epochs(resumed) == epochs(undisturbed) and resumed.content == undisturbed.content


# ---------------------------------------------------------------- who validates


def test_who_validates(own: Fit) -> None:
    """Oldest first: nobody but the first users has a last event that is not trained on."""
    done = own(training={"validation_users": "team_training.Oldest()", "n_validation_users": 7})
    assert done.counts["validation_users"] == 7
    usual = own(training={"n_validation_users": 7})
    assert epochs(done)["ndcg_at_10"] != epochs(usual)["ndcg_at_10"]
    with pytest.raises(ContractError, match="Twice.choose was asked for .* 2 rows, 1 of them different"):
        own(training={"validation_users": "team_training.Twice()"})


def test_the_same_users_validate_whoever_else_is_there() -> None:
    everybody = pa.array([f"user-{i}" for i in range(100)])
    spans = Spans(*(torch.zeros(100, dtype=torch.long) for _ in range(3)))
    generator = torch.Generator()
    chosen = {everybody[row].as_py() for row in SameUsers().choose(everybody, spans, 20, generator).tolist()}
    some = everybody.take(pa.array(range(50)))
    again = {some[row].as_py() for row in SameUsers().choose(some, spans, 20, generator).tolist()}
    assert len(chosen) == len(again) == 20
    assert {user for user in chosen if user in some.to_pylist()} <= again
    assert len(SameUsers().choose(pa.array([3, 1, 2]), spans, 20, generator)) == 3


# ---------------------------------------------------------------- the network, its batches and its first weights


def test_a_network_with_another_step_and_another_way_to_recommend(own: Fit, sequences: Artifact) -> None:
    usual, done = own(), own(model={"network": "team_training.Damped(damping=0.25, penalty=3.0)"})
    assert epochs(done)["train_loss"][0] == pytest.approx(epochs(usual)["train_loss"][0] + 3, rel=1e-5)
    (plain, vocabulary), (network, _) = saving.load(usual.path), saving.load(done.path)
    assert type(network).__name__ == "Damped" and network.damping == 0.25
    histories, dictionary = Histories.load(sequences.path), Dictionary.load(sequences.path)
    plain.load_state_dict(network.state_dict())
    reader = network.reader(histories, dictionary, vocabulary)
    spans = reader.spans(*histories.sequences(histories.offsets[1:], "user"))
    torch.testing.assert_close(encode(network, reader, spans), 0.25 * encode(plain, reader, spans))


def test_other_batches_and_other_first_weights(own: Fit) -> None:
    """Pairs of sequences are the same training up to the last digits, and have another share of padding."""
    still = {"optimizer": "SGD()", "learning_rate": 1e-9, "max_epochs": 1}
    usual, pairs, padded = (epochs(own(model={"batching": b}, training=still)) for b in (None, "team_training.Pairs(size=2)", "Padded()"))
    for other in (pairs, padded):
        assert other["ndcg_at_10"] == pytest.approx(usual["ndcg_at_10"])
    shares = [found["real_token_share"][0] for found in (usual, pairs, padded)]
    assert len(set(shares)) == 3 and shares[2] < shares[0]
    ones = own(model={"initialisation": "team_training.Ones()"}, training=still)
    table = weights(ones)["inputs.items.weight"]
    torch.testing.assert_close(table, torch.ones_like(table), rtol=0, atol=1e-4)


def test_a_trained_model_finds_its_parts_where_they_were(own: Fit, code: Path, tmp_path: Path) -> None:
    """In a process that knows nothing of the folder, and in one where it has moved."""
    done = own(model={"network": "team_training.Damped(damping=0.5)"}, training={"max_epochs": 1})
    load = f"from pathlib import Path; from recsys.model.saving import load; print(load(Path({str(done.path)!r})"
    found = subprocess.run([sys.executable, "-c", f"{load})[0].damping)"], capture_output=True, text=True)
    assert found.stdout.strip() == "0.5", found.stderr
    edited = Path(shutil.copytree(code, tmp_path / "edited"))
    (edited / "team_training.py").write_text((code / "team_training.py").read_text() + "\n\nclass Damped(Damped):\n    edited = True\n")
    asked = f"from recsys import load; print(load({str(done.path)!r}, code={str(edited)!r}).network.edited)"
    found = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True)
    assert found.stdout.strip() == "True", f"not the code that was asked for: {found.stderr}"
    assert load_recommender(done.path, code=str(edited)).network.edited, "here, where that of the training is imported"  # type: ignore[attr-defined]
    code.rename(tmp_path / "moved")
    lost = subprocess.run([sys.executable, "-c", f"{load})[0].damping)"], capture_output=True, text=True)
    assert "model.network" in lost.stderr and "Is its folder given as model.code?" in lost.stderr
    moved = subprocess.run([sys.executable, "-c", f"{load}, {str(tmp_path / 'moved')!r})[0].damping)"], capture_output=True, text=True)
    assert moved.stdout.strip() == "0.5", moved.stderr


# ---------------------------------------------------------------- what is refused, before any work


@pytest.mark.parametrize(
    ("field", "text", "says"),
    [
        ("optimizer", "AdmW()", "training.optimizer: .*Did you mean AdamW"),
        ("optimizer", "AdamW(beta=0.9)", "AdamW has no argument 'beta'. Did you mean betas"),
        ("optimizer", "AdamW(betas=[0.9, 2.0])", "cannot be made: Invalid beta parameter"),
        ("optimizer", "AdamW(lr=0.1)", "lr is decided by training.learning_rate"),
        ("optimizer", "AdamW(weight_decay=0.1)", "weight_decay is decided by training.weight_decay"),
        ("optimizer", "Muon()", "training.optimizer: .*2D"),
        ("optimizer", "team_training.Frozen()", "is no torch.optim.optimizer.Optimizer"),
        ("schedule", "WarmupCosin()", "Did you mean WarmupCosine"),
        ("schedule", "Warmup(warmup=-3)", "training.schedule: .*neither a number of steps"),
        ("schedule", "TorchSchedule(scheduler=OneCycleLR())", "training.schedule: .*max_lr"),
        ("validation_users", "team_training.Lion()", "is no recsys.training.validation_users.ValidationUsers"),
        ("module", "team_training.Doubled()", "Doubled needs factor"),
        ("module", "team_training.Doubled(factor='2')", "factor='2' does not fit Doubled"),
        ("module", "team_training.Doubled(factor=2.0, network=1)", "has no argument 'network'"),
        ("module", "team_training.Missing()", "the module team_training has no 'Missing'"),
        ("trainer", "Trainer(max_epochs=3)", "max_epochs is decided by training.max_epochs"),
        ("trainer", "Trainer(callbacks=[])", "callbacks is decided by training.callbacks"),
        ("trainer", "Trainer(logger=true)", "logger cannot be set: every epoch is kept in epochs.parquet"),
        ("trainer", "Trainer(gradient_clip=1.0)", "Did you mean gradient_clip_val"),
        ("trainer", "Trainer(gradient_clip_val='much')", "training.trainer: Trainer cannot be made"),
        ("callbacks", ("EarlyStoping()",), "training.callbacks: .*Did you mean EarlyStopping"),
        ("callbacks", ("EarlyStopping()",), "training.callbacks: EarlyStopping cannot be made: .*monitor"),
        ("callbacks", ("Timer()", "Timer()"), "training.trainer: .*Timer"),
    ],
)
def test_what_does_not_work_is_refused_before_any_work(code: Path, field: str, text: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Parts.of(Training(**{field: text}), str(code)).check()


@pytest.mark.parametrize("content", [b"class Broken(\n", b"# caf\xe9\n"])
def test_an_own_file_that_is_no_python_is_named(own: Fit, code: Path, content: bytes) -> None:
    (code / "beside.py").write_bytes(content)
    with pytest.raises(ConfigError, match=r"beside\.py, in the folder of own parts, is no Python"):
        own()


def test_decay_of_an_optimiser_that_has_none(code: Path) -> None:
    with pytest.raises(ConfigError, match="training.weight_decay is 0.1, and Rprop has no weight decay"):
        Parts.of(Training(optimizer="Rprop()", weight_decay=0.1)).check()


def test_a_night_is_checked_before_it_begins(own: Fit, code: Path, tmp_path: Path) -> None:
    night = {"data": {"demo": {}}, "model": {"code": str(code)}}
    check(Night.model_validate({**night, "training": {"module": "team_training.Doubled(factor=2.0)"}}), Store(tmp_path))
    with pytest.raises(ConfigError, match="training.schedule"):
        check(Night.model_validate({**night, "training": {"schedule": "Warm()"}}), Store(tmp_path))
    with pytest.raises(ConfigError, match="model.batching.*Did you mean Padded"):
        check(Night.model_validate({**night, "model": {"batching": "Paded()"}}), Store(tmp_path))
    with pytest.raises(ConfigError, match="Silent.validation_step logs no 'ndcg_at_10'"):
        own(training={"module": "team_training.Silent()"})
    with pytest.raises(ConfigError, match="Lightning cannot train so.*logger"):
        own(training={"callbacks": ("LearningRateMonitor()",)})
