"""Every item of the checklist and the worlds in which its pass, its fail and its unknown were shown, or that it waits.

A world is real (tests/real: real components) or captured (tests/unit: recorded answers). The table fails when an id has
none, names a test that is not there, or is not built without being listed as such.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from dstui import probes
from dstui.catalogue import load_catalogue

TESTS = Path(__file__).parents[1]

HEALTHY = "real/test_healthy.py::test_every_check_passes_and_the_gate_is_open"
TWIST = "real/test_machines.py::test_twist"
GONE = "real/test_logins.py::test_an_sshd_that_does_not_run"
NO_SUDO = "real/test_machines.py::test_without_sudo_root_facts_are_unknown"
HUNG = "real/test_share.py::test_a_share_that_hangs"
MODEL_WELL = "real/test_model_checks.py::test_a_whole_model_passes"
MODEL_SICK = "real/test_model_checks.py::test_a_broken_model"
MODEL_HUNG = "real/test_model_checks.py::test_a_share_that_hangs"
RAY_WELL = "real/test_ray_checks.py::test_all_is_well"
TOKEN = "real/test_ray_checks.py::test_a_token_that_is_not_there"
LB_WELL = "real/test_lb_checks.py::test_a_balancer_as_it_should_be"
LB_DOWN = "real/test_lb_checks.py::test_nginx_that_does_not_run"
API_WELL = "real/test_api_checks.py::test_a_service_as_it_should_be"
FUNC = "real/test_func_checks.py::test_a_real_vllm_is_well"
LADDER_WELL = "unit/test_judge_perf.py::test_a_ladder_that_is_well_passes"
NO_API = "real/test_func_checks.py::test_an_api_that_is_not_there"

WORLDS: dict[str, tuple[str, str, str]] = {
    "hw.gpu-model": (HEALTHY, "unit/test_judge_hw.py::test_gpu_model", GONE),
    "hw.cpu-cores": (HEALTHY, "unit/test_judge_hw.py::test_cpu_cores", GONE),
    "hw.memory": (HEALTHY, "real/test_machines.py::test_memory", GONE),
    "hw.ssd-capacity": (HEALTHY, TWIST, GONE),
    "hw.nic-speed": (HEALTHY, "unit/test_judge_hw.py::test_nic_speed", GONE),
    "sw.os-version": (HEALTHY, TWIST, GONE),
    "sw.nvidia-driver": (HEALTHY, "real/test_machines.py::test_a_driver_is_compared_number_by_number", GONE),
    "sw.cuda": (HEALTHY, "unit/test_judge_sw.py::test_cuda", GONE),
    "sw.python": (HEALTHY, "unit/test_judge_sw.py::test_python", GONE),
    "sw.docker": (HEALTHY, TWIST, GONE),
    "sw.container-toolkit": (HEALTHY, "unit/test_judge_sw.py::test_container_toolkit", GONE),
    "net.peer-ping": (HEALTHY, "real/test_wires.py::test_a_dead_peer", "unit/test_judge_net.py::test_ping_rules"),
    "net.outbound": (HEALTHY, "real/test_wires.py::test_a_mirror_that_is_not_there", GONE),
    "net.static-ip": (HEALTHY, "real/test_wires.py::test_an_address_that_is_not_on_the_host", GONE),
    "net.ports": (
        HEALTHY,
        "real/test_wires.py::test_a_blocked_port",
        "unit/test_judge_net_ports.py::test_a_lost_side_makes_both_directions_unknown",
    ),
    "net.dns": (HEALTHY, "real/test_wires.py::test_name_servers_that_are_all_dead", GONE),
    "stor.shared-dir": (HEALTHY, "real/test_share.py::test_a_share_that_is_not_mounted", HUNG),
    "stor.shared-service": (HEALTHY, "real/test_share.py::test_another_source", HUNG),
    "stor.rw-all-nodes": (HEALTHY, "real/test_share.py::test_a_share_that_may_not_be_written", HUNG),
    "stor.free-space": (HEALTHY, "real/test_share.py::test_free_space", HUNG),
    "hard.ssh-no-root": (HEALTHY, "real/test_logins.py::test_a_root_login_that_succeeds", NO_SUDO),
    "hard.ssh-keys": (HEALTHY, "real/test_logins.py::test_a_key_file_that_others_may_write", NO_SUDO),
    "hard.firewall": (HEALTHY, "real/test_wires.py::test_a_port_open_to_the_world", NO_SUDO),
    "hard.security-group": (
        "unit/test_judge_hard_firewall.py::test_the_proposal_never_passes_without_the_rules",
        "unit/test_judge_hard_firewall.py::test_security_group",
        "unit/test_judge_hard_firewall.py::test_security_group",
    ),
    "hard.monitoring-logging": (HEALTHY, "unit/test_judge_hard_agents.py::test_rules", GONE),
    "model.present": (MODEL_WELL, MODEL_SICK, MODEL_HUNG),
    "model.integrity": (MODEL_WELL, MODEL_SICK, MODEL_HUNG),
    "model.single-gpu-load": (
        "unit/test_model_load.py::test_a_server_that_holds_one_gpu_has_shown_it",
        "real/test_model_load.py::test_a_load_that_goes_to_the_cpu_is_no_load_on_a_gpu",
        "real/test_model_load.py::test_a_runtime_without_vllm",
    ),
    "model.test-cases": (
        "unit/test_model_cases.py::test_cases_of_the_teams_own_pass",
        "real/test_model_checks.py::test_cases_that_are_not_there_or_wrong",
        "unit/test_model_cases.py::test_what_cannot_be_read_is_unknown",
    ),
    "model.memory-fit": (
        "unit/test_judge_model.py::test_seven_billion_on_one_gpu",
        "unit/test_judge_model.py::test_memory_fit",
        "unit/test_judge_model.py::test_a_gpu_host_that_is_not_seen_is_a_hole",
    ),
    "ray.head-started": (RAY_WELL, "real/test_ray_checks.py::test_no_ray_at_all", TOKEN),
    "ray.workers-joined": (RAY_WELL, "real/test_ray_checks.py::test_a_raylet_is_killed", TOKEN),
    "ray.dashboard": (
        "unit/test_judge_ray.py::test_a_healthy_dashboard_that_wants_a_token",
        "real/test_ray_checks.py::test_no_dashboard",
        TOKEN,
    ),
    "ray.resources": (RAY_WELL, "real/test_ray_checks.py::test_gpus_that_do_not_exist", TOKEN),
    "vllm.installed-latest": (
        "real/test_vllm_checks.py::test_plain_vllm_is_well",
        "real/test_vllm_checks.py::test_what_runs_is_not_what_is_wanted",
        "real/test_vllm_checks.py::test_the_latest_of_an_index_that_is_not_reached",
    ),
    "vllm.single-gpu-load": (
        "unit/test_judge_vllm.py::test_one_gpu",
        "unit/test_judge_vllm.py::test_one_gpu",
        "unit/test_judge_vllm.py::test_no_gpu_is_idle",
    ),
    "vllm.serve-app": (
        "real/test_vllm_checks.py::test_serve_is_well",
        "real/test_ray_checks.py::test_an_application_that_fails_to_deploy",
        TOKEN,
    ),
    "vllm.parallel-batch-config": (
        "real/test_vllm_checks.py::test_plain_vllm_is_well",
        "real/test_vllm_checks.py::test_what_runs_is_not_what_is_wanted",
        "real/test_vllm_checks.py::test_settings_that_ray_does_not_know",
    ),
    "vllm.serve-concurrency": (
        "real/test_vllm_checks.py::test_serve_is_well",
        "real/test_vllm_checks.py::test_one_at_a_time",
        "unit/test_judge_vllm.py::test_no_endpoint",
    ),
    "api.started": (
        API_WELL,
        "unit/test_judge_api.py::test_a_backend_with_another_model_fails_though_the_public_endpoint_works",
        "unit/test_judge_api.py::test_a_401_without_a_key_is_unknown",
    ),
    "api.docs": (
        "unit/test_judge_api.py::test_docs_of_vllm",
        "real/test_api_checks.py::test_docs_that_are_off",
        "unit/test_judge_api.py::test_no_endpoints_and_no_look",
    ),
    "api.health": (
        API_WELL,
        "real/test_api_checks.py::test_an_engine_that_hangs_while_health_still_answers",
        "unit/test_judge_api.py::test_no_endpoints_and_no_look",
    ),
    "api.auth": (
        API_WELL,
        "real/test_api_checks.py::test_a_gateway_that_takes_any_key",
        "real/test_api_checks.py::test_the_operators_own_key",
    ),
    "api.rate-limit": (
        "real/test_api_checks.py::test_the_limit_is_met_and_let_go",
        "real/test_api_checks.py::test_limits",
        "unit/test_judge_api_guards.py::test_a_burst_that_was_not_made",
    ),
    "lb.deployed": (LB_WELL, LB_DOWN, "real/test_lb_checks.py::test_without_sudo"),
    "lb.tls": (LB_WELL, "real/test_lb_checks.py::test_certificates", LB_DOWN),
    "lb.reverse-proxy": (LB_WELL, "real/test_lb_checks.py::test_streams_that_are_held_back", LB_DOWN),
    "lb.algorithm": (
        LB_WELL,
        "real/test_lb_checks.py::test_a_backend_that_gets_nothing",
        "real/test_lb_checks.py::test_a_limit_that_answers_503",
    ),
    "lb.static-cache": (
        LB_WELL,
        "real/test_lb_checks.py::test_answers_out_of_a_cache",
        "real/test_lb_checks.py::test_no_backend_at_all",
    ),
    "func.basic-inference": (FUNC, "real/test_func_checks.py::test_a_key_that_is_refused_is_a_failure", NO_API),
    "func.long-text": (FUNC, "unit/test_observe_func.py::test_a_service_that_is_sick", NO_API),
    "func.multilingual": (
        "unit/test_judge_func.py::test_every_script_there_and_back",
        "unit/test_observe_func.py::test_mojibake_is_not_the_models_fault",
        NO_API,
    ),
    "func.concurrent": (
        "unit/test_observe_func.py::test_a_service_that_is_well",
        "real/test_func_checks.py::test_a_cache_that_mixes_users_up",
        NO_API,
    ),
    "func.error-handling": (FUNC, "real/test_func_checks.py::test_a_gateway_that_shows_its_inside", NO_API),
    "perf.single-user-latency": (
        LADDER_WELL,
        "unit/test_judge_perf.py::test_single_p95",
        "unit/test_judge_perf.py::test_single_other_traffic",
    ),
    "perf.max-batch": (
        LADDER_WELL,
        "unit/test_judge_perf.py::test_batch_errors",
        "unit/test_judge_perf.py::test_batch_cannot_tell",
    ),
    "perf.concurrent-users": (
        LADDER_WELL,
        "unit/test_judge_perf.py::test_users_ttft_limit_of_each_level",
        "unit/test_judge_perf.py::test_users_shed_by_a_limiter",
    ),
    "perf.gpu-util": (
        LADDER_WELL,
        "unit/test_judge_perf_cluster.py::test_gpu_mean",
        "unit/test_judge_perf_cluster.py::test_gpu_nobody_serves",
    ),
    "perf.memory": (
        LADDER_WELL,
        "unit/test_judge_perf_cluster.py::test_memory_that_ran_out_at_a_level_that_failed",
        "unit/test_judge_perf_cluster.py::test_a_host_that_was_not_watched",
    ),
    "perf.network": (
        LADDER_WELL,
        "unit/test_judge_perf_cluster.py::test_network_rules",
        "unit/test_judge_perf_cluster.py::test_network_interfaces_without_traffic",
    ),
}
"""By id: where it passes (hard.security-group only proposes to), where it fails, where it cannot tell."""

WAITING = {
    "mon": "Prometheus, Alertmanager and Grafana",
    "ha": "the rehearsals",
    "sec": "the security checks",
    "doc": "people's items",
    "ops": "people's items",
    "team": "people's items",
    "per": "the schedule",
}
"""Sections that have no probes yet, and what they wait for."""


def known() -> list[str]:
    return [check.id for check in load_catalogue().checks]


@cache
def functions_of(file: str) -> frozenset[str]:
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(node.name for node in functions)


def test_there_are_99_items() -> None:
    assert len(known()) == 99


@pytest.mark.parametrize("check_id", known())
def test_every_item_has_its_worlds_or_waits(check_id: str) -> None:
    section = check_id.partition(".")[0]
    if section in WAITING:
        assert check_id not in probes.judges(), f"{check_id} is built: give it its worlds"
        assert check_id not in WORLDS
        return
    assert check_id in probes.judges(), f"{check_id} is not built, and its section is not listed as waiting"
    assert check_id in WORLDS, f"{check_id} is shown in no world"


@pytest.mark.parametrize("check_id", sorted(WORLDS))
def test_every_world_is_there(check_id: str) -> None:
    assert check_id in known()
    for world in WORLDS[check_id]:
        file, _, name = world.partition("::")
        assert name in functions_of(file), f"{check_id}: there is no {world}"
