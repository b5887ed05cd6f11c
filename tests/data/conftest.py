"""A device without space that a test cannot take away from the rest of the machine."""

import os
import stat
from pathlib import Path

import pytest


@pytest.fixture(name="full_device")
def _full_device(tmp_path: Path) -> Path:
    """A device like /dev/full: root gets a node of its own, for root could remove that one."""
    if os.getuid() != 0:
        return Path("/dev/full")
    node = tmp_path / "full"
    try:
        os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(1, 7))
        node.open("wb").close()
    except PermissionError:
        pytest.skip("needs to make a device in the temporary folder, which is not allowed here")
    return node
