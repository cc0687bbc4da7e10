"""Shows a folder of this machine to a lab host at the same path, read-only.

A host has its own mounts and hides /root, /home and /opt of this machine. A bind mount cannot cross into another mount
namespace; a detached copy of a mount (open_tree, Linux 5.2) can be moved there.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

from reallab.host import Host, LabError

OPEN_TREE, MOVE_MOUNT = 428, 429
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
OPEN_TREE_CLONE, MOVE_MOUNT_F_EMPTY_PATH = 1, 4

_MOVE = f"""import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
moved = libc.syscall({MOVE_MOUNT}, int(sys.argv[1]), b"", {AT_FDCWD}, sys.argv[2].encode(), {MOVE_MOUNT_F_EMPTY_PATH})
sys.exit("move_mount: errno %d" % ctypes.get_errno() if moved else 0)
"""


def bring(host: Host, venv: Path) -> None:
    """A venv and the Python that it was made with, where the host cannot see them anyway."""
    for folder in (venv, Path(sys.base_prefix)):
        if not host.place(str(folder / "bin")).is_dir():
            _show(host, folder)


def _show(host: Host, folder: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    tree = libc.syscall(OPEN_TREE, AT_FDCWD, os.fsencode(folder), OPEN_TREE_CLONE | AT_RECURSIVE)
    if tree < 0:
        raise LabError(f"open_tree {folder}: errno {ctypes.get_errno()}")
    try:
        host.place(str(folder)).mkdir(parents=True, exist_ok=True)
        argv = host.entered("/usr/bin/python3", "-I", "-c", _MOVE, str(tree), str(folder))
        done = subprocess.run(argv, pass_fds=(tree,), capture_output=True, text=True, timeout=30)
        if done.returncode:
            raise LabError(f"{host.name}: {folder}: {done.stderr.strip()}")
    finally:
        os.close(tree)
    host.run("mount", "-o", "remount,bind,ro", str(folder))
