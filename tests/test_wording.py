"""Numbers and names in sentences."""

from recsys.wording import capital, counted, listed


def test_one_is_singular_and_everything_else_plural() -> None:
    assert [counted(n, "alert") for n in (0, 1, 2, 1200)] == ["0 alerts", "1 alert", "2 alerts", "1,200 alerts"]
    assert [counted(n, "loss", "losses") for n in (1, 2)] == ["1 loss", "2 losses"]


def test_names_in_a_row() -> None:
    assert [listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])] == ["a", "a and b", "a, b and c"]
    assert capital("iOS and NDCG") == "IOS and NDCG"
