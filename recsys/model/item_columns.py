"""What a model keeps of its items' features."""

from collections.abc import Sequence

from torch import Tensor, nn

from recsys.model.bucket import Column, Ragged, to_torch
from recsys.model.embeddings import Feature
from recsys.model.names import module_name
from recsys.model.vocabulary import Vocabulary


class ItemColumns(nn.Module):
    """Columns of the items, V rows each. They are in the vocabulary's files, so not among the weights."""

    def __init__(self, vocabulary: Vocabulary, names: Sequence[str]) -> None:
        super().__init__()
        for name in names:
            kept = to_torch(vocabulary.item_columns[name])
            key = module_name(name)
            self.register_buffer(f"values_{key}", kept.values if isinstance(kept, Ragged) else kept, persistent=False)
            self.register_buffer(f"offsets_{key}", kept.offsets if isinstance(kept, Ragged) else None, persistent=False)

    def at(self, name: str, item_index: Tensor) -> Feature:
        """The column's values of the items in item_index, of any shape."""
        key = module_name(name)
        values, offsets = getattr(self, f"values_{key}"), getattr(self, f"offsets_{key}")
        column: Column = values if offsets is None else Ragged(values, offsets)
        return Feature(column, tuple(item_index.shape), item_index)
