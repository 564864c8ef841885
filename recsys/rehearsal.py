"""A store that is only asked: what is there is found, and what is not there is not made, but said why."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from recsys.difference import flat
from recsys.store import Artifact, Draft, Store


class NotMade(Exception):
    """What a run would make. `key` is what its version is made from, as its manifest would have it."""

    def __init__(self, artifact: Artifact, key: Mapping[str, Any]) -> None:
        super().__init__(f"{artifact} would be made")
        self.artifact, self.key = artifact, key


class Rehearsal(Store):
    """Raises NotMade where a store would build."""

    def _make(self, wanted: Artifact, key: dict[str, Any], build: Callable[[Draft], None], rebuild: bool) -> Artifact:
        raise NotMade(wanted, key)


def reasons(store: Store, missing: NotMade) -> list[str]:
    """In what the artifact differs from the one most like it of the same night and step; nothing where there is none."""
    made = [artifact for artifact in store.artifacts(missing.artifact.step) if artifact.as_of == missing.artifact.as_of]
    return min((list(_differences(artifact.manifest, missing.key)) for artifact in reversed(made)), key=len, default=[])


def _differences(before: Mapping[str, Any], key: Mapping[str, Any]) -> Iterator[str]:
    ours, theirs = dict(flat(key["config"])), dict(flat(before["config"]))
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            yield f"{name} is {ours.get(name)} and was {theirs.get(name)}"
    for name in sorted(key["inputs"].keys() | before["inputs"].keys()):
        now, then = key["inputs"].get(name), before["inputs"].get(name)
        if now is None or then is None or now["content"] != then["content"]:
            yield f"its input {name} is another"
    if key["sources"] != before["sources"]:
        yield "its sources are others"
    if key["code"] != before["code"]:
        yield "its code is another"
