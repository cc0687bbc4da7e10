"""What is deployed and where it answers: `expect`, `network`, `storage` … `monitoring`, `load`, `slo`.

A field that is None was left to the catalogue's default; numbers carry their unit in the name.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from dstui.inventory.schema_types import (
    AbsolutePath,
    AtLeastOne,
    Block,
    Count,
    FlagOrAuto,
    Fraction,
    Key,
    Name,
    Network,
    Port,
    Positive,
    TextValue,
    Url,
    UrlList,
    UrlOrPath,
    UseReference,
    Window,
)


class Expect(Block):
    """What the hardware and the software must be, where the document leaves a choice."""

    gpu_models: tuple[TextValue, ...] | None = None
    driver: TextValue | None = None
    nic_declared_gbps: Positive | None = None
    os_alternatives: dict[TextValue, TextValue] | None = None


class NetworkFacts(Block):
    """The cluster's networks and how it reaches the outside."""

    cluster_cidrs: tuple[Network, ...] = ()
    dhcp_reserved: bool = False
    offline: bool = False
    proxy_ref: UseReference | None = None
    no_proxy: tuple[TextValue, ...] = ()
    mirrors: dict[Name, UrlList] = Field(default_factory=dict)
    internal_mirrors: dict[Name, UrlList] = Field(default_factory=dict)
    dns_names: tuple[TextValue, ...] | None = None
    dns_external: TextValue | None = None
    vantages: tuple[TextValue, ...] | None = None


class Storage(Block):
    """The directory that all nodes share. `source` is what must be mounted there, such as `nas-01:/export/x`.

    `is_ssd` (`auto`, `true`, `false`) is for virtual disks, which do not tell.
    """

    shared_path: AbsolutePath | None = None
    source: TextValue | None = None
    fs_types: tuple[TextValue, ...] | None = None
    is_ssd: FlagOrAuto | None = None


class Runtime(Block):
    """How Ray and vLLM run: in a virtual environment on the machine, or in containers."""

    mode: Literal["bare-metal", "docker"] | None = None
    python: AbsolutePath | None = None
    image: TextValue | None = None
    user: TextValue | None = None
    docker_required: bool | None = None


class Model(Block):
    """The model that is served. `size_gb` is decimal."""

    path: AbsolutePath
    served_name: TextValue
    architecture: TextValue | None = None
    size_gb: Positive | None = None
    sha256_manifest: AbsolutePath | None = None
    test_cases: TextValue | None = None


class Engine(Block):
    """The vLLM engine's settings as they are meant to be."""

    tensor_parallel_size: AtLeastOne | None = None
    pipeline_parallel_size: AtLeastOne | None = None
    data_parallel_size: AtLeastOne | None = None
    max_num_seqs: AtLeastOne | None = None
    max_num_batched_tokens: AtLeastOne | None = None
    max_model_len: AtLeastOne | None = None
    gpu_memory_utilization: Fraction | None = None
    kv_cache_dtype: TextValue | None = None
    quantization: TextValue | None = None
    enable_prefix_caching: bool | None = None


class RayPorts(Block):
    """Ray's ports that are random unless they are pinned (`ray start --node-manager-port …`)."""

    node_manager: Port | None = None
    object_manager: Port | None = None
    runtime_env_agent: Port | None = None
    dashboard_agent_grpc: Port | None = None
    dashboard_agent_listen: Port | None = None
    metrics_export: Port | None = None
    worker_min: Port | None = None
    worker_max: Port | None = None


class Ray(Block):
    """The Ray cluster. `dashboard_access: tunnel` means through SSH to the head."""

    gcs_port: Port | None = None
    dashboard_url: Url | None = None
    dashboard_access: Literal["direct", "tunnel"] | None = None
    token_ref: UseReference | None = None
    version: TextValue | None = None
    ports: RayPorts = Field(default_factory=RayPorts)


class Serving(Block):
    """Who runs the model: Ray Serve, vLLM on Ray, vLLM alone, or containers."""

    mode: Literal["ray-serve", "vllm-ray", "vllm", "docker"] | None = None
    app_name: TextValue | None = None
    replicas: AtLeastOne | None = None
    target_concurrency: AtLeastOne | None = None
    vllm_version: TextValue | None = None
    version_policy: Literal["pin", "min", "latest"] | None = None


class Endpoints(Block):
    """`api` is what users call (the load balancer), `backends` what it forwards to."""

    api: Url
    serve: Url | None = None
    backends: tuple[Url, ...] | None = None
    health_path: AbsolutePath | None = None
    docs_url: UrlOrPath | None = None
    openapi_url: UrlOrPath | None = None


class Auth(Block):
    """Keys of the API, by reference. `keys` are further ones, such as `admin`, for `sec.api-authz`."""

    scheme: Literal["bearer"] | None = None
    key_ref: UseReference | None = None
    revoked_key_ref: UseReference | None = None
    keys: dict[Key, UseReference] | None = None
    backends_may_be_open: bool | None = None


class Limit(Block):
    """The rate limiter: requests per second it is set to, and how many dstui may send to see it act."""

    expected_rps: Positive | None = None
    burst_cap: AtLeastOne | None = None


class LoadBalancer(Block):
    """`ca_bundle` is `system` or the path of a PEM file."""

    kind: Literal["nginx", "haproxy", "envoy", "traefik", "cloud"] | None = None
    hosts: tuple[Name, ...] | None = None
    endpoint: Url | None = None
    min_upstreams: AtLeastOne | None = None
    ha: bool | None = None
    algorithms_ok: tuple[TextValue, ...] | None = None
    static_urls: tuple[UrlOrPath, ...] | None = None
    ca_bundle: TextValue | None = None


class Monitoring(Block):
    """`alerts_required` maps a category such as `instance_down` to the name of your alert."""

    prometheus_url: Url | None = None
    prometheus_auth_ref: UseReference | None = None
    alertmanager_url: Url | None = None
    alertmanager_auth_ref: UseReference | None = None
    grafana_url: Url | None = None
    grafana_token_ref: UseReference | None = None
    jobs_required: tuple[TextValue, ...] | None = None
    dashboards_required: tuple[TextValue, ...] | None = None
    alerts_required: dict[TextValue, TextValue] | None = None
    test_receiver: TextValue | None = None
    log_dirs: tuple[AbsolutePath, ...] | None = None


class Load(Block):
    """The load ladder: how far it may go, when, and with which key."""

    max_users: AtLeastOne | None = None
    windows: tuple[Window, ...] | None = None
    key_ref: UseReference | None = None


class Slo(Block):
    """Objectives: share of good requests over 30 days, seconds to the first token."""

    availability: Fraction | None = None
    ttft_p95_s: Positive | None = None


class Rehearsals(Block):
    """What may be broken on purpose, where and when; the defaults are the guard's (at least 2 before, 1 after)."""

    enabled: tuple[
        Literal["ha.failover", "ha.node-failure", "ha.auto-recovery", "ha.data-persistence", "ha.backup-restore"], ...
    ] = ()
    allowed_targets: tuple[Name, ...] = ()
    min_healthy_replicas_before: AtLeastOne = 2
    min_healthy_replicas_after: Count = 1
    max_total_outage_s: Positive = 60.0
    windows: tuple[Window, ...] = ()


class Cloud(Block):
    """Whose security groups there are to look at; `cli` and `imds` allow asking them."""

    provider: Literal["auto", "aws", "gcp", "azure", "aliyun", "tencent", "huawei", "none"] = "auto"
    cli: bool = False
    imds: bool = False
