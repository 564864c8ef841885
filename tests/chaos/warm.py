"""Imported once, by the process that all nights are forked from: what a night imports late, and the digests of its code."""

import pkgutil
from importlib import import_module

import matplotlib.backends.backend_svg  # noqa: F401
import pandera.ibis  # noqa: F401

import recsys
from recsys import digest

modules = [module.name for module in pkgutil.walk_packages(recsys.__path__, "recsys.") if not module.ispkg]
for name in modules:
    import_module(name)
digest.of_modules(modules)
