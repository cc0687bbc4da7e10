"""What a worker is told to do in one stage, as it comes in a JSON line: its users, its prompts, its timeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields


@dataclass(frozen=True)
class Spec:
    """Seconds count from `go`. `users` are this worker's, by their number in the whole stage of `all_users`.

    `rate` is this worker's requests/s of an open loop (`poisson`, else at even distances). `requests` ends the stage
    after so many in a row. `key` is the API key; it stands nowhere else than in the request.
    """

    host: str
    port: int
    path: str
    model: str
    users: tuple[int, ...]
    all_users: int
    tls: bool = False
    ca: str = ""
    """Certificates to trust instead of the system's, in PEM."""
    verify: bool = True
    socket: str = ""
    authority: str = ""
    key: str = field(default="", repr=False)
    rate: float = 0.0
    poisson: bool = False
    requests: int = 0
    think: float = 0.0
    ramp: float = 0.0
    warm: float = 0.0
    window: float = 60.0
    drain: float = 30.0
    timeout: float = 300.0
    tokens_in: int = 512
    tokens_in_spread: float = 0.0
    tokens_out: int = 128
    tokens_out_spread: float = 0.0
    fresh: bool = True
    fixed: bool = True
    turns: int = 1
    conversations: tuple[tuple[str, ...], ...] = ()
    """What users say, turn by turn, instead of made-up prompts."""
    seed: int = 0
    slo_ttft: float = 0.0
    tick: float = 1.0

    def plain(self) -> dict[str, object]:
        """As JSON; holds the key."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


def spec_of(row: Mapping[str, object]) -> Spec:
    """What `plain` gave. TypeError for names that are not known."""
    given = dict(row)
    users, said = given.pop("users", ()), given.pop("conversations", ())
    assert isinstance(users, (list, tuple)) and isinstance(said, (list, tuple))
    given["users"] = tuple(users)
    given["conversations"] = tuple(tuple(turns) for turns in said)
    return Spec(**given)  # type: ignore[arg-type]
