"""The loader: what is accepted, and that every fault is told at once, at its place, in words."""

from __future__ import annotations

import copy
import json
import os
import random
import re
import textwrap
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dstui.inventory import load_inventory
from dstui.inventory.loader import parse_inventory
from dstui.inventory.yaml_tree import MAX_BYTES, core_value
from dstui.model import InventoryError

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "inventory.example.yaml"
DATA = ROOT / "tests/data/inventory"
HERE = Path("inventory.yaml")

MINIMAL = """\
version: 1
cluster: {name: lab}
ssh: {user: ops}
hosts:
  - {name: gpu-01, roles: [head], data_ip: 198.51.100.11}
"""


def faults(text: str) -> list[str]:
    with pytest.raises(InventoryError) as caught:
        parse_inventory(textwrap.dedent(text), HERE)
    return str(caught.value).splitlines()


def fault(text: str) -> str:
    told = faults(text)
    assert len(told) == 1, told
    return told[0].removeprefix("inventory.yaml:")


def test_minimal_inventory_needs_four_things_only() -> None:
    inventory = parse_inventory(MINIMAL, HERE)
    assert inventory.cluster.environment == "lab"
    assert inventory.ssh.strict_host_key_checking
    assert inventory.ssh.become == "none"


def test_roles_default_to_worker() -> None:
    text = MINIMAL + "  - {name: gpu-02, data_ip: 198.51.100.12}\n"
    assert parse_inventory(text, HERE).site().host("gpu-02").roles == {"worker"}


def test_example_is_valid() -> None:
    inventory = load_inventory(EXAMPLE)
    assert len(inventory.document.hosts) == 7
    assert inventory.document.model is not None
    assert inventory.document.model.path == "/mnt/deepseek-shared/models/deepseek-llm-67b-chat"


def test_example_shows_every_block() -> None:
    inventory = load_inventory(EXAMPLE)
    assert set(type(inventory.document).model_fields) == inventory.document.model_fields_set


def test_all_faults_of_a_file_are_told_at_once_and_in_order() -> None:
    path = DATA / "many_faults.yaml"
    with pytest.raises(InventoryError) as caught:
        load_inventory(path)
    said = [line.removeprefix(f"{path}:") for line in str(caught.value).splitlines()]
    assert said == (DATA / "many_faults.expected.txt").read_text("utf-8").splitlines()
    places = [tuple(int(n) for n in line.split(":")[:2]) for line in said]
    assert places == sorted(places)


MISTAKES = [
    pytest.param("", "1:1: the file is empty; `dstui init` writes one to start from", id="empty"),
    pytest.param("# nothing\n", "1:1: the file is empty; `dstui init` writes one to start from", id="comment"),
    pytest.param("~\n", "1:1: the file is empty; `dstui init` writes one to start from", id="null"),
    pytest.param(
        "- a\n",
        "1:1: the file must be a block of `key: value` lines that starts with `version: 1`; this is a list",
        id="list",
    ),
    pytest.param(
        "just text\n",
        "1:1: the file must be a block of `key: value` lines that starts with `version: 1`; this is a single value",
        id="scalar",
    ),
    pytest.param("version: 1\n\tcluster: x\n", "2:1: a tab; YAML is indented with spaces only", id="tab"),
    pytest.param("a:\n\t- b\n", "2:1: a tab; YAML is indented with spaces only", id="tab-list"),
    pytest.param("a: [1,\n  2\n", "3:1: the list that starts on line 1 has no `]`, or a comma is missing here", id="["),
    pytest.param(
        "a: {x: 1\nb: 2\n", "2:2: the block that starts on line 1 has no `}`, or a comma is missing here", id="{"
    ),
    pytest.param("a: 'x\n", "2:1: the quote that starts on line 1 is never closed", id="quote"),
    pytest.param(
        'a: "\\q"\n', "1:5: an unknown `\\` escape in double quotes; use single quotes, or write `\\\\`", id="escape"
    ),
    pytest.param("a: @x\n", "1:4: a value cannot start with `@`; put it in quotes", id="at-sign"),
    pytest.param(
        "a: b: c\n", "1:5: a `:` where no key can be; check the indentation, or put the value in quotes", id="::"
    ),
    pytest.param("a: x\x01y\n", "1:5: control character U+0001; delete it", id="control"),
    pytest.param("a: - b\n", "1:4: a `-` cannot start here; put each item on a line of its own", id="dash"),
    pytest.param("a: " + "[" * 60, "1:44: nested deeper than 40 levels; no inventory needs that", id="deep"),
]


@pytest.mark.parametrize(("text", "expected"), MISTAKES)
def test_text_that_is_no_inventory(text: str, expected: str) -> None:
    assert fault(text) == expected


def test_alias_bomb_is_stopped() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    assert "more than 200,000 values" in fault("\n".join(lines))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("cluster: {name: lab}", "`cluster` is given twice, first on line 2; remove one of them"),
        ("expect: {driver: !!str 1}", "tags such as `!!str` are not used here; quote a value to make it text"),
        ("expect: {driver: *x}", "alias `*x` has no anchor `&x` before it; write the values out"),
        ("thresholds: &t {hw.memory.x: *t}", "alias `*t` lies inside what it refers to; write the values out"),
        ("<<: {a: 1}", "merge keys (`<<`) are not used here; use `groups`, or write the keys out"),
        ("? [a]\n: 1", "this key is not text; put it in quotes"),
        ("---\nversion: 1", "a second document starts here; keep one document a file, without `---`"),
        ("drills: {}", "`drills` is not a key of the inventory; it is called `rehearsals`"),
        ("monitorng: {}", "`monitorng` is not a key of the inventory; did you mean `monitoring`?"),
        (
            "limit: {expected_rps: 99999999999999999999}",
            "this number has too many digits; put it in quotes if it is text",
        ),
        ("expect: {driver: 580.95}", "`expect.driver`: `580.95` must be text, in quotes"),
        ("expect: {gpu_models: H100}", "must be a list: write `[a, b]`, or one `- item` a line"),
        ("storage: /mnt/x", "`storage`: `/mnt/x` must be a block of `key: value` lines"),
        ("storage: {shared_path: mnt}", "`storage.shared_path`: `mnt` is not an absolute path; start it with /"),
        ("storage: {is_ssd: maybe}", "`maybe` is not one of `auto`, `true`, `false`"),
        ("network: {offline: yes}", "`network.offline`: `yes` must be `true` or `false`, without quotes"),
        ("network: {cluster_cidrs: [10.0.0.1/24]}", "`10.0.0.1/24` has host bits set; write 10.0.0.0/24"),
        ("network: {cluster_cidrs: [ten]}", "`ten` is not a network; write one such as 198.51.100.0/24"),
        ("jump: [{port: 70000, host: b}]", "`70000` is out of range; it must be at most 65535"),
        ("slo: {ttft_p95_s: .nan}", "`.nan` must be a number, without quotes"),
        ("endpoints: {api: ftp://x}", "`ftp://x` is not an http URL; start it with http:// or https:// and a host"),
        ("endpoints: {api: 'http://x:99999'}", "is not a URL; write one such as https://host:8443"),
        ("endpoints: {}", "`endpoints.api` is missing; write `api: https://api.deepseek.example.com`"),
        ("schedule: {daily: 8.30}", "`schedule.daily`: `8.30` must be text, in quotes"),
        ("schedule: {weekly: Monday}", '`Monday` is not a day and time; write one such as "Mon 09:00"'),
        ("team: {members: [{id: a b}]}", "`a b` is not a person's id; write one word such as zhang.wei"),
        ("lb: {kind: ngnix}", "did you mean `nginx`?"),
        ("secrets: {a: env:lower}", "`secrets.a`: the value needs the name of a variable in capitals"),
        ("secrets: {a: file:~/x}", "`secrets.a`: the value needs an absolute path"),
        ("secrets: {a: 'cmd:pass'}", "needs its command as a list: `{cmd: [pass, show, name]}`; there is no shell"),
        ("secrets: {a: {cmd: []}}", "needs its command as a list of words"),
        ("secrets: {a: secrets.b, b: env:B}", "`secrets.a`: the value refers to another secret"),
        ("secrets: {a: }", "`secrets.a`: the value is no reference"),
        ("auth: {key_ref: hunter2hunter2}", "`auth.key_ref`: the value is no reference"),
        ("jump: [{host: b, identity_ref: 'env:KEY'}]", "must be `file:/absolute/path` of a private key"),
        (
            "jump: [{host: b, identity_ref: secrets.k}]\nsecrets: {k: {cmd: [pass]}}",
            "`secrets.k` is not a `file:` reference; the private key of an SSH login is a file",
        ),
        ("auth: {key_ref: secrets.gone}", "`secrets.gone` is not defined; add it to `secrets:`"),
        ("auth: {keys: {admin: secrets.gone}}", "`secrets.gone` is not defined; add it to `secrets:`"),
        ("thresholds: {mem_min_gb: 1}", "the key `mem_min_gb` is not a threshold; write section.check.parameter"),
        ("docs: {raci: {ref: '${wiki}/raci', owner: a}}", "`${wiki}` is not among the `vars` of this file"),
        ("vars: {a: '${b}', b: 1}", "a variable cannot use another one; write its value out"),
        ("rehearsals: {allowed_targets: [gpu-1]}", "there is no host `gpu-1`; did you mean `gpu-01`?"),
        ("lb: {hosts: [lb-01]}", "there is no host `lb-01`; add it to `hosts:`"),
        ("ray: {ports: {worker_min: 10020}}", "`worker_min` and `worker_max` belong together; write both"),
        ("ray: {ports: {worker_min: 9, worker_max: 8}}", "the worker ports end before they start at 9"),
        ("ray: {ports: {node_manager: 6379}}", "port 6379 is taken by Ray's GCS; choose another"),
        ("ray: {ports: {node_manager: 1111, object_manager: 1111}}", "port 1111 is taken by `ray.ports.node_manager`"),
        (
            "ray: {ports: {worker_min: 20000, worker_max: 20100, metrics_export: 20100}}",
            "port 20100 lies among the worker ports 20000-20100; choose one outside",
        ),
        (
            "ray: {dashboard_url: 'http://h:9265', ports: {node_manager: 9265}}",
            "port 9265 is taken by the Ray dashboard; choose another",
        ),
        ("team: {members: [{id: a}, {id: a}]}", "`a` is listed twice; remove one"),
        (
            "docs: {api: {ref: x, owner: li.an}}\nteam: {members: [{id: li.na}]}",
            "`li.an` is not among `team.members`; did you mean `li.na`?",
        ),
        (
            "escalation: [{level: 1, after_min: 0, who: nobody}]\nteam: {members: [{id: li.na}]}",
            "`nobody` is not among `team.members`; add the person there",
        ),
    ],
)
def test_one_mistake_gives_one_sentence(line: str, expected: str) -> None:
    assert expected in fault(MINIMAL + line + "\n")


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        ("- {name: a, data_ip: 10.0.0.1}", "no host has the role `head`; give it to the host where `ray start --head`"),
        (
            "- {name: a, data_ip: 10.0.0.1, roles: [head]}\n  - {name: b, data_ip: 10.0.0.2, roles: [head]}",
            "a second `head`, the first is on line 5; a Ray cluster has one",
        ),
        (
            "- {name: a, data_ip: 10.0.0.1, roles: [lb]}\n  - {name: a, data_ip: 10.0.0.2, roles: [lb]}",
            "the name `a` is taken by the host on line 5; choose another",
        ),
        (
            "- {name: a, data_ip: '::1', roles: [lb]}\n"
            "  - {name: b, data_ip: 10.0.0.2, mgmt_ip: '0:0::1', roles: [lb]}",
            "::1 is already given to the host on line 5; one of them is wrong",
        ),
        ("- {name: a, data_ip: 0.0.0.0, roles: [lb]}", "is not the address of one host; write the host's own address"),
        ("- {name: a, data_ip: 10.0.0.1, roles: [lb], group: gpu}", "there is no group `gpu`; add it to `groups:`"),
        (
            "- {name: a, data_ip: 10.0.0.1, roles: []}",
            "`hosts[0].roles`: the list is empty; write at least one item",
        ),
        (
            "- {name: a, data_ip: 10.0.0.1, roles: [lb], user: x}",
            "`user` is not a key of `hosts[0]`; it belongs into `ssh:`",
        ),
        (
            "- {name: a, data_ip: 10.0.0.1, roles: [lb], ssh: {port: 1}, local: true}",
            "a `local` host is reached without",
        ),
        (
            "- {name: a, data_ip: 10.0.0.1, roles: [lb], local: true}\n"
            "  - {name: b, data_ip: 10.0.0.2, roles: [lb], local: true}",
            "only one host can be `local`, the one that dstui runs on",
        ),
        (
            "- {name: a, data_ip: 10.0.0.1, roles: [head], gpu: false, gpus_per_host: 8}",
            "`gpu: false` and `gpus_per_host` contradict each other; remove one",
        ),
        ("[]", "`hosts`: the list is empty; write at least one item"),
        ("", "`hosts` has no value; write `hosts: [{name: gpu-01, roles: [head], data_ip: 198.51.100.11}]`"),
    ],
)
def test_hosts_that_contradict_each_other(hosts: str, expected: str) -> None:
    text = f"version: 1\ncluster: {{name: lab}}\nssh: {{user: ops}}\nhosts:\n  {hosts}\n"
    assert expected in fault(text)


def test_a_cluster_without_ray_needs_no_head() -> None:
    text = MINIMAL.replace("roles: [head]", "roles: [lb]")
    assert not parse_inventory(text, HERE).site().host("gpu-01").in_ray


@pytest.mark.parametrize(("replicas", "fits"), [(2, True), (3, False)])
def test_engine_must_fit_the_gpus(replicas: int, fits: bool) -> None:
    text = MINIMAL.replace("11}", "11, gpus_per_host: 8}") + "engine: {tensor_parallel_size: 4}\n"
    text += f"serving: {{replicas: {replicas}}}\n"
    if fits:
        parse_inventory(text, HERE)
    else:
        assert "needs 12 GPUs, the hosts have 8" in fault(text)


def test_engine_is_not_weighed_when_a_host_does_not_tell_its_gpus() -> None:
    parse_inventory(MINIMAL + "engine: {tensor_parallel_size: 64}\n", HERE)


def test_strict_host_keys_cannot_be_switched_off() -> None:
    said = fault(MINIMAL.replace("user: ops", "user: ops, strict_host_key_checking: false"))
    assert said.startswith("3:44: `ssh.strict_host_key_checking`: `false` cannot be false: without host keys anyone")


def test_empty_keys_count_as_not_written() -> None:
    text = MINIMAL + "docs:\nsecrets:\nexpect: {driver: , nic_declared_gbps: null}\ngroups: {gpu: }\n"
    inventory = parse_inventory(text, HERE)
    assert inventory.value("expect.driver") is None
    assert list(inventory.document.groups) == ["gpu"]


def test_thresholds_keep_null_and_whole_number_keys() -> None:
    text = MINIMAL + "thresholds: {hw.gpu-model.gpu_mem_min_gb: null, perf.concurrent-users.max_s: {1: 1, 50: 2}}\n"
    inventory = parse_inventory(text, HERE)
    assert inventory.thresholds("hw.gpu-model", "gpu_mem_min_gb") == (None, "inventory")
    assert inventory.thresholds("perf.concurrent-users", "max_s") == ({1: 1, 50: 2}, "inventory")


def test_substitution_comes_from_vars_only() -> None:
    text = MINIMAL + textwrap.dedent("""\
        vars: {site: {share: /mnt/x}, port: 6400, half: 0.5}
        storage: {shared_path: "${site.share}/a"}
        ray: {gcs_port: "${vars.port}"}
        engine: {gpu_memory_utilization: "${half}"}
        oncall: {ref: "$${site.share}"}
        """)
    inventory = parse_inventory(text, HERE)
    assert inventory.site().shared_path == "/mnt/x/a"
    assert inventory.site().head_ports[0] == 6400
    assert inventory.value("engine.gpu_memory_utilization") == 0.5
    assert inventory.value("oncall.ref") == "${site.share}"


def test_substitution_cannot_blow_up() -> None:
    text = MINIMAL + f"vars: {{a: {'x' * 8000}}}\noncall: {{ref: '{'${a}' * 50_000}'}}\n"
    assert "characters; 8,192 are allowed" in fault(text)


def test_unknown_variable_is_told_once_with_the_nearest() -> None:
    text = MINIMAL + "vars: {share: /mnt/x}\nstorage: {shared_path: '${shrae}'}\n"
    assert fault(text) == "7:24: `${shrae}` is not among the `vars` of this file; did you mean `${share}`?"


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("yes", "yes"),
        ("on", "on"),
        ("12:30", "12:30"),
        ("2026-09-01", "2026-09-01"),
        ("1_000", "1_000"),
        ("0755", 755),
        ("0o755", 493),
        ("0x1F", 31),
        ("1.5e3", 1500.0),
        (".5", 0.5),
        ("True", True),
        ("~", None),
        ("", None),
        ("535.104.05", "535.104.05"),
        ("-", "-"),
        (".", "."),
    ],
)
def test_scalars_follow_yaml_1_2(written: str, value: object) -> None:
    assert core_value(written) == value
    assert type(core_value(written)) is type(value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match=r"there is no such file; `dstui init` writes one to start from"):
        load_inventory(tmp_path / "inventory.yaml")


def test_directory_instead_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match="cannot be read: Is a directory"):
        load_inventory(tmp_path)


def test_file_that_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "inventory.yaml"
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(InventoryError, match="larger than 2 MiB; that is no inventory"):
        load_inventory(path)


def test_file_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "inventory.yaml"
    path.write_bytes("version: 1\n# 机架 ".encode() + b"\xff\n")
    with pytest.raises(InventoryError, match=rf"{re.escape(str(path))}:2:6: this is not UTF-8 text"):
        load_inventory(path)


def test_byte_order_mark_and_windows_lines_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "inventory.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode())
    assert load_inventory(path).cluster.name == "lab"


@pytest.mark.parametrize(
    ("mode", "accepted"), [(0o600, True), (0o400, True), (0o640, False), (0o644, False), (0o700, False), (0o000, False)]
)
def test_secret_files_must_be_private(tmp_path: Path, mode: int, accepted: bool) -> None:
    secret = tmp_path / "token"
    secret.write_text("hunter2hunter2\n")
    secret.chmod(mode)
    text = MINIMAL + f"secrets: {{ray_token: 'file:{secret}'}}\n"
    if accepted:
        parse_inventory(text, HERE)
    else:
        said = fault(text)
        assert said.startswith("6:22: `secrets.ray_token`: the file")
        assert said.endswith(f"has mode {mode:04o}; make it private: chmod 600")


def test_missing_secret_files_are_told_when_asked_for_only(tmp_path: Path) -> None:
    text = MINIMAL + f"secrets: {{ray_token: 'file:{tmp_path}/gone', key: 'env:DSTUI_TEST_UNSET'}}\n"
    inventory = parse_inventory(text, HERE)
    assert inventory.unresolvable_secrets() == (
        f"inventory.yaml:6:22: file:{tmp_path}/gone: cannot be opened: No such file or directory",
        f"inventory.yaml:6:{22 + len(f'{tmp_path}/gone') + 14}: "
        "env:DSTUI_TEST_UNSET: the variable is not set; export it before you start dstui",
    )


LITERALS = [
    "sk-" + "a" * 30,
    "hf_" + "A" * 34,
    "AKIA" + "B" * 16,
    "eyJhbGciOi.eyJzdWIi.c2lnbmF0dXJl",
    "Bearer abcdefghijklmnop",
    "-----BEGIN RSA PRIVATE KEY-----",
    "password=hunter2hunter2",
    "http://admin:hunter2hunter2@proxy:3128",
]


def _paths(value: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in items:
        found += _paths(child, (*path, key))
    return found


_DOCUMENT = json.loads(json.dumps(yaml.safe_load(EXAMPLE.read_text("utf-8")), default=str))


def _with(path: tuple[object, ...], value: object) -> str:
    document = copy.deepcopy(_DOCUMENT)
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return json.dumps(document, ensure_ascii=False)


def test_secret_looking_literals_are_refused_everywhere_and_never_shown() -> None:
    paths = random.Random(7).sample(_paths(_DOCUMENT), 32)
    for i, path in enumerate(paths):
        literal = LITERALS[i % len(LITERALS)]
        for value in (literal, [literal], {literal: 1}, {"x": {literal: {"y": literal}}}):
            with pytest.raises(InventoryError) as caught:
                parse_inventory(_with(path, value), HERE)
            assert "looks like a secret" in str(caught.value), path
            assert literal not in str(caught.value), path
            assert "hunter2" not in str(caught.value), path


@pytest.mark.parametrize("key", ["db_password", "TOKEN", "api_key"])
def test_a_literal_under_a_key_for_secrets_is_refused(key: str) -> None:
    said = fault(MINIMAL + f"vars: {{{key}: opensesame}}\n")
    assert "looks like a secret" in said
    assert "opensesame" not in said


def test_prose_about_tokens_is_no_secret() -> None:
    text = MINIMAL + "monitoring: {dashboards_required: [vLLM token throughput, Secret rotation overview]}\n"
    assert parse_inventory(text, HERE).value("monitoring.dashboards_required") is not None


def test_control_characters_of_a_file_do_not_reach_the_terminal() -> None:
    said = "\n".join(faults(MINIMAL + 'lb: {kind: "\\e[31mred\\n\\a", hosts: ["\\u202Eevil"]}\n'))
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", said)


_ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**17), 10**17),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["env:X", "file:/x", "secrets.api_key", "http://", "10.0.0.1", "${share}", "2026-13-01"]),
    st.lists(st.one_of(st.text(max_size=3), st.none(), st.lists(st.integers(), max_size=1)), max_size=2),
    st.dictionaries(st.text(max_size=4), st.integers(), max_size=2),
)


@settings(max_examples=80, deadline=None)
@given(path=st.sampled_from(_paths(_DOCUMENT)), value=_ODD)
def test_any_value_anywhere_gives_an_inventory_or_words(path: tuple[object, ...], value: object) -> None:
    text = _with(path, value).replace("NaN", ".nan").replace("-Infinity", "-.inf").replace("Infinity", ".inf")
    try:
        parse_inventory(text, HERE)
    except InventoryError as error:
        said = str(error)
        assert re.match(r"inventory\.yaml:\d+:\d+: ", said)
        assert "pydantic" not in said
        assert "Input should" not in said
        assert "what belongs here" not in said, "an error of the schema has no words of its own"


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.text(max_size=80), st.text("ab:-[]{}&*!|>'\"%@`#,? \n\t0.", max_size=60)))
def test_any_text_gives_an_inventory_error(text: str) -> None:
    with pytest.raises(InventoryError, match=r"^inventory\.yaml:\d+:\d+: "):
        parse_inventory(text, HERE)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_secret_files_must_be_ones_own(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("x")
    secret.chmod(0o600)
    os.chown(secret, 12345, -1)
    assert "belongs to user id 12345, not to you (0); chown it" in fault(MINIMAL + f"secrets: {{a: 'file:{secret}'}}\n")
