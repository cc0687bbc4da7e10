"""A hole in a lab host's firewall for what comes from outside the cluster: users, load, and dstui itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from reallab.cluster import CONTROLLER
from reallab.host import Host, LabError


@contextmanager
def reachable(host: Host, port: int) -> Iterator[None]:
    """The controller reaches the port of the host; afterwards it is shut again. LabError when nft says no handle."""
    rule = f"ip saddr {CONTROLLER} tcp dport {port} accept"
    said = host.run("nft", "--echo", "--handle", "add", "rule", "inet", "filter", "input", *rule.split())
    found = re.search(r"# handle (\d+)", said)
    if found is None:
        raise LabError(f"nft told no handle: {said}")
    try:
        yield
    finally:
        host.run("nft", "delete", "rule", "inet", "filter", "input", "handle", found[1])
