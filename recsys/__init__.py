"""A nightly batch recommender: event tables in, top-k lists for every user out."""

import os

__version__ = "0.1.0"

# Torch's threads spin while they wait for each other. Beside other busy processes that made training steps 3 to 4 times
# slower, and small products 10 to 30 times; what sleeping costs on a quiet machine is not measured yet. It is read when
# torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
