"""A nightly batch recommender: event tables in, top-k lists for every user out."""

import os

__version__ = "0.1.0"

# Torch's threads spin while they wait for each other. Beside any other busy process that made a training 30 times slower;
# sleeping costs nothing that could be measured on a quiet machine. It is read when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
