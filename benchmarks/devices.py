"""What a device is and can do, and how its time, memory and waits are measured."""

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from benchmarks.sides import machine


def facts(device: torch.device) -> dict[str, Any]:
    here = {**machine(), "torch": torch.__version__}
    if device.type == "cpu":
        return here
    properties = torch.cuda.get_device_properties(device)
    memory, capability = properties.total_memory / 2**30, f"{properties.major}.{properties.minor}"
    return {**here, "gpu": properties.name, "gpu_gib": round(memory, 1), "capability": capability, "cuda": torch.version.cuda}


def limits(device: torch.device, n: int, copied: int, at_least: float) -> dict[str, float]:
    """Measured rates: GB/s read and written by a copy of so many bytes, TFLOP/s of products of n × n matrices."""
    source = torch.empty(copied, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    rates = {"copy": 2 * copied / seconds(lambda: target.copy_(source), device, at_least) / 1e9}
    for name, dtype, precision in (("f32", torch.float32, "highest"), ("tf32", torch.float32, "high"), ("bf16", torch.bfloat16, "high")):
        torch.set_float32_matmul_precision(precision)
        a = torch.randn(n, n, device=device, dtype=dtype)
        rates[name] = 2 * n**3 / seconds(partial(torch.mm, a, a), device, at_least) / 1e12
    return rates


def seconds(work: Callable[[], Any], device: torch.device, at_least: float) -> float:
    """Of one call, on average over as many as take about that long together, after one that warms up."""
    n, took = 1, 0.0
    work()
    while took < at_least:
        finish(device)
        started = time.perf_counter()
        for _ in range(n):
            work()
        finish(device)
        took, done = time.perf_counter() - started, n
        n = max(2 * n, int(1.1 * n * at_least / took))
    return took / done


def finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def peak_memory(device: torch.device) -> Iterator[list[float | None]]:
    """GiB of the GPU that were in use at most; None on a CPU."""
    found: list[float | None] = []
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    yield found
    found.append(torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None)


@contextmanager
def waits(device: torch.device) -> Iterator[list[warnings.WarningMessage]]:
    """Warnings, among them one of each call that makes the CPU wait for the GPU."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            if device.type == "cuda":
                torch.cuda.set_sync_debug_mode("default")
