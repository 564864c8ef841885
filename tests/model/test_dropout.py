import pytest
import torch

from recsys.errors import ConfigError
from recsys.model.dropout import Dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_a_share_is_dropped_and_the_mean_stays(p: float) -> None:
    torch.manual_seed(0)
    x = torch.ones(300, 700, requires_grad=True)
    y = Dropout(p)(x)
    assert float((y == 0).float().mean()) == pytest.approx(p, abs=0.005)
    assert float(y.detach().mean()) == pytest.approx(1, abs=0.03)
    assert len(torch.unique(y)) == 2
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_elements_are_dropped_independently() -> None:
    torch.manual_seed(0)
    kept = (Dropout(0.5)(torch.ones(1000, 1000)) > 0).float() - 0.5
    for other in (kept.roll(1, 0), kept.roll(1, 1), kept.roll(8, 1)):
        assert abs(float((kept * other).mean()) * 4) < 0.005


def test_shares_beyond_a_byte_and_beyond_reason() -> None:
    assert Dropout(0.999)(torch.ones(1000)).isfinite().all()
    for p in (-0.1, 1.0):
        with pytest.raises(ConfigError, match="dropout"):
            Dropout(p)


def test_in_eval_mode_nothing_is_dropped() -> None:
    x = torch.randn(5, 3)
    assert Dropout(0.5).eval()(x) is x and Dropout(0.0)(x) is x


@pytest.mark.parametrize("shape", [(0, 4), (1,), (3, 5, 7)])
def test_any_shape(shape: tuple[int, ...]) -> None:
    assert Dropout(0.2)(torch.ones(shape)).shape == shape
