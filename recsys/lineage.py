"""What an artifact was made from, followed back through the manifests of its night."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from recsys.errors import StoreError
from recsys.store import Artifact, Store


def lineage(store: Store, references: Iterable[Mapping[str, str]], night: datetime) -> list[Artifact]:
    """What the references name and what that was made from, nearest first, as far as it is there.

    Models of earlier nights are part of it (what was started from, compared with or published again), but not what those
    were made from: that is another night's, and may be pruned.
    """
    found: list[Artifact] = []
    ahead = list(references)
    for reference in ahead:  # which grows meanwhile
        artifact = store.get(reference)
        if artifact is not None and artifact not in found:
            found.append(artifact)
            if artifact.as_of == night:
                ahead += artifact.manifest["inputs"].values()
    return found


def ancestor(store: Store, artifact: Artifact, step: str) -> Artifact:
    """The artifact of an earlier step that this one was made from, its files verified."""
    for found in lineage(store, [artifact.reference], artifact.as_of):
        if found.step == step:
            return store.open(found.reference)
    raise StoreError(f"{artifact} was not made from an artifact {step!r} that is still in {store.root}. Run its night again.")
