"""Who is at the keyboard: the login behind the SSH session or `sudo`, as far as this process can tell."""

from __future__ import annotations

import getpass
import os
import re
from dataclasses import dataclass

_PERSON = re.compile(r"[\w.@+-]{1,64}")


@dataclass(frozen=True, slots=True)
class Identity:
    """The person that acts are recorded under. `changeable` only where the inventory lets people sign for others."""

    person: str
    source: str
    changeable: bool


def whoami(*, changeable: bool = False) -> Identity:
    """The user behind `sudo`, else the login user. The name goes into the journal, so only plain names are taken."""
    behind_sudo = os.environ.get("SUDO_USER", "")
    if os.geteuid() == 0 and behind_sudo and behind_sudo != "root" and _PERSON.fullmatch(behind_sudo):
        return Identity(behind_sudo, "sudo", changeable)
    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        name = ""
    if not _PERSON.fullmatch(name):
        name = f"uid-{os.getuid()}"
    return Identity(name, "ssh" if os.environ.get("SSH_CONNECTION") else "login", changeable)
