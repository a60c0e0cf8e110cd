"""Files that several processes use: written at once or not at all, and locks."""

import hashlib
import os
import tempfile
from pathlib import Path
from uuid import uuid4

from filelock import FileLock


def write_whole(path: Path, content: bytes) -> None:
    """Write so that `path` holds either what it did or `content`, never half of it.

    Raises:
        OSError: it cannot be written.
    """
    part = path.with_name(f".{uuid4().hex}.part")
    try:
        part.write_bytes(content)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def lock_of(name: str) -> FileLock:
    """Return the lock called `name`, the same for all processes of this user on this machine.

    It is free again when its process ends in any way. Its file lies among the temporary ones, so
    that no folder of a user's own fills with them.
    """
    folder = Path(tempfile.gettempdir()) / f"implreg-locks-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    return FileLock(folder / hashlib.sha256(name.encode()).hexdigest()[:32])
