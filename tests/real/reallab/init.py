"""Process 1 of a lab host: makes the host's own file tree around it, then only reaps what ends.

Runs as root under `unshare --mount --uts --pid --ipc --net --fork`: `init.py NAME FOLDER`. The tree is this machine's
root as the lower layer of an overlay whose upper layer lives in memory, so the host can change any file and the
machine keeps its own. Says `ready` on standard output when the tree stands.
"""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

EMPTY = ("home", "opt", "root", "run", "srv", "tmp", "usr/local", "var/log", "var/tmp")
"""Directories that begin empty: what this machine has there is no business of the host's."""

DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0),
           "fuse": (10, 229)}  # fmt: skip


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


def tmpfs(place: str, *options: str) -> None:
    Path(place).mkdir(parents=True, exist_ok=True)
    mount("-t", "tmpfs", "-o", ",".join(("mode=755", *options)), "tmpfs", place)


def build(folder: str) -> str:
    tmpfs(folder)
    for name in ("upper", "work", "tree"):
        os.mkdir(f"{folder}/{name}")
    root = f"{folder}/tree"
    layers = f"lowerdir=/,upperdir={folder}/upper,workdir={folder}/work"
    mount("-t", "overlay", "-o", layers, "overlay", root)
    for place in EMPTY:
        tmpfs(f"{root}/{place}")
    for place in ("tmp", "var/tmp"):
        os.chmod(f"{root}/{place}", 0o1777)
    for place in ("run/sshd", "run/lock", "var/log/journal"):
        os.makedirs(f"{root}/{place}", exist_ok=True)
    mount("-t", "proc", "proc", f"{root}/proc")
    devices(f"{root}/dev")
    sysfs(f"{root}/sys", f"{root}/run/sysfs")
    return root


def devices(place: str) -> None:
    tmpfs(place)
    for name, number in DEVICES.items():
        os.mknod(f"{place}/{name}", stat.S_IFCHR | 0o666, os.makedev(*number))
        os.chmod(f"{place}/{name}", 0o666)
    for name, target in (("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1"),
                         ("stderr", "/proc/self/fd/2")):  # fmt: skip
        os.symlink(target, f"{place}/{name}")
    os.makedirs(f"{place}/pts")
    mount("-t", "devpts", "-o", "newinstance,ptmxmode=0666,mode=620", "devpts", f"{place}/pts")
    os.symlink("pts/ptmx", f"{place}/ptmx")


def sysfs(place: str, aside: str) -> None:
    """A /sys to be filled in, of which only the network and FUSE are the kernel's own."""
    os.makedirs(aside)
    mount("-t", "sysfs", "sysfs", aside)
    tmpfs(place)
    for part in ("class/net", "devices/virtual"):
        os.makedirs(f"{place}/{part}")
        mount("--bind", f"{aside}/{part}", f"{place}/{part}")
    os.makedirs(f"{place}/fs/fuse/connections")
    mount("-t", "fusectl", "fusectl", f"{place}/fs/fuse/connections")


def enter(root: str) -> None:
    os.makedirs(f"{root}/old", exist_ok=True)
    subprocess.run(["pivot_root", root, f"{root}/old"], check=True)
    os.chdir("/")
    subprocess.run(["umount", "--lazy", "/old"], check=True)
    os.rmdir("/old")


def reap_for_ever() -> None:
    while True:
        signal.sigwait({signal.SIGCHLD})
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            continue


def main() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    name, folder = sys.argv[1:]
    enter(build(folder))
    subprocess.run(["hostname", name], check=True)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 1)
    reap_for_ever()


if __name__ == "__main__":
    main()
