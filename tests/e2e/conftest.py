"""Disks of their own: small ones that can be filled, and one that cannot be written."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Mount = Callable[..., Path]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Mounts a tmpfs of a name and a size below the test's directory."""
    places = []

    def mount_one(name: str, options: str) -> Path:
        place = tmp_path / name
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        if shutil.which("mount") is None or subprocess.run(command, check=False, capture_output=True).returncode:
            pytest.skip("this needs a tmpfs of its own: run the tests as root (in a container: --cap-add SYS_ADMIN)")
        places.append(place)
        return place

    yield mount_one
    for place in places:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def unwritable(tmp_path: Path, mount: Mount) -> Path:
    """A directory in which nothing can be made, by root neither."""
    if os.geteuid() == 0:
        return mount("read-only", "ro,size=64k")
    place = tmp_path / "read-only"
    place.mkdir(mode=0o500)
    return place
