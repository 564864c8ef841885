"""The rate of float32 matrix products of this machine, and how many operations the products of a training epoch are."""

import statistics
import time

import numpy as np
import torch
from numpy.typing import NDArray


def flops(lengths: NDArray[np.int64], width: int, n_items: int, n_blocks: int = 2, inner: int = 1) -> float:
    """Floating-point operations of the products of an epoch over real events, forward and backward (3 × forward), full softmax.

    A user with n events is read for l = min(n − 1, L) places, each with a prediction; `lengths` are those l, 0 of nobody. Per
    place a block of width D takes (8 + 4 · inner) D² for its linear layers and 2 (l + 1) D for causal attention without what it
    may skip; the head takes 2 V D.
    """
    places = lengths.sum()
    attention = 2 * width * float((lengths * (lengths + 1)).sum())
    encoder = n_blocks * (places * (8 + 4 * inner) * width**2 + attention)
    return 3 * float(encoder + places * 2 * n_items * width)


def rate(rows: int, inner: int, columns: int, seconds: float = 2.0) -> float:
    """Median operations per second of (rows, inner) @ (inner, columns) in float32, over some seconds."""
    a, b, out = torch.randn(rows, inner), torch.randn(inner, columns), torch.empty(rows, columns)
    times: list[float] = []
    torch.mm(a, b, out=out)
    while sum(times) < seconds:
        started = time.perf_counter()
        torch.mm(a, b, out=out)
        times.append(time.perf_counter() - started)
    return 2 * rows * inner * columns / statistics.median(times)


def rates(tokens: int, width: int, n_items: int, threads: int) -> dict[str, float]:
    """Operations per second of large products, and of those of a training step with so many real events."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        shapes = {"2048 cubed": (2048, 2048, 2048), "linear": (tokens, width, width), "scores": (tokens, width, n_items)}
        return {name: rate(*shape) for name, shape in shapes.items()}
    finally:
        torch.set_num_threads(before)
