"""Dependencies run one way: flows → steps → ranking → model → neutral modules. Read from the source, late imports too."""

import ast
import importlib
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STEPS = {"features", "sequences", "training", "evaluation", "promotion", "scoring", "publishing"}
NEUTRAL = {
    "store",
    "sql",
    "attempts",
    "turn",
    "disk",
    "verification",
    "provenance",
    "references",
    "published",
    "audit",
    "difference",
    "lineage",
    "rehearsal",
    "pruning",
    "status",
    "digest",
    "schema",
    "windows",
    "wording",
    "page",
    "cohorts",
    "contenders",
    "cutoff",
    "grammar",
    "parts",
    "slots",
    "config",
    "validation",
    "errors",
    "trust",
    "redaction",
    "histories",
    "dictionary",
    "shards",
    "splits",
    "arrays",
}
MODEL = NEUTRAL | {"model", "recipes"}
MAY_IMPORT = {
    **dict.fromkeys(NEUTRAL, NEUTRAL),
    "demo": NEUTRAL | {"demo"},
    "model": MODEL,
    "recipes": MODEL,
    "ranking": MODEL | {"ranking"},
    **{step: MODEL | {"ranking", step} for step in STEPS},
    "features": NEUTRAL | {"features"},
    "sequences": NEUTRAL | {"sequences"},
    "frames": NEUTRAL | {"features", "sequences", "frames"},  # as a flow does: a notebook's tables through the first steps,
    "recommender": MODEL | {"ranking", "training", "scoring", "features", "frames", "recommender"},  # and what follows
}
FILES = sorted([*(ROOT / "recsys").rglob("*.py"), *(ROOT / "flows").rglob("*.py")])
MODULES = {".".join(f.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): f for f in FILES}


@cache
def imports(module: str) -> frozenset[str]:
    """Everything that the module's source names in an import, at the top or late; `from a import b` names a and a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively: imports are absolute here, so that they can be read"
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(found)


def ours(module: str) -> set[str]:
    return {name for name in imports(module) if name in MODULES}


def reachable(module: str) -> set[str]:
    """All modules of ours and packages of others that importing it can lead to."""
    found: set[str] = set()
    ahead = [module]
    while ahead:
        for name in imports(ahead.pop()) - found:
            found.add(name)
            if name in MODULES and name != "recsys":  # which imports what it offers when it is asked for
                ahead.append(name)
    return found


def place(module: str) -> str:
    """`recsys.model.losses` stands in `model`."""
    return module.split(".")[1] if "." in module else ""


def packages(names: set[str] | frozenset[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith("recsys.")])
def test_library_imports_downwards_only(module: str) -> None:
    assert place(module) in MAY_IMPORT, f"{module} has no place yet: say in MAY_IMPORT what it may import"
    upwards = {name for name in ours(module) if name != "recsys" and place(name) not in MAY_IMPORT[place(module)]}
    assert not upwards, f"{module} must not import {sorted(upwards)}"
    assert "flows" not in packages(imports(module)), f"{module} must not import flows"


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith("recsys")])
def test_only_flows_know_prefect(module: str) -> None:
    assert "prefect" not in packages(imports(module))


@pytest.mark.parametrize(
    "module", [m for m in MODULES if m.startswith("recsys.") and place(m) in {"features", "sequences", "demo", "frames"} | NEUTRAL]
)
def test_data_steps_never_load_torch(module: str) -> None:
    assert not packages(reachable(module)) & {"torch", "pytorch_lightning", "transformers"}


def test_model_is_torch_alone() -> None:
    for module in (m for m in MODULES if place(m) == "model"):
        assert not packages(imports(module)) & {"duckdb", "pandas", "pandera", "pytorch_lightning", "prefect"}, module


@pytest.mark.parametrize("module", [m for m, file in MODULES.items() if "\n__all__ = " in file.read_text()])
def test_what_a_package_offers_is_there(module: str) -> None:
    package = importlib.import_module(module)
    assert [name for name in package.__all__ if not hasattr(package, name)] == []


def test_importing_the_library_imports_nothing_heavy() -> None:
    script = "import sys, recsys; print(recsys.__all__, sorted({'torch', 'duckdb', 'pyarrow', 'numpy', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip().endswith("[]") and "'fit'" in done.stdout, done.stdout + done.stderr


def test_the_command_line_starts_without_torch_and_prefect() -> None:
    script = "import sys, flows.cli; print(sorted({'torch', 'prefect', 'duckdb', 'pandas', 'pyarrow'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
