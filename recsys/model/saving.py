"""A model as files: weights as safetensors, configuration and schema as JSON, vocabulary as parquet. Nothing is pickled.

network, vocabulary = load(artifact.path)
"""

import json
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from recsys.config import Model
from recsys.errors import StoreError
from recsys.histories import Key
from recsys.model import own_parts
from recsys.model.blocks import Blocks, build
from recsys.model.network import Network
from recsys.model.vocabulary import Vocabulary
from recsys.schema import Schema
from recsys.wording import counted


def save(folder: Path, network: Network, model: Model, vocabulary: Vocabulary, key: Key = "user") -> None:
    """Write `weights.safetensors`, `model.json` and `vocabulary/` of a network that was built from `model`, resolved.

    `key` is what it was trained on and recommends from: users' histories, or sessions.
    """
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in _weights(network).items()}
    save_file(weights, folder / "weights.safetensors")
    facts = {
        "model": model.versioned(),
        "code": model.code,
        "key": key,
        "sizes": {"n_items": vocabulary.n_items, "n_parameters": network.n_parameters},
        "schema": json.loads(vocabulary.schema.to_json()),
    }
    (folder / "model.json").write_text(json.dumps(facts, indent=1))
    vocabulary.save(folder / "vocabulary")


def load(folder: Path, code: str | None = None) -> tuple[Network, Vocabulary]:
    """The network, on the CPU and in eval mode, and its vocabulary: built anew from the configuration's text.

    `code` is the folder of own parts, where it is not that of the training any more.
    """
    vocabulary = load_vocabulary(folder)
    network = build(_configuration(folder, code), vocabulary)
    weights = load_file(folder / "weights.safetensors")
    wanted = {name: tuple(tensor.shape) for name, tensor in _weights(network).items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if wanted != found:
        differing = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        raise StoreError(
            f"{folder / 'weights.safetensors'} does not fit {folder / 'model.json'} as this version of the code builds it: "
            f"{counted(len(differing), 'tensor')} would not fit, as {', '.join(differing[:3])}. Train it again."
        )
    network.load_state_dict(weights, strict=False)
    return network.eval(), vocabulary


def sources(folder: Path) -> dict[str, str]:
    """What the code of the network's parts is: in the version of every step that runs it."""
    model = _configuration(folder)
    return own_parts.sources(Blocks.of(model).classes(), model.code)


def _configuration(folder: Path, code: str | None = None) -> Model:
    """Resolved. Where its folder of own parts is gone they may still be importable, and the error says so if they are not."""
    facts = json.loads((folder / "model.json").read_text())
    code = code or facts.get("code")
    return Model(**facts["model"], code=code if own_parts.is_there(code) else None)


def key_of(folder: Path) -> Key:
    """What the network was trained on and recommends from."""
    return json.loads((folder / "model.json").read_text())["key"]


def load_vocabulary(folder: Path) -> Vocabulary:
    """The vocabulary alone."""
    facts = json.loads((folder / "model.json").read_text())
    return Vocabulary.load(folder / "vocabulary", Schema.from_json(json.dumps(facts["schema"])))


def _weights(network: Network) -> dict[str, Tensor]:
    """Each tensor once, under its first name: towers share the item table."""
    named = network.state_dict(keep_vars=True)
    first = {id(tensor): name for name, tensor in reversed(named.items())}
    return {name: tensor for name, tensor in named.items() if first[id(tensor)] == name}
