"""Where a ladder bends: the last level from which more users still brought more tokens."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

WORTH = 0.5
"""More users pay as long as throughput grows by at least this part of what the users grow by."""


def knee(levels: Sequence[tuple[float, float | None]]) -> int | None:
    """The position of the knee among (users, tokens/s), users rising; None when no level was seen to be one.

    The last level before the first step that does not pay. A ladder whose every step pays has no knee yet.
    """
    for position, ((users, rate), (more_users, more_rate)) in enumerate(pairwise(levels)):
        if not users or not rate or more_rate is None:
            continue
        if more_rate / rate - 1 < WORTH * (more_users / users - 1):
            return position
    return None
