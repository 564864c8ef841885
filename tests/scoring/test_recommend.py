import copy
from datetime import datetime, timezone

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from recsys.config import Scoring
from recsys.dictionary import Dictionary
from recsys.errors import ConfigError
from recsys.histories import Histories
from recsys.model import saving
from recsys.ranking import topk
from recsys.scoring import recommend as module
from recsys.scoring.recommend import recommend
from recsys.windows import microseconds

AS_OF = datetime(2025, 3, 2, tzinfo=timezone.utc)
K = 10


def table_of(artifact):
    parts = [pq.read_table(file) for file in sorted((artifact.path / "recommendations").glob("part-*.parquet"))]
    return [row for part in parts for row in part.to_pylist()]


def lists_of(artifact):
    """{user_id: [(item_id, score, source), …]} with ranks checked on the way."""
    lists: dict = {}
    for row in table_of(artifact):
        own = lists.setdefault(row["user_id"], [])
        own.append((row["item_id"], row["score"], row["source"]))
        assert row["rank"] == len(own)
    return lists


def lately(world, hours, country=None):
    """Item codes by events of the last hours (None: ever), most first, ties by code; with at least one event unless ever."""
    since = -np.inf if hours is None else microseconds(AS_OF) - hours * 3600 * 10**6
    users = [u for u in range(len(world.events)) if country is None or world.country[u] == country]
    counts = np.zeros(len(world.eligible))
    for user in users:
        for moment, item in world.events[user]:
            counts[item] += moment >= since
    order = np.argsort(-counts, kind="stable")
    return [int(i) for i in order if counts[i] > 0 or (hours is None and country is None)]


def naive_model_lists(night, model, sequences):
    """Every user alone, in float64, by a full sort: {user: item codes with a score}."""
    network, vocabulary = saving.load(model.path)
    network = copy.deepcopy(network).double()
    histories, dictionary = Histories.load(sequences.path), Dictionary.load(sequences.path)
    reader = network.reader(histories, dictionary, vocabulary)
    index = vocabulary.item_map(dictionary)
    vectors = network.catalogue().vectors
    found = {}
    for row, user_id in enumerate(histories.user_id.to_pylist()):
        user = user_id if isinstance(user_id, int) else int(user_id.removeprefix("id-"))
        spans = reader.spans(histories.offsets[row : row + 1], histories.offsets[row + 1 : row + 2]).newest(network.max_events)
        if int(spans.lengths[0]) == 0:
            found[user] = []
            continue
        with torch.inference_mode():
            now = microseconds(AS_OF) if night.world.has_times else None
            scores = (network.encode(reader.bucket(spans, now=now)) @ vectors.T)[0].numpy()
        hidden = set(night.world.blocked[user]) | set(night.world.seen(user)) | set(np.flatnonzero(~night.world.eligible))
        found[user] = sorted([(i, scores[index[i]]) for i in np.flatnonzero(index >= 0) if i not in hidden], key=lambda pair: -pair[1])
    return found


def continued(world, user, first, sources):
    """The list that goes on with each of the (name, item codes) until it is full."""
    rows = list(first)
    hidden = set(world.blocked[user]) | set(world.seen(user)) | set(np.flatnonzero(~world.eligible))
    for name, codes in sources:
        rows += [(code, name) for code in codes if code not in hidden and code not in {c for c, _ in rows}]
    return rows[:K]


@pytest.fixture(scope="module")
def scored(night):
    return recommend(night.store, AS_OF, Scoring(k=K), night.sequences(), night.model(), "candidate", "6h")


def test_equals_a_full_sort_in_float64_of_every_user_alone(night, scored):
    found = lists_of(scored)
    naive = naive_model_lists(night, night.model(), night.sequences())
    world = night.world
    fill = [("popular_lately", lately(world, 6)), ("popular", lately(world, None))]
    assert set(found) == set(range(len(world.events)))
    for user, ranked in naive.items():
        gaps = np.diff([score for _, score in ranked[: K + 1]])
        assert (np.abs(gaps) > 1e-5).all(), "nearly equal scores: choose another seed for this test"
        expected = continued(world, user, [(i, "candidate") for i, _ in ranked[:K]], fill)
        assert [(item - 1000, source) for item, _, source in found[user]] == expected
        for (_, score, _), (_, exact) in zip(found[user], ranked, strict=False):
            assert score == pytest.approx(exact, abs=1e-4)


def test_every_kind_of_user_was_there(night, scored):
    found = lists_of(scored)
    assert {source for _, _, source in found[0]} == {"candidate"} or len(found[0]) < K  # had nearly everything
    assert [source for _, _, source in found[1]][0] == "popular_lately"  # had nothing
    assert [source for _, _, source in found[2]][0] == "popular_lately"  # had what the model does not know
    assert len(found[0]) < K
    assert scored.counts["users"] == len(night.world.events)
    _, vocabulary = saving.load(night.model().path)
    known = set(vocabulary.item_id.to_pylist())
    unknown = [item for own in night.world.events for _, item in own if 1000 + item not in known]
    assert scored.counts["events_of_unknown_items"] == len(unknown) > 0
    assert scored.counts["short_lists"] == sum(len(own) < K for own in found.values())
    assert scored.counts["users_without_first_source"] == sum(own[0][2] != "candidate" for own in found.values())
    assert scored.counts["items_from_popular_lately"] == sum(source == "popular_lately" for own in found.values() for _, _, source in own)


@pytest.mark.parametrize("exclude_seen", [True, False])
def test_never_an_excluded_pair_nor_a_repeat(night, exclude_seen):
    artifact = recommend(night.store, AS_OF, Scoring(k=30, exclude_seen=exclude_seen), night.sequences(), night.model(), "current", "6h")
    world, shown_again = night.world, 0
    for user, own in lists_of(artifact).items():
        codes = [item - 1000 for item, _, _ in own]
        assert len(set(codes)) == len(codes)
        assert world.eligible[codes].all()
        assert not set(codes) & set(world.blocked[user])
        left = {i for i in np.flatnonzero(world.eligible) if i not in world.blocked[user] and not (exclude_seen and i in world.seen(user))}
        assert len(codes) == min(30, len(left)) and set(codes) <= left
        shown_again += len(set(codes) & set(world.seen(user)))
    assert (shown_again == 0) == exclude_seen


@pytest.mark.parametrize(
    ("n_shards", "users_per_tile", "tile_items", "threads"), [(1, 1024, 16_384, 1), (5, 7, 64, 2), (4, 1, 128, 1), (2, 50, 64, 2)]
)
def test_shards_tiles_and_threads_change_no_list(night, scored, monkeypatch, n_shards, users_per_tile, tile_items, threads):
    monkeypatch.setitem(topk.TILE_ITEMS, "cpu", tile_items)
    monkeypatch.setattr(module, "USERS_PER_ROW_GROUP", 32)
    scoring = Scoring(k=K, users_per_tile=users_per_tile, threads=threads)
    other = recommend(night.store, AS_OF, scoring, night.sequences(n_shards), night.model(), "candidate", "6h", rebuild=True)
    one, two = lists_of(scored), lists_of(other)
    assert one.keys() == two.keys()
    for user, own in one.items():
        assert [(item, source) for item, _, source in own] == [(item, source) for item, _, source in two[user]]
        np.testing.assert_allclose([score for _, score, _ in own], [score for _, score, _ in two[user]], rtol=1e-5)


def test_parts_are_sorted_and_typed(night, scored):
    files = sorted((scored.path / "recommendations").glob("*"))
    assert [file.name for file in files] == ["part-000.parquet", "part-001.parquet", "part-002.parquet"]
    for shard, file in enumerate(files):
        table = pq.read_table(file)
        assert [str(field.type) for field in table.schema] == ["int64", "int32", "int64", "float", "string"]
        assert table.column_names == ["user_id", "rank", "item_id", "score", "source"]
        keys = list(zip(table["user_id"].to_pylist(), table["rank"].to_pylist(), strict=True))
        assert keys == sorted(keys) and all(user % 3 == shard for user, _ in keys)


def test_the_same_again_is_the_same_bytes_and_no_work(night, scored):
    again = recommend(night.store, AS_OF, Scoring(k=K, users_per_tile=11), night.sequences(), night.model(), "candidate", "6h")
    assert again.reused and again.version == scored.version
    content = scored.content
    anew = recommend(night.store, AS_OF, Scoring(k=K), night.sequences(), night.model(), "candidate", "6h", rebuild=True)
    assert not anew.reused and anew.content == content


def test_users_without_history_get_what_is_popular_in_their_segment(night):
    scoring = Scoring(k=K, segment="country")
    found = lists_of(recommend(night.store, AS_OF, scoring, night.sequences(), night.model(), "candidate", "2d"))
    world = night.world
    for user in (1, 2):
        own, country = found[user], world.country[user]
        assert country >= 0
        stages = [
            ("popular_lately", lately(world, 48, country)),
            ("popular_lately", lately(world, 48)),
            ("popular", lately(world, None, country)),
            ("popular", lately(world, None)),
        ]
        assert [(item - 1000, source) for item, _, source in own] == continued(world, user, [], stages)
    unsegmented = lists_of(recommend(night.store, AS_OF, Scoring(k=K), night.sequences(), night.model(), "candidate", "2d"))
    assert unsegmented[1] != found[1]


@pytest.mark.parametrize("source", ["popular_lately", "popular"])
def test_a_night_without_a_model_good_enough(night, source):
    artifact = recommend(night.store, AS_OF, Scoring(k=K), night.sequences(), None, source, "6h")
    world = night.world
    stages = [("popular_lately", lately(world, 6))] * (source == "popular_lately") + [("popular", lately(world, None))]
    for user, own in lists_of(artifact).items():
        assert [(item - 1000, origin) for item, _, origin in own] == continued(world, user, [], stages)


def test_data_with_an_order_only_and_string_ids(night_by_order):
    night = night_by_order
    artifact = recommend(night.store, AS_OF, Scoring(k=K), night.sequences(), night.model(), "candidate", "")
    found = lists_of(artifact)
    naive = naive_model_lists(night, night.model(), night.sequences())
    for user, ranked in naive.items():
        expected = continued(night.world, user, [(i, "candidate") for i, _ in ranked[:K]], [("popular", lately(night.world, None))])
        assert [(item, source) for item, _, source in found[f"id-{user:05}"]] == [(f"id-{1000 + i:05}", source) for i, source in expected]


def test_progress_ends_at_one(night):
    heard = []
    recommend(
        night.store, AS_OF, Scoring(k=3, users_per_tile=20), night.sequences(), night.model(), "candidate", "1h", progress=heard.append
    )
    assert heard == sorted(heard) and heard[-1] == 1.0 and len(heard) > 3


def test_a_source_and_a_model_belong_together(night):
    ask = (night.store, AS_OF, Scoring(), night.sequences())
    with pytest.raises(
        ConfigError, match="The source of the lists is 'candidate': give candidate or current a model, and a baseline none."
    ):
        recommend(*ask, None, "candidate", "6h")
    with pytest.raises(ConfigError, match="The source of the lists is 'popular'"):
        recommend(*ask, night.model(), "popular", "6h")
    with pytest.raises(ConfigError, match="needs a popular_window"):
        recommend(*ask, None, "popular_lately", "")
    with pytest.raises(ConfigError, match="scoring.segment is 'city'"):
        recommend(night.store, AS_OF, Scoring(segment="city"), night.sequences(), None, "popular", "")


def test_nothing_half_written_stays_when_writing_fails(night, monkeypatch):
    def full_disk(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pyarrow.parquet.ParquetWriter.write_table", full_disk)
    before = night.store.artifacts("scoring")
    with pytest.raises(Exception, match="no space left"):
        recommend(night.store, AS_OF, Scoring(k=4), night.sequences(), night.model(), "candidate", "6h")
    assert night.store.artifacts("scoring") == before
