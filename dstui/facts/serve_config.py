"""What Ray Serve was told to run, from `/api/serve/applications/`: limits of deployments, settings of engines.

That answer holds environments in clear text (`runtime_env.env_vars`). Only the fields named here are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from dstui.facts.untyped import real, rows, table, text, whole
from dstui.facts.vllm_settings import Setting, settings_of

_MOST = 200
_NAME_CHARS = 200
_SINGLE_CONFIGS = ("llm_config", "prefill_config", "decode_config")


@dataclass(frozen=True, slots=True)
class DeploymentConfig:
    """`max_queued` is -1 for no limit. `gpus` is what one replica takes, its placement group included."""

    name: str
    ingress: bool
    max_ongoing: int | None
    max_queued: int | None
    autoscaled: bool
    gpus: float

    @property
    def engine(self) -> bool:
        """Whether it is known to hold a model: Ray's own LLM server, or something that takes GPUs."""
        return self.gpus > 0 or self.name.startswith(("LLMServer", "LLMDeployment", "VLLMDeployment"))


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """What `engine_kwargs` of one model says, by vLLM's names; what it does not say is vLLM's default."""

    model: str
    values: Mapping[str, Setting]


@dataclass(frozen=True, slots=True)
class AppConfig:
    """`source` is `declarative` (a YAML was deployed) or `imperative` (a program did it, and Ray does not know how).

    `engines` is None where the configuration is not there to be read.
    """

    name: str
    source: str | None
    deployments: tuple[DeploymentConfig, ...]
    engines: tuple[EngineConfig, ...] | None = field(default=None)

    @property
    def engine_deployments(self) -> tuple[DeploymentConfig, ...]:
        """Those that hold the model; where none shows it, all but the ingress, and the ingress when it is alone."""
        known = tuple(each for each in self.deployments if each.engine)
        behind = tuple(each for each in self.deployments if not each.ingress)
        return known or behind or self.deployments


def app_configs(document: object) -> tuple[AppConfig, ...]:
    """The applications of an answer in the order of their names; none when it is no such answer."""
    applications = table((table(document) or {}).get("applications")) or {}
    return tuple(_application(name, table(row) or {}) for name, row in sorted(applications.items())[:_MOST])


def _application(name: str, row: Mapping[str, object]) -> AppConfig:
    topology = table(row.get("deployment_topology")) or {}
    ingress = text(topology.get("ingress_deployment"))
    deployments = table(row.get("deployments")) or {}
    config = table(row.get("deployed_app_config"))
    return AppConfig(
        name=name[:_NAME_CHARS],
        source=text(row.get("source")),
        deployments=tuple(
            _deployment(each, table(deployment) or {}, each == ingress)
            for each, deployment in sorted(deployments.items())[:_MOST]
        ),
        engines=None if config is None else _engines(config.get("args")),
    )


def _deployment(name: str, row: Mapping[str, object], ingress: bool) -> DeploymentConfig:
    config = table(row.get("deployment_config")) or {}
    return DeploymentConfig(
        name=name[:_NAME_CHARS],
        ingress=ingress,
        max_ongoing=whole(config.get("max_ongoing_requests")),
        max_queued=whole(config.get("max_queued_requests")),
        autoscaled=table(config.get("autoscaling_config")) is not None,
        gpus=_gpus(row, config),
    )


def _gpus(row: Mapping[str, object], config: Mapping[str, object]) -> float:
    bundles = [table(bundle) or {} for bundle in rows(config.get("placement_group_bundles")) or []]
    actor = table(config.get("ray_actor_options")) or {}
    asked = table(row.get("required_resources")) or {}
    in_group = sum(real(bundle.get("GPU")) or 0.0 for bundle in bundles)
    return max(in_group, real(asked.get("GPU")) or 0.0, real(actor.get("num_gpus")) or 0.0)


def _engines(args: object) -> tuple[EngineConfig, ...] | None:
    """The models of `build_openai_app`'s arguments; None where they name files or are none of the shapes known."""
    found = table(args)
    if found is None:
        return None
    configs = list(_configs(found))
    if not configs or any(config is None for config in configs):
        return None
    return tuple(_engine(config) for config in configs if config is not None)


def _configs(args: Mapping[str, object]) -> Iterator[Mapping[str, object] | None]:
    for item in (rows(args.get("llm_configs")) or [])[:_MOST]:
        yield table(item)
    for name in _SINGLE_CONFIGS:
        if name in args:
            yield table(args[name])


def _engine(config: Mapping[str, object]) -> EngineConfig:
    loading = table(config.get("model_loading_config")) or {}
    name = text(loading.get("model_id")) or text(config.get("model_id")) or "?"
    return EngineConfig(name[:_NAME_CHARS], settings_of(table(config.get("engine_kwargs")) or {}))
