"""Pages of metrics: captured ones, every family of names, several replicas on a page, and pages that are none."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dstui.model import GatherError, Reason, UsageError
from dstui.telemetry.aliases import COUNTERS, GAUGES, HISTOGRAMS, Family, Thing
from dstui.telemetry.record import Record, RecordKind, decode, encode
from dstui.telemetry.vllm import VllmSample, parse_metrics
from dstui.telemetry.vllm_records import from_data, record_of, sample_of, to_data
from dstui.telemetry.windows import Absent, Present, Why

PAGES = Path(__file__).parent.parent / "data" / "vllm"
CAPTURED = (
    "metrics_idle.txt",
    "metrics_during_load.txt",
    "metrics_after.txt",
    "llama_metrics_saturated.txt",
    "llama_metrics_after.txt",
)


def page(name: str) -> str:
    return (PAGES / name).read_text()


def one(text: str, **how: bool) -> VllmSample:
    (sample,) = parse_metrics(text, at=100.0, replica="gpu-01", **how)
    return sample


def value(sample: VllmSample, thing: Thing) -> float | None:
    (engine,) = sample.engines
    held = engine.numbers[thing]
    return held.value if isinstance(held, Present) else None


def refused(text: str, **how: bool) -> str:
    with pytest.raises(GatherError) as caught:
        parse_metrics(text, at=100.0, replica="gpu-01", **how)
    assert caught.value.reason is Reason.PARSE_ERROR
    return str(caught.value)


@pytest.mark.parametrize("name", CAPTURED)
def test_captured_pages_have_every_current_value(name: str) -> None:
    sample = one(page(name))
    (engine,) = sample.engines
    assert (sample.replica, sample.family, engine.key) == ("gpu-01", Family.NATIVE, ("deepseek-tiny", "0"))
    absent = {thing for thing, held in engine.numbers.items() if isinstance(held, Absent)}
    assert absent == {Thing.SWAPPED, Thing.PREFIX_HIT_RATE}
    assert not any(isinstance(held, Absent) for held in engine.histograms.values())
    assert sample.names == ()


def test_captured_numbers_during_load() -> None:
    sample = one(page("metrics_during_load.txt"))
    (engine,) = sample.engines
    assert value(sample, Thing.RUNNING) == 8
    assert value(sample, Thing.GENERATION_TOKENS) == 1754
    assert engine.numbers[Thing.PROMPT_TOKENS] == Present(8281.0, "vllm:prompt_tokens_total")
    assert engine.finished == Present(
        {"abort": 0.0, "error": 0.0, "length": 59.0, "repetition": 0.0, "stop": 0.0}, "vllm:request_success_total"
    )
    ttft = engine.histograms[Thing.TTFT]
    assert isinstance(ttft, Present)
    assert ttft.value.total == 67
    assert ttft.value.sum == pytest.approx(29.359, abs=0.001)
    assert isinstance(engine.cache_config, Present)
    assert engine.cache_config.value["num_gpu_blocks"] == "29127"
    assert sample.rejections == Present(
        {"max_num_queued_reqs": 0.0, "max_num_queued_tokens": 0.0}, "vllm:admission_rejections_total"
    )


def test_captured_saturation() -> None:
    sample = one(page("llama_metrics_saturated.txt"))
    assert [value(sample, thing) for thing in (Thing.RUNNING, Thing.WAITING, Thing.PREEMPTIONS)] == [2, 15, 12]
    assert value(sample, Thing.KV_USAGE) == pytest.approx(0.282, abs=0.001)


def test_a_ray_node_without_replicas_is_a_page_and_no_replica() -> None:
    (sample,) = parse_metrics(page("ray_node_without_vllm.txt"), at=1.0, replica="gpu-02", node_page=True)
    assert sample.node_page
    assert sample.engines == ()
    assert sample.family is None
    assert sample.names
    bare = one(page("ray_node_without_vllm.txt"))
    assert not bare.node_page
    assert isinstance(bare.rejections, Absent)


RAY = 'Component="core_worker",NodeAddress="10.0.0.7",SessionName="session_1",Version="2.60.0"'


def ray_lines(prefix: str, replica: str, worker: str, running: float, tokens: float) -> str:
    labels = f'{RAY},{replica}WorkerId="{worker}",engine="0",model_name="deepseek"'
    return (
        f"# TYPE {prefix}num_requests_running gauge\n"
        f"{prefix}num_requests_running{{{labels}}} {running}\n"
        f"# TYPE {prefix}generation_tokens gauge\n"
        f"{prefix}generation_tokens{{{labels}}} {tokens}\n"
        f"# TYPE {prefix}generation_tokens_total counter\n"
        f"{prefix}generation_tokens_total{{{labels}}} {tokens}\n"
    )


def test_one_ray_page_holds_several_replicas() -> None:
    text = (
        page("ray_node_without_vllm.txt")
        + ray_lines("ray_vllm_", 'ReplicaId="3r4e76ag",', "6f8b9bc4ba0f", 7, 1000)
        + ray_lines("ray_vllm_", 'ReplicaId="zz90ab12",', "aaaabbbbcccc", 3, 500)
    )
    whole, first, second = parse_metrics(text, at=1.0, replica="gpu-07", node_page=True)
    assert whole.node_page
    assert [first.replica, second.replica] == ["gpu-07/3r4e76ag", "gpu-07/zz90ab12"]
    assert (first.family, first.node, first.replica_id) == (Family.RAY, "10.0.0.7", "3r4e76ag")
    assert value(first, Thing.RUNNING) == 7
    assert value(second, Thing.RUNNING) == 3


def test_ray_without_replica_id_tells_replicas_by_worker_and_keeps_the_colon() -> None:
    text = ray_lines("ray_vllm:", "", "6f8b9bc4ba0fda1e", 7, 1000) + ray_lines(
        "ray_vllm:", 'ReplicaId="",', "aaaabbbbccccdddd", 3, 500
    )
    first, second = parse_metrics(text, at=1.0, replica="gpu-07")
    assert [first.replica, second.replica] == ["gpu-07/6f8b9bc4ba0f", "gpu-07/aaaabbbbcccc"]
    assert first.family is Family.RAY_COLON


def test_rays_gauge_beside_a_counter_is_not_added_to_it() -> None:
    text = ray_lines("ray_vllm_", 'ReplicaId="a",', "w", 7, 1000)
    sample = one(text)
    (engine,) = sample.engines
    assert engine.numbers[Thing.GENERATION_TOKENS] == Present(1000.0, "ray_vllm_generation_tokens_total")
    only_gauge = "\n".join(line for line in text.splitlines() if "_total" not in line) + "\n"
    (engine,) = one(only_gauge).engines
    assert engine.numbers[Thing.GENERATION_TOKENS] == Present(1000.0, "ray_vllm_generation_tokens")


def test_a_prometheus_target_label_renames_the_model() -> None:
    text = page("metrics_during_load.txt").replace(
        'model_name="deepseek-tiny"', 'exported_model_name="deepseek-tiny",model_name="prod"'
    )
    text = re.sub(r"^(vllm:\w+\{)", r'\1instance="10.0.0.7:8000",job="vllm",', text, flags=re.MULTILINE)
    sample = one(text)
    (engine,) = sample.engines
    assert sample.replica == "gpu-01/10.0.0.7:8000"
    assert engine.model == "deepseek-tiny"
    assert value(sample, Thing.RUNNING) == 8


def test_a_federated_page_gives_the_time_of_its_values() -> None:
    text = 'vllm:num_requests_running{engine="0",model_name="m",instance="a"} 3 1795494545542\n'
    assert one(text).as_of == pytest.approx(1795494545.542)


def test_openmetrics_with_exemplars() -> None:
    text = (
        "# TYPE vllm:generation_tokens counter\n"
        'vllm:generation_tokens_total{engine="0",model_name="m"} 12.0 # {trace_id="x"} 1.0 1795494545.5\n'
        "# TYPE vllm:num_requests_running gauge\n"
        'vllm:num_requests_running{engine="0",model_name="m"} 3.0\n'
        "# EOF"
    )
    sample = one(text, openmetrics=True)
    assert value(sample, Thing.GENERATION_TOKENS) == 12
    assert value(sample, Thing.RUNNING) == 3


def test_several_engines_and_models() -> None:
    text = "".join(
        f'vllm:num_requests_running{{engine="{engine}",model_name="{model}"}} {running}\n'
        for model, engine, running in (("a", 0, 1), ("a", 1, 2), ("b", 0, 3))
    )
    sample = one(text)
    assert [(engine.key, engine.numbers[Thing.RUNNING]) for engine in sample.engines] == [
        (("a", "0"), Present(1.0, "vllm:num_requests_running")),
        (("a", "1"), Present(2.0, "vllm:num_requests_running")),
        (("b", "0"), Present(3.0, "vllm:num_requests_running")),
    ]


def test_series_without_an_engine_belong_to_the_only_one() -> None:
    text = (
        'vllm:num_requests_running{engine="0",model_name="a"} 1\nvllm:num_requests_waiting{model_name="a"} 2\n'
        'vllm:cache_config_info{engine="0",block_size="16"} 1\n'
    )
    (engine,) = one(text).engines
    assert engine.numbers[Thing.WAITING] == Present(2.0, "vllm:num_requests_waiting")
    assert isinstance(engine.cache_config, Present)


def test_cache_config_of_two_models_with_the_same_engine_number_is_nobodys() -> None:
    text = (
        'vllm:num_requests_running{engine="0",model_name="a"} 1\n'
        'vllm:num_requests_running{engine="0",model_name="b"} 1\n'
        'vllm:cache_config_info{engine="0",block_size="16"} 1\n'
    )
    assert all(isinstance(engine.cache_config, Absent) for engine in one(text).engines)


@pytest.mark.parametrize(
    ("line", "thing", "why"),
    [
        ("vllm:num_requests_running{LABELS} NaN", Thing.RUNNING, Why.UNREADABLE),
        ("vllm:num_requests_running{LABELS} -1", Thing.RUNNING, Why.UNREADABLE),
        ("vllm:num_requests_running{LABELS} +Inf", Thing.RUNNING, Why.UNREADABLE),
        ("vllm:num_requests_running{LABELS} eight", Thing.RUNNING, Why.UNREADABLE),
        ("vllm:kv_cache_usage_perc{LABELS} 1.5", Thing.KV_USAGE, Why.UNREADABLE),
        ("vllm:num_preemptions_total{LABELS} -4", Thing.PREEMPTIONS, Why.UNREADABLE),
        ('vllm:num_requests_running{LABELS,pid="1"} 3', Thing.RUNNING, Why.AMBIGUOUS),
    ],
)
def test_a_value_that_cannot_be_is_absent(line: str, thing: Thing, why: Why) -> None:
    labels = 'engine="0",model_name="m"'
    text = (
        'vllm:generation_tokens_total{engine="0",model_name="m"} 5\n'
        'vllm:num_requests_running{engine="0",model_name="m",pid="0"} 2\n'
        f"{line.replace('LABELS', labels)}\n"
    )
    if why is Why.UNREADABLE:
        text = "\n".join(row for row in text.split("\n") if "pid" not in row)
    (engine,) = one(text).engines
    held = engine.numbers[thing]
    assert isinstance(held, Absent)
    assert held.why is why
    assert engine.numbers[Thing.GENERATION_TOKENS] == Present(5.0, "vllm:generation_tokens_total")


def test_a_garbled_line_takes_its_name_with_it_and_no_other() -> None:
    text = page("metrics_during_load.txt")
    name = "vllm:time_to_first_token_seconds_bucket"
    garbled = text.replace(f'{name}{{engine="0",le="0.25"', f'{name}{{engine="0,le="0.25"')
    assert garbled != text
    (engine,) = one(garbled).engines
    ttft = engine.histograms[Thing.TTFT]
    assert isinstance(ttft, Absent)
    assert ttft.why is Why.UNREADABLE
    assert isinstance(engine.histograms[Thing.ITL], Present)
    assert value(one(garbled), Thing.RUNNING) == 8


def test_a_garbled_outcome_leaves_no_outcome_to_sum() -> None:
    text = page("metrics_during_load.txt").replace('finished_reason="error",model_name="deepseek-tiny"} 0.0', "?")
    (engine,) = one(text).engines
    assert isinstance(engine.finished, Absent)


def test_a_histogram_without_its_end_is_absent() -> None:
    lines = page("metrics_during_load.txt").splitlines()
    name = "vllm:e2e_request_latency_seconds"
    kept = [line for line in lines if not (line.startswith(name) and ("+Inf" in line or f"{name}_count" in line))]
    (engine,) = one("\n".join(kept) + "\n").engines
    assert isinstance(engine.histograms[Thing.E2E], Absent)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   \n\n",
        page("page.html"),
        page("serve_proxy_metrics_404.txt"),
        "Internal Server Error",
        "nothing here\nis a metric\n",
        "\x00\x01\x02\x1b[31m\n",
    ],
)
def test_what_is_no_page_of_metrics_is_refused(text: str) -> None:
    said = refused(text)
    assert "\x1b" not in said
    assert "\n" not in said


def test_a_page_without_its_end_is_refused() -> None:
    text = page("metrics_during_load.txt")
    assert "cut off" in refused(text[: len(text) // 2].rstrip("\n"))
    assert "cut off" in refused(text, cut=True)


def test_hostile_labels_can_be_shown() -> None:
    text = f'vllm:num_requests_running{{engine="0",model_name="a\x1b[2J[/foo]\\nb{"x" * 900}"}} 3\n'
    (engine,) = one(text).engines
    assert engine.model is not None
    assert "\x1b" not in engine.model
    assert "\n" not in engine.model
    assert len(engine.model) <= 220


def test_a_line_of_megabytes_is_not_parsed() -> None:
    long = f'vllm:num_requests_waiting{{engine="0",model_name="{"x" * 2_000_000}"}} 3\n'
    began = time.perf_counter()
    (engine,) = one('vllm:num_requests_running{engine="0",model_name="m"} 3\n' + long).engines
    assert time.perf_counter() - began < 1.0
    waiting = engine.numbers[Thing.WAITING]
    assert isinstance(waiting, Absent)
    assert waiting.why is Why.UNREADABLE


def test_a_page_of_endless_series_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dstui.telemetry.exposition.SERIES_LIMIT", 100)
    assert "more than 100" in refused(page("metrics_during_load.txt"))


def test_thousands_of_series_of_which_few_are_wanted() -> None:
    other = "".join(f'ray_tasks{{Name="t{at}",State="RUNNING"}} {at}\n' for at in range(5000))
    sample = one(other + page("metrics_during_load.txt"))
    assert value(sample, Thing.RUNNING) == 8


def test_sixteen_engines_with_five_thousand_series() -> None:
    lines = page("metrics_during_load.txt").splitlines()
    text = "\n".join(
        line.replace('engine="0"', f'engine="{engine}"') for engine in range(16) for line in lines if "vllm:" in line
    )
    sample = one(text + "\n")
    assert len(sample.engines) == 16
    assert all(engine.numbers[Thing.RUNNING] == Present(8.0, "vllm:num_requests_running") for engine in sample.engines)


@pytest.mark.parametrize("name", CAPTURED)
def test_a_sample_survives_a_recording(name: str) -> None:
    sample = one(page(name))
    line = encode(record_of(sample))
    assert sample_of(decode(line, 1)) == sample
    assert len(line) < 8192


def test_a_page_without_vllm_survives_a_recording() -> None:
    for node_page in (True, False):
        sample = one(page("ray_node_without_vllm.txt"), node_page=node_page)
        assert sample_of(decode(encode(record_of(sample)), 1)) == sample


def broken(change: str) -> Record:
    data = to_data(one(page("metrics_during_load.txt")))
    text = json.dumps(data)
    old, new = change.split(" => ")
    assert old in text
    return Record(1.0, "vllm:gpu-01", RecordKind.SAMPLE, json.loads(text.replace(old, new, 1)))


@pytest.mark.parametrize(
    "change",
    [
        '"family": "vllm:" => "family": "sglang:"',
        '"running" => "runing"',
        '"value": 8 => "value": "8"',
        '"value": 8 => "value": -8',
        '"value": 8 => "value": true',
        '"value": 8 => "valeu": 8',
        '"absent": "not-exported" => "absent": "because"',
        '"bounds": [0.001 => "bounds": [9.001',
        '"bounds": [0.001, 0.005 => "bounds": [0.001',
        '"engines": [ => "engines": [7, ',
        '"node_page": false => "node_page": 0',
        '"engine": "0" => "engine": 0',
        '"name": "vllm:num_requests_running" => "name": null',
        '"rejections" => "rejection"',
    ],
)
def test_a_recording_that_was_damaged_is_refused(change: str) -> None:
    with pytest.raises(UsageError, match="gpu-01"):
        sample_of(broken(change))


def test_a_record_of_another_source_is_no_sample() -> None:
    for record in (Record(1.0, "ray", RecordKind.SAMPLE, {}), Record(1.0, "vllm:a", RecordKind.LOST, {"why": "x"})):
        with pytest.raises(UsageError):
            sample_of(record)


NAMES = ("vllm:num_requests_running", "ray_vllm_generation_tokens_total", "vllm:time_to_first_token_seconds_bucket")
MARKS = (
    "{",
    "}",
    'engine="0"',
    'le="0.1"',
    'model_name="m"',
    " ",
    "1",
    "NaN",
    "1e308",
    "-",
    "\n",
    '"',
    "\\",
    "# TYPE ",
    ",",
)
ODD = st.sampled_from((*NAMES, *MARKS))


@settings(max_examples=150)
@given(st.lists(st.one_of(ODD, st.text(max_size=5)), max_size=40))
def test_any_text_gives_samples_or_is_refused(parts: list[str]) -> None:
    try:
        samples = parse_metrics("".join(parts) + "\n", at=1.0, replica="r")
    except GatherError as error:
        assert error.reason is Reason.PARSE_ERROR
        return
    for sample in samples:
        assert sample_of(decode(encode(record_of(sample)), 1)) == sample


@settings(max_examples=100)
@given(st.integers(0, 60_000), st.integers(1, 400), st.text(max_size=3))
def test_any_damage_to_a_page_gives_values_or_absences(start: int, length: int, put: str) -> None:
    text = page("metrics_during_load.txt")
    try:
        samples = parse_metrics(text[:start] + put + text[start + length :], at=1.0, replica="r")
    except GatherError:
        return
    for sample in samples:
        for engine in sample.engines:
            assert engine.numbers.keys() == {*GAUGES, *COUNTERS}
            assert engine.histograms.keys() == HISTOGRAMS.keys()
        assert from_data(json.loads(json.dumps(to_data(sample))), at=1.0, replica=sample.replica) == sample


def test_every_name_of_the_table_is_one_of_vllms_captured_or_known_to_be_old() -> None:
    captured = set(re.findall(r"^vllm:(\w+?)(?:_total|_bucket)?\{", page("metrics_idle.txt"), re.MULTILINE))
    names = {name for table in (GAUGES, COUNTERS, HISTOGRAMS) for names in table.values() for name in names}
    assert names - captured == {
        "num_requests_swapped",
        "gpu_cache_usage_perc",
        "gpu_prefix_cache_hit_rate",
        "gpu_prefix_cache_queries",
        "gpu_prefix_cache_hits",
        "time_per_output_token_seconds",
        "time_in_queue_requests",
    }
