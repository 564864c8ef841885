"""What all tests share: one thread each, nobody's own Prefect settings, and real data where there is any."""

import os
import signal
import tempfile
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: small tensors, and several test processes at once
os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="recsys-tests-prefect-")
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ["PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW"] = "ignore"
os.environ.pop("PREFECT_API_URL", None)

import hypothesis
import pytest

# A background job of a shell is born ignoring Ctrl-C, and so would be every process that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile("recsys", deadline=None)  # a busy machine has slow moments
hypothesis.settings.load_profile("recsys")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with the public data sets (globo, ml-100k, ml-1m): RECSYS_DATA, or shared/data beside the checkout."""
    folder = Path(os.environ.get("RECSYS_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no public data sets in {folder}: set RECSYS_DATA to their folder")
    return folder
