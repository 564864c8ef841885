import gc
import signal
import sys
import textwrap
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from recsys.dictionary import Dictionary
from recsys.errors import ConfigError, ContractError, Diverged
from recsys.histories import Histories
from recsys.model.saving import key_of, load
from recsys.store import Artifact, Store
from recsys.training.module import SequenceModule
from recsys.training.warm_start import warm_start
from recsys.windows import Cut, holdout

Fit = Callable[..., Artifact]
Make = Callable[..., Artifact]
Kill = Callable[..., Store]

BEST_NDCG = 0.6 + 0.25 / np.log2(3) + 0.15 / np.log2(4)  # of who knows the ring: the three next articles by their chances


def test_it_learns_the_ring_and_beats_popularity(fit: Fit, sequences: Artifact) -> None:
    done = fit(sequences, training={"max_epochs": 12, "deterministic": False})
    epochs = pq.read_table(done.path / "epochs.parquet").to_pydict()
    assert epochs["train_loss"][-1] < 0.6 * epochs["train_loss"][0]
    popular = np.sort(np.bincount(Histories.load(sequences.path).item_code) / 4800)[::-1][:10]  # about 1 in 50 each
    assert done.metrics["ndcg_at_10"] > 4 * (popular / np.log2(np.arange(2, 12))).sum()
    assert done.metrics["ndcg_at_10"] > 0.9 * BEST_NDCG
    assert done.metrics["real_token_share"] > 0.85
    assert done.counts["parameters"] == sum(tensor.numel() for tensor in load_file(done.path / "weights.safetensors").values())


def test_the_best_weights_are_kept(fit: Fit, sequences: Artifact) -> None:
    """A learning rate that is far too high from a good start on: the first epochs are the best, and it stops early."""
    start = fit(sequences, training={"max_epochs": 8})
    done = fit(sequences, training={"max_epochs": 30, "learning_rate": 0.5, "patience": 2}, warm_from=start)
    epochs = pq.read_table(done.path / "epochs.parquet")
    best = int(np.argmax(epochs["ndcg_at_10"]))
    assert len(epochs) == best + 3 == done.metrics["n_epochs"] < 30
    assert done.metrics["best_epoch"] == best + 1
    assert done.metrics["ndcg_at_10"] == epochs["ndcg_at_10"][best].as_py()
    network, vocabulary = load(done.path)
    exactly = fit(sequences, training={"max_epochs": best + 1, "learning_rate": 0.5, "patience": 2}, warm_from=start)
    assert (exactly.path / "weights.safetensors").read_bytes() == (done.path / "weights.safetensors").read_bytes()
    assert network.n_parameters == done.counts["parameters"] and vocabulary.n_items == done.counts["items"]


def test_equal_runs_give_equal_bytes(fit: Fit, sequences: Artifact) -> None:
    first = fit(sequences)
    content = first.content
    assert fit(sequences).reused
    again = fit(sequences, rebuild=True)
    assert not again.reused and again.content == content
    assert fit(sequences, seed=2).content != content


def test_the_randomness_of_others_is_left_alone(fit: Fit, sequences: Artifact) -> None:
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    fit(sequences, training={"max_epochs": 1})
    assert torch.equal(torch.rand(3), expected)
    assert not torch.are_deterministic_algorithms_enabled()


def test_nothing_of_it_stays_in_memory(fit: Fit, sequences: Artifact) -> None:
    def modules() -> int:
        return sum(type(one) is SequenceModule for one in gc.get_objects())

    before = modules()
    fit(sequences, training={"max_epochs": 1})
    assert modules() <= before


def test_a_killed_training_goes_on_to_the_same_bytes(fit: Fit, kill_halfway: Kill, sequences: Artifact) -> None:
    settings = {"max_epochs": 4}
    undisturbed = fit(sequences, training=settings)
    other = kill_halfway(undisturbed)
    (checkpoint,) = other.root.rglob("last.ckpt")
    epochs_before = torch.load(checkpoint, weights_only=True)["callbacks"]["Epochs"]["rows"]
    assert len(epochs_before) == 2

    shares: list[float] = []
    resumed = fit(other.find("sequences"), training=settings, store=other, progress=shares.append)
    assert shares[0] > 0.5, "it started from the beginning"
    assert resumed.content == undisturbed.content
    assert not list(other.root.rglob("last.ckpt"))


def test_a_training_that_had_finished_is_not_continued(fit: Fit, sequences: Artifact) -> None:
    """Killed after it stopped early but before its artifact was there: no further epoch is trained."""
    settings = {"max_epochs": 30, "learning_rate": 0.5, "patience": 1}
    undisturbed = fit(sequences, training=settings)
    assert undisturbed.metrics["n_epochs"] < 30

    class Killed(Exception):
        pass

    def die_at_the_end(done: float) -> None:
        if done == 1.0:
            raise Killed

    with pytest.raises(Killed):
        fit(sequences, training=settings, rebuild=True, progress=die_at_the_end)
    shares: list[float] = []
    assert fit(sequences, training=settings, rebuild=True, progress=shares.append).content == undisturbed.content
    assert shares == [1.0]


def test_ctrl_c_stays_a_keyboard_interrupt(fit: Fit, sequences: Artifact) -> None:
    before = signal.getsignal(signal.SIGINT)

    def interrupt(done: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(sequences, progress=interrupt)
    assert signal.getsignal(signal.SIGINT) is before


def test_without_people_who_validate_all_epochs_are_trained_on_everything(fit: Fit, sequences: Artifact) -> None:
    made = fit(sequences, training={"n_validation_users": 0, "max_epochs": 3, "patience": 1})
    assert made.metrics["n_epochs"] == 3 and made.metrics["ndcg_at_10"] is None and made.counts["validation_users"] == 0


def test_a_refit_trains_exactly_so_long_on_everything(fit: Fit, sequences: Artifact, as_of: datetime) -> None:
    night = fit(sequences, cut=holdout(as_of, "3h"))
    refit = fit(sequences, epochs=2)
    assert refit.metrics["n_epochs"] == refit.metrics["best_epoch"] == 2
    assert refit.metrics["ndcg_at_10"] is None and refit.counts["validation_users"] == 0 < night.counts["validation_users"]
    assert refit.counts["events"] == len(Histories.load(sequences.path).item_code) > night.counts["events"]
    assert refit.counts["trained_users"] > night.counts["trained_users"]


def test_events_after_the_cut_change_nothing(fit: Fit, make_sequences: Make, as_of: datetime) -> None:
    """The last three events of everyone are other items, with another device: the model before them is the same."""
    whole, cut = make_sequences(), holdout(as_of, "3h")
    changed = make_sequences(n_changed=3)
    assert whole.content != changed.content
    first, second = fit(whole, cut=cut), fit(changed, cut=cut)
    assert first.version != second.version and first.content == second.content


def test_warm_start_moves_rows_by_item_id(fit: Fit, make_sequences: Make, sequences: Artifact) -> None:
    old = fit(sequences)
    shifted = make_sequences(seed=5, first_item=110)  # ten items are new, ten are gone
    network, vocabulary = load(fit(shifted, training={"max_epochs": 1}).path)
    counts = warm_start(network, vocabulary, old.path)
    before, known = load_file(old.path / "weights.safetensors"), load(old.path)[1].item_id.to_pylist()
    source = [known.index(i) if i in known else -1 for i in vocabulary.item_id.to_pylist()]
    vectors, table = network.items.vectors(), before["inputs.items.weight"]
    kept = [row for row, place in enumerate(source) if place >= 0]
    assert counts == {"warm_tensors": len(before), "cold_tensors": 0, "warm_items": 40} and len(kept) == 40
    assert torch.equal(vectors[kept], table[[source[row] for row in kept]])
    new = [row for row, place in enumerate(source) if place < 0]
    torch.testing.assert_close(vectors[new], table[[source[row] for row in kept]].mean(0).expand(10, -1))
    assert torch.equal(network.state_dict()["encoder.norm.weight"], before["encoder.norm.weight"])
    assert torch.equal(
        network.state_dict()["inputs.features.embeddings.of_device.tables.of_device.weight"],
        before["inputs.features.embeddings.of_device.tables.of_device.weight"],
    )


def test_warm_start_from_another_architecture_takes_what_fits(fit: Fit, sequences: Artifact) -> None:
    old = fit(sequences, training={"max_epochs": 1})
    done = fit(sequences, model={"encoder": "SASRec(n_heads=2)", "inputs": "Inputs()"}, training={"max_epochs": 1}, warm_from=old)
    assert done.counts["warm_items"] == 50
    assert done.counts["warm_tensors"] > 1 and done.counts["cold_tensors"] > 1


def test_a_warm_start_is_ahead(fit: Fit, sequences: Artifact) -> None:
    cold = fit(sequences, training={"max_epochs": 4})
    warm = fit(sequences, training={"max_epochs": 1}, warm_from=cold)
    first_epochs = [pq.read_table(a.path / "epochs.parquet")["train_loss"][0].as_py() for a in (cold, warm)]
    assert first_epochs[1] < 0.7 * first_epochs[0]


def test_sessions_and_windows(fit: Fit, sequences: Artifact) -> None:
    by_user, by_session = fit(sequences, training={"max_epochs": 1}), fit(sequences, training={"max_epochs": 1}, key="session")
    assert by_session.counts["trained_sequences"] > by_user.counts["trained_sequences"] == by_user.counts["trained_users"]
    assert (key_of(by_session.path), key_of(by_user.path)) == ("session", "user"), "whoever ranks with it need not guess"
    windows = fit(sequences, training={"max_epochs": 1, "long_histories": "windows"}, model={"max_events": 4})
    assert windows.counts["trained_sequences"] > windows.counts["trained_users"] == by_user.counts["trained_users"]


def test_users_below_the_minimum_are_not_trained_on(fit: Fit, sequences: Artifact) -> None:
    lengths = np.diff(Histories.load(sequences.path).offsets)
    done = fit(sequences, training={"max_epochs": 1, "min_user_events": 6}, epochs=1)
    assert done.counts["trained_users"] == (lengths >= 6).sum() < done.counts["users"] == (lengths >= 1).sum()


def test_rare_items_are_unknown_and_counted(fit: Fit, sequences: Artifact) -> None:
    codes = Histories.load(sequences.path).item_code
    n_events = np.bincount(codes)
    done = fit(sequences, training={"max_epochs": 1, "min_item_events": int(np.median(n_events))})
    known = n_events >= np.median(n_events)
    assert done.counts["items"] == known.sum() < 50
    assert done.counts["events_of_unknown_items"] == (~known[codes]).sum()
    ids = Dictionary.load(sequences.path).item_id.to_numpy()
    items = pq.read_table(done.path / "vocabulary" / "items.parquet")
    assert items["item_id"].to_pylist() == ids[known].tolist() and items["n_events"].to_pylist() == n_events[known].tolist()


def test_a_share_of_the_batches(fit: Fit, sequences: Artifact) -> None:
    shares: list[float] = []
    fit(sequences, training={"max_epochs": 1, "limit_train_batches": 0.5, "users_per_batch": 16}, progress=shares.append)
    whole: list[float] = []
    fit(sequences, training={"max_epochs": 1, "users_per_batch": 16}, progress=whole.append)
    assert len(shares) - 1 == (len(whole) - 1) // 2
    assert shares == sorted(shares) and shares[-1] == 1.0


def test_batches_of_events(fit: Fit, sequences: Artifact) -> None:
    """As many steps as budgets in an epoch, whose length a schedule by steps needs to know."""
    training = {
        "users_per_batch": None,
        "events_per_batch": 200,
        "schedule": "TorchSchedule(scheduler=OneCycleLR(max_lr=0.01))",
    }
    done = fit(sequences, training=training)
    assert done.metrics["n_epochs"] == 3 and done.metrics["ndcg_at_10"] > 0.3
    assert done.content == fit(sequences, training=training, rebuild=True).content


def test_nobody_to_train_on(fit: Fit, sequences: Artifact, as_of: datetime) -> None:
    with pytest.raises(ContractError, match="no user to train on.*min_user_events"):
        fit(sequences, training={"min_user_events": 100})
    with pytest.raises(ContractError, match="nothing to learn"):
        fit(sequences, cut=holdout(as_of, "90d"))


def test_a_loss_that_is_not_finite(fit: Fit, store: Store, sequences: Artifact) -> None:
    with pytest.raises(Diverged, match="no longer finite in epoch 1.*learning_rate"):
        fit(sequences, training={"learning_rate": 1e30})
    assert not store.artifacts("training")


def test_settings_are_checked_before_any_work(fit: Fit, sequences: Artifact) -> None:
    with pytest.raises(ConfigError, match="model.encoder.*Did you mean PreLN"):
        fit(sequences, model={"encoder": "PreNL()"})
    with pytest.raises(ConfigError, match="devices cannot be set: a network is trained on one device"):
        fit(sequences, training={"trainer": "Trainer(devices=2)"})


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there(fit: Fit, sequences: Artifact) -> None:
    with pytest.raises(ConfigError, match='accelerator is "gpu"'):
        fit(sequences, training={"accelerator": "gpu"})


def test_one_spelling_is_one_version(fit: Fit, sequences: Artifact) -> None:
    first = fit(sequences, model={"encoder": "PreLN( n_blocks = 1,n_heads=2)", "positions": "Learned"}, training={"max_epochs": 1})
    assert fit(sequences, model={"encoder": "PreLN(n_blocks=1, n_heads=2)"}, training={"max_epochs": 1}).reused
    assert first.manifest["config"]["model"]["positions"] == "Learned()"


def test_what_is_asked_of_the_flow_is_no_other_training(fit: Fit, sequences: Artifact) -> None:
    fit(sequences, training={"max_epochs": 1})
    assert fit(sequences, training={"max_epochs": 1, "refit": False, "warm_start": True}).reused


def test_own_parts_from_a_folder(fit: Fit, sequences: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = tmp_path / "team"
    code.mkdir()
    part = textwrap.dedent("""
        from recsys.model.losses.softmax import CrossEntropy

        class Cold(CrossEntropy):
            def __init__(self):
                super().__init__(temperature={})
    """)
    (code / "our_losses.py").write_text(part.format(0.5))
    monkeypatch.setattr(sys, "path", list(sys.path))
    options = {"model": {"loss": "our_losses.Cold()", "code": str(code)}, "training": {"max_epochs": 1}}
    done = fit(sequences, **options)
    assert done.manifest["config"]["model"]["heads"] == ["NextItem(loss=our_losses.Cold())"]
    assert fit(sequences, **options).reused
    (code / "our_losses.py").write_text(part.format(0.7))
    assert not fit(sequences, **options).reused, "other code is another version"
    with pytest.raises(ConfigError, match="model.code"):
        fit(sequences, model={"code": str(tmp_path / "nowhere")})


@pytest.mark.parametrize("cut", [Cut(last=1)])
def test_data_with_an_order_only_are_cut_by_the_last(fit: Fit, sequences: Artifact, cut: Cut) -> None:
    done = fit(sequences, cut=cut, training={"max_epochs": 1})
    assert done.counts["events"] == len(Histories.load(sequences.path).item_code) - 600


class Payload:
    """What a pickle of somebody else's would do when it is read: here it leaves a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return open, (str(self.file), "w")


def test_a_checkpoint_of_somebody_else_runs_nothing(
    fit: Fit, sequences: Artifact, store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = fit(sequences)
    left = store.root / ".scratch" / made.attempt
    left.mkdir(parents=True)
    torch.save({"state_dict": Payload(tmp_path / "ran")}, left / "last.ckpt")
    assert fit(sequences, rebuild=True).content == made.content, "it began anew"
    assert "last.ckpt cannot be read (Weights only load failed" in caplog.text
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("size", [0, 1000, -1], ids=["empty", "its beginning", "all but a byte"])
def test_a_checkpoint_that_a_power_cut_damaged_is_not_missed(fit: Fit, sequences: Artifact, store: Store, size: int) -> None:
    made = fit(sequences)
    left = store.root / ".scratch" / made.attempt
    left.mkdir(parents=True)
    torch.save({"state_dict": {"weight": torch.ones(1000)}}, left / "last.ckpt")
    (left / "last.ckpt").write_bytes((left / "last.ckpt").read_bytes()[:size])
    assert fit(sequences, rebuild=True).content == made.content
