"""What `import recsys` sets for its process, before torch is imported."""

import os
import subprocess
import sys

import pytest


def spoken(environment: dict[str, str]) -> str:
    program = "import recsys, os; print(os.environ['OMP_WAIT_POLICY'], os.environ.get('GOMP_SPINCOUNT'))"
    others = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    return subprocess.run(
        [sys.executable, "-c", program], env=others | environment, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [({}, "PASSIVE 2000"), ({"GOMP_SPINCOUNT": "0"}, "PASSIVE 0"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE None")],
)
def test_threads_sleep_soon_unless_the_environment_says_otherwise(environment: dict[str, str], expected: str) -> None:
    assert spoken(environment) == expected


def test_products_of_ever_other_shapes_take_no_more_memory() -> None:
    """Where the CPU multiplies bfloat16; without, 600 shapes more take 360 MB."""
    program = """
import resource, recsys, torch
items = torch.zeros(6000, 64, dtype=torch.bfloat16)
peak = []
for start in (1, 301, 601):
    for n in range(start, start + 300):
        torch.zeros(n, 64, dtype=torch.bfloat16) @ items.T
    torch.zeros(900, 64, dtype=torch.bfloat16) @ items.T
    peak.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)
print(peak[-1] - peak[0])
"""
    grown = int(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout)
    assert grown < 50


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_memory_that_was_freed_is_used_again() -> None:
    """A tensor of 100 MB has 24,400 pages of 4 KiB: without, each of the twenty would get all of them anew."""
    program = """
import resource, recsys, torch
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.empty(25_000_000).fill_(1.0)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    faults = int(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout)
    assert faults < 10 * 24_400
