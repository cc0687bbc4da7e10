"""A ladder planned from an inventory: its stages, what is refused and why, when load may be made, files of prompts."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstui.catalogue import load_catalogue
from dstui.inventory import load_inventory
from dstui.load.conversations import conversations
from dstui.load.ladder import Ladder, Lengths, Loop
from dstui.load.opening_hours import opens
from dstui.load.options import LadderOptions
from dstui.load.setup import LoadSetup
from dstui.model import UsageError
from dstui.opening import ParamSource, site_of

INVENTORY = """\
version: 1
cluster: {{name: ds, environment: {environment}, timezone: UTC, phase: live}}
ssh: {{user: ops}}
hosts:
  - {{name: gpu-01, roles: [head], data_ip: 198.51.100.11, gpu: true, gpus_per_host: 8}}
model: {{path: /m, served_name: ds-v3}}
{more}
"""
API = 'endpoints: {api: "https://api.example.com/v1", backends: ["http://198.51.100.11:8000"]}\n'
SUNDAY_3 = datetime(2026, 11, 22, 3, 0, tzinfo=UTC).timestamp()
MONDAY = datetime(2026, 11, 23, 12, 0, tzinfo=UTC).timestamp()


def setup(tmp_path: Path, more: str = API, *, environment: str = "lab", now: float = MONDAY) -> LoadSetup:
    path = tmp_path / "inventory.yaml"
    path.write_text(INVENTORY.format(environment=environment, more=more))
    catalogue, inventory = load_catalogue(), load_inventory(path)
    params = ParamSource(catalogue, inventory, {})
    links = cast("object", None)
    return LoadSetup(
        inventory, site_of(catalogue, inventory, {}), params, links, lambda: cast("object", None),  # type: ignore[arg-type, return-value]
        clock=lambda: now,
    )  # fmt: skip


def names(ladder: Ladder) -> list[str]:
    return [stage.name for stage in ladder.stages]


def test_the_catalogues_ladder(tmp_path: Path) -> None:
    more = API + "engine: {max_num_seqs: 256}\nserving: {replicas: 2}\nslo: {ttft_p95_s: 2.0}\n"
    ladder = setup(tmp_path, more).ladder_of()
    assert names(ladder) == [
        "single", "direct", "level-1", "level-50", "level-100", "level-200", "level-500", "batch-563"
    ]  # fmt: skip
    assert (ladder.url, ladder.model, ladder.slo_ttft) == ("https://api.example.com/v1", "ds-v3", 2.0)
    single, direct = ladder.stages[:2]
    assert (single.requests, direct.requests, direct.url) == (30, 10, "http://198.51.100.11:8000")
    assert single.prompts is not None and single.prompts.tokens_in == Lengths(64)
    assert ladder.stages[-1].window == 120.0, "twice as long as the limit has to hold"
    assert ladder.most_users == 563


def test_a_batch_that_is_not_allowed_is_left_out(tmp_path: Path) -> None:
    more = API + "engine: {max_num_seqs: 256}\nload: {max_users: 500}\n"
    assert "batch-282" in names(setup(tmp_path, more).ladder_of())
    more = API + "engine: {max_num_seqs: 512}\nload: {max_users: 500}\n"
    assert names(setup(tmp_path, more).ladder_of())[-1] == "level-500"


def test_what_a_person_changes(tmp_path: Path) -> None:
    options = LadderOptions(levels=(20, 5, 5), window=30.0, tokens_out=64, single=False, batch=False, turns=3)
    ladder = setup(tmp_path).ladder_of(options)
    assert names(ladder) == ["level-5", "level-20"]
    assert ladder.phases.window == 30.0 and ladder.phases.warm == 30.0
    assert ladder.prompts.tokens_out == Lengths(64) and ladder.prompts.turns == 3


def test_open_loops_have_rates(tmp_path: Path) -> None:
    desk = setup(tmp_path)
    ladder = desk.ladder_of(LadderOptions(rates=(2.0, 0.5), loop=Loop.POISSON, single=False))
    assert [(stage.name, stage.rate) for stage in ladder.stages] == [("level-0.5rps", 0.5), ("level-2rps", 2.0)]
    with pytest.raises(UsageError, match="open loop"):
        desk.ladder_of(LadderOptions(rates=(1.0,)))
    with pytest.raises(UsageError, match="--rates"):
        desk.ladder_of(LadderOptions(loop=Loop.CONSTANT))


@pytest.mark.parametrize(
    ("more", "options", "said"),
    [
        ("", LadderOptions(), "endpoints.api"),
        (API + "load: {max_users: 100}\n", LadderOptions(), "load.max_users of the inventory allows 100"),
        (API, LadderOptions(levels=(30_000,)), "allows 20000"),
        (API, LadderOptions(window=0.0), "nothing to measure"),
        (API, LadderOptions(warm=-1.0), "--warm -1"),
        (API, LadderOptions(pause=float("nan")), "--pause nan"),
        (API, LadderOptions(url="ftp://x"), "write http://"),
    ],
)
def test_what_is_refused(tmp_path: Path, more: str, options: LadderOptions, said: str) -> None:
    with pytest.raises(Exception, match=said) as error:
        setup(tmp_path, more).ladder_of(options)
    assert type(error.value).__name__ in ("UsageError", "LoadError")


def test_production_has_windows(tmp_path: Path) -> None:
    more = API + 'load: {windows: ["Sun 02:00-06:00"]}\n'
    with pytest.raises(UsageError, match="the next opens on Sun 2026-11-29 at 02:00 UTC"):
        setup(tmp_path, more, environment="production").ladder_of()
    assert setup(tmp_path, more, environment="production", now=SUNDAY_3).ladder_of()
    assert setup(tmp_path, more, environment="staging").ladder_of(), "elsewhere nobody is disturbed"
    late = SUNDAY_3 + 2.9 * 3600
    with pytest.raises(UsageError, match="closes in 6 min"):
        setup(tmp_path, more, environment="production", now=late).ladder_of()


def test_an_engine_that_is_none(tmp_path: Path) -> None:
    desk = setup(tmp_path)
    for engine in ("ray:gpu-09", "spark", "ray:"):
        with pytest.raises(UsageError, match="ray:HOST"):
            desk.runner(desk.ladder_of(LadderOptions(engine=engine)))


def test_a_search_needs_an_objective(tmp_path: Path) -> None:
    desk = setup(tmp_path)
    with pytest.raises(UsageError, match="set slo"):
        desk.runner(desk.ladder_of(), search=True)


async def test_one_at_a_time(tmp_path: Path) -> None:
    desk = setup(tmp_path)
    async with desk._once("http://one"):
        async with desk._once("http://other"):
            pass
        with pytest.raises(UsageError, match="is under way"):
            async with desk._once("http://one"):
                pass
    async with desk._once("http://one"):
        pass


@pytest.mark.parametrize(
    ("windows", "now", "found"),
    [
        ((), MONDAY, None),
        (("Sun 02:00-06:00",), SUNDAY_3, (SUNDAY_3 - 3600, SUNDAY_3 + 3 * 3600)),
        (("Daily 22:00-04:00",), SUNDAY_3, (SUNDAY_3 - 5 * 3600, SUNDAY_3 + 3600)),
        (("Mon 10:00-11:00", "Mon 13:00-14:00"), MONDAY, (MONDAY + 3600, MONDAY + 7200)),
        (("Daily 00:00-24:00",), MONDAY, (MONDAY - 12 * 3600, MONDAY + 12 * 3600)),
    ],
)
def test_when_load_may_be_made(windows: tuple[str, ...], now: float, found: tuple[float, float] | None) -> None:
    assert opens(windows, "UTC", now) == found


@given(
    now=st.floats(1.7e9, 1.9e9),
    begin=st.integers(0, 23),
    end=st.integers(0, 23),
    zone=st.sampled_from(["UTC", "Asia/Shanghai"]),
)
def test_a_window_is_always_ahead_or_open(now: float, begin: int, end: int, zone: str) -> None:
    found = opens((f"Sat {begin:02}:00-{end:02}:30",), zone, now)
    assert found is not None and found[0] < found[1] and found[1] > now
    assert found[0] - now < 8 * 86_400


def test_files_of_prompts(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    rows = [
        {
            "conversations": [
                {"from": "human", "value": "a"},
                {"from": "gpt", "value": "x"},
                {"from": "human", "value": "b"},
            ]
        },
        {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "c"}]},
        {"prompt": "d"},
        {"conversations": []},
    ]
    file.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    assert conversations(file) == (("a", "b"), ("c",), ("d",))
    file.write_text(json.dumps(rows))
    assert conversations(file) == (("a", "b"), ("c",), ("d",))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"prompt": "a"}\n{', ":2: "),
        (b'{"other": 1}', ":1: has no `messages`"),
        (b"3", ":1: a conversation is a table"),
        (b"[{", ":1: "),
        (b"", "no conversation in it"),
        (b"\xff\xfe", "byte 0 is no UTF-8"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "p"
    file.write_bytes(content)
    with pytest.raises(UsageError) as error:
        conversations(file)
    assert said in str(error.value) and str(file) in str(error.value)
    with pytest.raises(UsageError, match="No such file"):
        conversations(tmp_path / "none")
