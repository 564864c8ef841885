"""The targets of the step themselves."""

import math

from torch import Tensor

from recsys.model.catalogue import Catalogue
from recsys.model.negatives import Negatives, draw_in_proportion
from recsys.model.negatives.popularity import counts_of


class InBatch(Negatives):
    """Targets of the step, other predictions' as well as the row's own, which the loss leaves out wherever it stands.

    For log Q a target is drawn as often as it has events in the training period (Yi et al. 2019), not in this step: items
    that are no target of the step have their part in the sum too.
    """

    def draw(self, n_sets: int, n: int, catalogue: Catalogue, target: Tensor, weight: Tensor) -> Tensor:
        if not len(target):
            return target.new_zeros(n_sets, n)  # a step without predictions reads none of them
        return target[draw_in_proportion(n_sets, n, weight > 0)]

    def log_expected(self, items: Tensor, n: int, catalogue: Catalogue) -> Tensor:
        counts = counts_of(catalogue, "InBatch with log_q").double().clamp(min=1)  # a target was there once at least
        return (math.log(n) + counts[items].log() - counts.sum().log()).float()
