"""The disk under a store: what it refuses, as answers, and files that stay after a power cut."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from recsys.errors import RecsysError, StoreError

_NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES}  # of folders of network shares, or that may not be read
_NO_STORE = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EEXIST}


@contextmanager
def explained(root: Path, step: str) -> Iterator[None]:
    """Errors of the disk of the store `root` as StoreErrors that say what to do; all others as they are."""
    try:
        yield
    except RecsysError:
        raise
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else None
        if number == errno.ENOSPC or "No space left" in str(error):  # DuckDB and Arrow have classes of their own
            raise StoreError(
                f"{step}: no space left in {root}. Nothing half-written is visible and what was published stays. "
                "Free some space and run the night again: it resumes after the last finished step."
            ) from error
        place = Path(str(error.filename)) if isinstance(error, OSError) else Path()
        if number in _NO_STORE and (place.is_relative_to(root) or root.is_relative_to(place)):
            raise StoreError(f"{step}: the store {root} cannot be written ({error}). Give another, or its permissions.") from error
        raise


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Make a file with `write`, beside its place, and put it there in one step; one writer of a file at a time.

    Readers see the former one or the whole new one, also after a kill; what was replaced stays so after a power cut.
    """
    new = path.with_name(f".{path.name}.new")
    try:
        write(new)
        sync(new)  # before it has the name, or half of it might be found there
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)  # on a full disk it would stay in the way
    sync(path.parent)


def sync(path: Path) -> None:
    """Put a file or folder on the disk itself, so that a power cut after it takes nothing back; a folder where it can be done."""
    try:
        number = os.open(path, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
    except OSError as error:
        if error.errno not in _NO_SYNC or not path.is_dir():
            raise
