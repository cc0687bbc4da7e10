"""Endings that come from outside: the terminal is gone, or somebody ends the process. Both are answered like `q`."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

STANDARD_STREAMS = (0, 1, 2)


def heed_signals(leave: Callable[[int], None]) -> None:
    """Calls `leave` with the exit code on SIGTERM and SIGHUP, so that links and journal are closed in order."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, leave, 128 + signal.SIGTERM)
    loop.add_signal_handler(signal.SIGHUP, _terminal_lost, leave)


def _terminal_lost(leave: Callable[[int], None]) -> None:
    """What is still to be painted goes nowhere: writing to a terminal that hung up would stop the app for good."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in STANDARD_STREAMS:
        os.dup2(nowhere, stream)
    os.close(nowhere)
    leave(128 + signal.SIGHUP)
