"""A ladder's result as JSON and back: nothing lost, nothing wrong let in, no login in it."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import fields, is_dataclass, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dstui.load.agent.histogram import Histogram
from dstui.load.ladder import Ladder, Lengths, Loop, Phases, Prompts, Stage, StageKind
from dstui.load.result import Counts, Generator, LadderResult, StageResult, Times
from dstui.load.window import GpuWindow, HostWindow, LinkWindow, Point, ReplicaWindow, Window
from dstui.load.wire import ladder_of, plain, same_address, without_login

NUMBER = st.floats(0, 1e9)
MAYBE = st.none() | NUMBER
COUNT = st.integers(0, 10**9)
WORD = st.text(st.characters(codec="utf-8", exclude_characters="/"), max_size=8)


@st.composite
def histograms(draw: st.DrawFn) -> Histogram:
    found = Histogram()
    for seconds in draw(st.lists(st.floats(0, 1e5), max_size=4)):
        found.add(seconds, draw(st.integers(1, 9)))
    return found


LENGTHS = st.builds(Lengths, COUNT, st.floats(0, 1))
PROMPTS = st.builds(Prompts, LENGTHS, LENGTHS, st.booleans(), st.booleans(), COUNT, st.none() | WORD)
STAGES = st.builds(
    Stage, st.sampled_from(StageKind), COUNT, MAYBE, st.none() | COUNT, st.none() | WORD, st.none() | PROMPTS, MAYBE
)
LADDERS = st.builds(
    Ladder,
    *(WORD, WORD, st.lists(STAGES, max_size=2).map(tuple), PROMPTS),
    *(st.builds(Phases, NUMBER, NUMBER, NUMBER, NUMBER, NUMBER), st.sampled_from(Loop), COUNT, WORD, NUMBER, NUMBER),
    *(st.integers(-(10**9), 10**9), MAYBE, NUMBER, NUMBER),
)
GPUS = st.builds(
    GpuWindow, st.none() | WORD, COUNT, MAYBE, MAYBE, MAYBE, MAYBE, st.none() | st.booleans(), st.tuples(WORD)
)
LINKS = st.builds(LinkWindow, COUNT, MAYBE, MAYBE, MAYBE, MAYBE)
HOSTS = st.builds(
    HostWindow,
    *(COUNT, COUNT, MAYBE, MAYBE, st.none() | st.floats(-1e9, 1e9), MAYBE, MAYBE),
    *(st.dictionaries(st.integers(0, 64), GPUS, max_size=2), st.dictionaries(WORD, LINKS, max_size=2), WORD, WORD),
)
REPLICAS = st.builds(
    ReplicaWindow, COUNT, COUNT, *(MAYBE,) * 7, st.booleans(), *(MAYBE,) * 5, WORD
)  # fmt: skip
WINDOWS = st.builds(
    Window,
    *(st.dictionaries(WORD, HOSTS, max_size=2), st.dictionaries(WORD, REPLICAS, max_size=2)),
    *(st.lists(st.builds(Point, NUMBER, *(MAYBE,) * 5), max_size=2).map(tuple), WORD),
)
RESULTS = st.builds(
    StageResult,
    *(STAGES, NUMBER, NUMBER),
    st.builds(Counts, COUNT, COUNT, COUNT, st.dictionaries(WORD, COUNT, max_size=2), COUNT, COUNT, COUNT),
    st.builds(Times, *(histograms(),) * 5),
    *(COUNT, COUNT, COUNT, st.none() | COUNT),
    st.builds(Generator, COUNT, histograms(), MAYBE, st.none() | COUNT, st.floats(-9, 9), st.tuples(WORD)),
    *(WINDOWS, WORD, st.tuples(WORD)),
)
WHOLE = st.builds(LadderResult, LADDERS, st.lists(RESULTS, max_size=2).map(tuple), NUMBER, WORD, st.booleans())

SMALL = LadderResult(
    Ladder("http://api:8000", "m", (Stage(StageKind.LEVEL, 50),)),
    (StageResult(Stage(StageKind.LEVEL, 50), 1.0, 2.0, Counts(2, 2), Times()),),
    at=3.0,
)


def same(one: object, other: object) -> bool:
    """Field by field, histograms by what they hold."""
    if isinstance(one, Histogram):
        return isinstance(other, Histogram) and one.plain() == other.plain() and one.whole == other.whole
    if is_dataclass(one):
        return type(one) is type(other) and all(same(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    if isinstance(one, tuple):
        return isinstance(other, tuple) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    return one == other and type(one) is type(other)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None)
@given(WHOLE)
def test_there_and_back(result: LadderResult) -> None:
    written = json.loads(json.dumps(plain(result), allow_nan=False))
    assert same(ladder_of(written), result)


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        ("format", "x", "format"),
        ("version", 2, "version is 2"),
        ("version", True, "version is True"),
        ("at", None, "at is not a number"),
        ("at", float("nan"), "at is not finite"),
        ("at", float("inf"), "at is not finite"),
        ("simulated", 0, "simulated is not true or false"),
        ("stopped", None, "stopped is not text"),
        ("stages", {}, "stages is not a list"),
        ("stages", "no", "stages is not a list"),
        ("ladder", [], "ladder is not a table"),
        ("ladder.model", 7, "ladder.model is not text"),
        ("ladder.loop", "wild", "ladder.loop is not one of"),
        ("ladder.phases.window", -1.0, "ladder.phases.window is below 0"),
        ("stages.0.stage.users", 1.5, "stages[0].stage.users is not a whole number"),
        ("stages.0.stage.users", True, "stages[0].stage.users is not a whole number"),
        ("stages.0.counts.ok", -1, "stages[0].counts.ok is below 0"),
        ("stages.0.counts.ok", 1 << 64, "stages[0].counts.ok is too large"),
        ("stages.0.counts.errors", {"cut": "1"}, "stages[0].counts.errors.cut"),
        ("stages.0.times.ttft", None, "stages[0].times.ttft"),
        ("stages.0.times.ttft", {"counts": {"1": 0}}, "stages[0].times.ttft"),
        ("stages.0.times.ttft", {"counts": {"01": 1}, "total": 1, "low": 1, "high": 1}, "ttft.counts.01"),
        ("stages.0.times.ttft", {"counts": {"9999": 1}, "total": 1, "low": 1, "high": 1}, "ttft.counts.9999"),
        ("stages.0.times.ttft", {"counts": {"9": 1}, "total": 1, "low": 2, "high": 1}, "low is above high"),
        ("stages.0.times.ttft", {"counts": {"9": 1}, "total": None, "low": 2, "high": 1}, "seconds"),
        ("stages.0.window.hosts", [], "stages[0].window.hosts is not a table"),
        ("stages.0.generator.cpu", "0.1", "stages[0].generator.cpu is not a number"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(path: str, value: object, fault: str) -> None:
    document: object = json.loads(json.dumps(plain(SMALL)))
    place = document
    *steps, last = path.split(".")
    for step in steps:
        place = place[int(step)] if isinstance(place, list) else place[step]  # type: ignore[index]
    place[last] = value  # type: ignore[index]
    with pytest.raises(ValueError, match=fault.replace("[", r"\[").replace("]", r"\]")):
        ladder_of(document)


def test_nothing_may_be_left_out() -> None:
    whole = json.loads(json.dumps(plain(SMALL)))

    def without(place: object, where: str) -> None:
        rows = enumerate(place) if isinstance(place, list) else place.items() if isinstance(place, dict) else ()
        for key, inner in list(rows):
            without(inner, f"{where}.{key}")
        if isinstance(place, dict) and not where.endswith(
            (".errors", ".lag", ".ttft", ".late", ".itl", ".tpot", ".e2e")
        ):
            for key in list(place):
                kept = place.pop(key)
                with pytest.raises(ValueError, match=key):
                    ladder_of(whole)
                place[key] = kept

    without(whole, "")
    assert same(ladder_of(whole), SMALL)


@pytest.mark.parametrize("value", [None, [], "x", 3])
def test_no_table(value: object) -> None:
    with pytest.raises(ValueError, match="a ladder is a table"):
        ladder_of(value)


@pytest.mark.parametrize(
    ("url", "bare"),
    [
        ("https://ops:hunter2@api:8443/v1?key=hunter2#hunter2", "https://api:8443/v1"),
        ("http://hunter2@api", "http://api"),
        ("http://ops:hun/ter2@api/v1", "http://api/v1"),
        ("http://ops:hun?ter2@api/v1", "http://api/v1"),
        ("http://[::1]:8000/v1/", "http://[::1]:8000/v1/"),
        ("api:8000", "api:8000"),
    ],
)
def test_an_address_loses_its_login(url: str, bare: str) -> None:
    assert without_login(url) == bare
    assert without_login(bare) == bare


def test_no_login_gets_in_anywhere() -> None:
    secret = "http://ops:hunter2@api/v1?key=hunter2"
    stage = Stage(StageKind.DIRECT, 1, url=secret)
    row = replace(
        SMALL.stages[0], stage=stage, stopped=f"lost {secret}", samples=(f"GET {secret} refused, key sk-hunter2",),
        window=Window(replicas={secret: ReplicaWindow(0, 0, why=secret)}), generator=Generator(lost=(secret,)),
    )  # fmt: skip
    result = LadderResult(replace(SMALL.ladder, url=secret, stages=(stage,), engine=secret), (row,), 1.0, secret)
    text = json.dumps(plain(result, lambda text: text.replace("sk-hunter2", "‹key›")))
    assert "hunter2" not in text
    assert "ops" not in text
    assert ladder_of(json.loads(text)).stages[0].stage.url == "http://api/v1"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("http://api", "http://api/v1/", True),
        ("https://API:443/v1", "https://api", True),
        ("http://a:b@api", "http://api:80", True),
        ("http://api:8000", "http://api:8001", False),
        ("http://api", "https://api", False),
        ("http://api/a", "http://api/b", False),
        ("http://[::", "http://[::", True),
        ("http://api:99999", "http://api", False),
    ],
)
def test_addresses(one: str, other: str, same: bool) -> None:
    assert same_address(one, other) is same


def test_what_is_read_is_its_own() -> None:
    document = json.loads(json.dumps(plain(SMALL)))
    before = deepcopy(document)
    ladder_of(document)
    assert document == before
