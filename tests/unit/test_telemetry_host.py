"""Host samples: what a host or a recording says becomes typed values or nothing, whatever it is."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstui.model import Reason
from dstui.telemetry.host import GpuMissing, GpuProcess, HostSample, Traffic, parse, to_json

GPU = {
    "index": 3,
    "uuid": "GPU-aa",
    "name": "NVIDIA H100 80GB HBM3",
    "util": 97,
    "mem_util": 60,
    "mem_used": 76235669504,
    "mem_total": 85520809984,
    "temp": 88,
    "power": 612.4,
    "power_limit": 700.0,
    "sm_mhz": 1755,
    "mem_mhz": 2619,
    "reasons": ["sw_power_cap", "hw_thermal_slowdown"],
    "ecc_uncorrected": 2,
    "pcie_gen": 5,
    "pcie_width": 16,
    "pcie_rx": 1200,
    "pcie_tx": 0,
    "pcie_age": 4.0,
    "procs": [{"pid": 4242, "mem": 76000000000}, {"pid": 7, "mem": None}],
    "error": None,
}
SAMPLE = {
    "lost": 2,
    "seq": 41,
    "t": 7156.5,
    "hz": 1.0,
    "cpu": 41.4,
    "load1": 2.28,
    "cpus": 128,
    "mem_total": 25276502016,
    "mem_available": 23482347520,
    "swap_used": 0,
    "oom_kill": 3,
    "swap_in": 0.0,
    "swap_out": 4.5,
    "net": {"ens1": {"rx": 1.25e9, "tx": 5.0, "speed": 25000000000}, "ens2": {"rx": None, "tx": None, "speed": None}},
    "rdma": {"mlx5_0/1": {"rx": 1.0, "tx": 2.0, "speed": 400000000000}},
    "gpu_source": "nvml",
    "gpu_missing": None,
    "gpu_age": 0.02,
    "slow_age": 3.1,
    "gpus": [GPU],
}


def test_a_whole_sample() -> None:
    sample = parse(SAMPLE)
    assert (sample.seq, sample.lost, sample.cpu, sample.swap_used, sample.oom_kill) == (41, 2, 41.4, 0, 3)
    assert sample.net["ens1"] == Traffic(1.25e9, 5.0, 25e9)
    assert sample.net["ens1"].busiest == pytest.approx(0.4)
    assert sample.net["ens2"].busiest is None
    assert (gpu := sample.gpus[0]).reasons == ("sw_power_cap", "hw_thermal_slowdown")
    assert gpu.procs == (GpuProcess(4242, 76000000000), GpuProcess(7, None))
    assert (gpu.util, gpu.pcie_tx, gpu.error) == (97, 0, None)


def test_it_comes_back_from_a_recording_as_it_was() -> None:
    sample = parse(SAMPLE)
    assert parse(json.loads(json.dumps(to_json(sample)))) == sample
    assert set(SAMPLE) - set(to_json(sample)) == {"t"}


def test_what_is_absent_is_nothing_and_never_zero() -> None:
    sample = parse({"seq": 0})
    assert sample == HostSample(seq=0)
    assert (sample.cpu, sample.rdma, sample.gpus, sample.net) == (None, None, (), {})
    assert parse({"seq": 0, "rdma": {}}).rdma == {}
    gpu = parse({"seq": 0, "gpus": [{"index": 7, "error": "GPU_IS_LOST"}]}).gpus[0]
    assert (gpu.util, gpu.reasons, gpu.procs, gpu.error) == (None, None, None, "GPU_IS_LOST")


@pytest.mark.parametrize("value", [None, True, "97", -1, math.nan, math.inf, -math.inf, 101, 1e30, [], {}, 10**40])
def test_a_percentage_that_is_none(value: object) -> None:
    sample = parse({"seq": 1, "cpu": value, "gpus": [{"index": 0, "util": value, "mem_util": value}]})
    assert (sample.cpu, sample.gpus[0].util, sample.gpus[0].mem_util) == (None, None, None)


@pytest.mark.parametrize("value", [None, False, "1e9", -0.5, math.nan, math.inf, 1e30, [1], {"a": 1}, 10**40])
def test_a_number_that_is_none(value: object) -> None:
    sample = parse({"seq": 1, "mem_total": value, "net": {"e": {"rx": value, "tx": 1, "speed": value}}})
    assert (sample.mem_total, sample.net) == (None, {"e": Traffic(None, 1, None)})


@pytest.mark.parametrize("value", [None, [], "sample", 5, {}, {"seq": None}, {"seq": True}, {"seq": -1}, {"seq": 1.0}])
def test_what_is_no_sample_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="a sample"):
        parse(value)


def test_a_speed_of_zero_is_not_known() -> None:
    assert parse({"seq": 1, "net": {"e": {"rx": 5, "tx": 5, "speed": 0}}}).net["e"].busiest is None


def test_why_gpus_are_missing() -> None:
    missing = parse({"seq": 1, "gpu_missing": {"reason": "timeout", "why": "since 12:00:01", "for": 3.5}}).gpu_missing
    assert missing == GpuMissing(Reason.TIMEOUT, "since 12:00:01", 3.5)
    odd = parse({"seq": 1, "gpu_missing": {"reason": ["x"], "why": 7}}).gpu_missing
    assert odd == GpuMissing(Reason.CANNOT_TELL, "the host gave no reason")


def test_text_cannot_steer_a_terminal_nor_fill_it() -> None:
    evil = "\x1b[31mH100\x1b]0;x\x07\u202e\x9b2J" + "a" * 100_000
    sample = parse(
        {
            "seq": 1,
            "net": {evil: {"rx": 1}},
            "gpu_missing": {"why": evil},
            "gpus": [{"index": 0, "name": evil, "reasons": [evil] * 1000, "error": evil}],
        }
    )
    gpu = sample.gpus[0]
    texts = [
        *sample.net,
        sample.gpu_missing.why if sample.gpu_missing else "",
        gpu.name,
        gpu.error,
        *(gpu.reasons or ()),
    ]
    for text in texts:
        assert text is not None and len(text) <= 200 and text.isprintable()
    assert len(gpu.reasons or ()) <= 32


@pytest.mark.parametrize("text", ["\x1f", "é" * 150, "a" * 200, "a" * 201, "é " * 300, "x\x00" * 500])
def test_text_that_was_made_fit_stays_as_it_is(text: str) -> None:
    sample = parse({"seq": 1, "gpu_source": text})
    assert parse(to_json(sample)) == sample
    assert sample.gpu_source is None or len(sample.gpu_source) <= 200


def test_floods_are_cut() -> None:
    sample = parse(
        {
            "seq": 1,
            "gpus": [{"index": number % 64, "procs": [{"pid": 1}] * 5000} for number in range(5000)],
            "net": {f"veth{number}": {} for number in range(5000)},
        }
    )
    assert (len(sample.gpus), len(sample.gpus[0].procs or ()), len(sample.net)) == (64, 64, 64)


@pytest.mark.parametrize("gpus", [None, {}, "x", [None, 1, {}, {"index": "0"}, {"index": True}, {"index": -1}]])
def test_gpus_that_are_none(gpus: object) -> None:
    assert parse({"seq": 1, "gpus": gpus}).gpus == ()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
tables = st.fixed_dictionaries({}, optional=dict.fromkeys(SAMPLE, json_values)).map(lambda table: {**table, "seq": 1})
gpu_tables = st.fixed_dictionaries(
    {"index": st.integers(0, 9)}, optional={key: json_values for key in GPU if key != "index"}
)


@given(tables, st.lists(gpu_tables, max_size=3))
def test_anything_gives_a_sample_that_can_be_recorded(table: Mapping[str, object], gpus: list[object]) -> None:
    for value in (table, {**table, "gpus": gpus}):
        sample = parse(value)
        assert parse(json.loads(json.dumps(to_json(sample), allow_nan=False))) == sample
