"""vllm.parallel-batch-config: the engine's settings as they are in force, beside the wanted ones and beside reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dstui.facts.case import FleetCase
from dstui.facts.engine_settings import EngineSettings
from dstui.facts.raw import Missing
from dstui.facts.ray_look import PREFIX, RayLook
from dstui.facts.serve_config import AppConfig
from dstui.facts.serve_processes import Role
from dstui.facts.vllm_backends import VllmBackends
from dstui.facts.vllm_settings import CERTAIN_DEFAULTS, NAMES, Setting, of_command_line
from dstui.judge.fleet import cluster_target, listed
from dstui.judge.ray_words import processes_of
from dstui.judge.registry import FleetJudge
from dstui.judge.rulings import Causes, quoted, unknown
from dstui.judge.vllm_sanity import InForce, weigh_sanity
from dstui.model import Reason, Ruling, Text

_EVIDENCE = (f"{PREFIX}serve", f"{PREFIX}groups", "engine.", "vllm.backend-")
_RESOLVED = frozenset({"log", "metrics"})
"""Sources that say what vLLM made of `auto`."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A value and where it was seen; `kind` is one of `_STRENGTH`."""

    value: Setting
    kind: str
    where: str

    @property
    def source(self) -> str:
        return f"{self.kind} {self.where}".strip()


_STRENGTH = ("log", "metrics", "models", "command line", "Serve config", "model")
"""What runs comes before what was asked for."""


@dataclass(slots=True)
class Observed:
    """Every setting with everything that was seen of it, and what could not be looked at."""

    seen: dict[str, list[Seen]] = field(default_factory=dict)
    lost: list[Missing] = field(default_factory=list)
    max_concurrency: list[float] = field(default_factory=list)

    def take(self, values: Mapping[str, Setting], kind: str, where: str) -> None:
        for name, value in values.items():
            self.seen.setdefault(name, []).append(Seen(value, kind, where))

    def first(self, name: str) -> Setting:
        """The value in force as far as it is known."""
        found = sorted(self.seen.get(name, []), key=lambda one: _STRENGTH.index(one.kind))
        return found[0].value if found else None

    def whole(self, name: str) -> int | None:
        value = self.first(name)
        return value if isinstance(value, int) and not isinstance(value, bool) else None


def judge(case: FleetCase) -> Sequence[Ruling]:
    target = cluster_target(case.site)
    wanted = {name: value for name, value in case.params.table("engine").items() if value is not None}
    shown = ", ".join(f"{name} {value}" for name, value in wanted.items())
    expected = Text(shown or "the settings under engine:", shown or "engine: 中的设置")
    look, backends, settings = case.get(RayLook), case.get(VllmBackends), case.get(EngineSettings)
    for found in (look, backends, settings):
        if isinstance(found, Missing):
            return [unknown(target, found, expected)]
    assert isinstance(look, RayLook) and isinstance(backends, VllmBackends) and isinstance(settings, EngineSettings)
    apps = chosen_apps(case, look)
    observed = _observe(case, apps, look, backends, settings)
    causes = Causes(target, expected)
    _weigh_wanted(causes, wanted, observed)
    in_force = InForce(
        numbers={name: number for name in NAMES if (number := observed.whole(name)) is not None},
        share=_share(observed.first("gpu_memory_utilization")),
        max_concurrency=min(observed.max_concurrency, default=None),
        model=settings.model,
    )
    weigh_sanity(case, causes, in_force, look, apps, len(backends.backends))
    return [
        causes.ruling(
            _line(observed),
            Text("as wanted, and in reason", "与期望一致且合理"),
            material={name: observed.first(name) for name in NAMES},
            evidence=_EVIDENCE,
        )
    ]


def chosen_apps(case: FleetCase, look: RayLook) -> tuple[AppConfig, ...]:
    """The Serve applications that the inventory means; none where Serve does not run the model."""
    if case.params.text("serving_mode") != "ray-serve":
        return ()
    name = case.params.optional_text("serving_app_name")
    return tuple(app for app in look.configs or () if name is None or app.name == name)


def _observe(
    case: FleetCase, apps: Sequence[AppConfig], look: RayLook, backends: VllmBackends, settings: EngineSettings
) -> Observed:
    observed = Observed()
    serve = case.params.text("serving_mode") == "ray-serve"
    if serve and look.configs is None:
        observed.lost.append(look.why_not("serve"))
    for app in apps:
        for engine in app.engines or ():
            observed.take({**CERTAIN_DEFAULTS, **engine.values}, "Serve config", f"{app.name}/{engine.model}")
        if app.engines is None:
            why = f"{app.name} was deployed by a program, or its arguments name files" if app.source else "no arguments"
            observed.lost.append(Missing(Reason.CANNOT_TELL, f"Serve config: {why}"))
    for replica, log in settings.logs.items():
        if isinstance(log, Missing):
            observed.lost.append(log)
        else:
            observed.take(log.values, "log", replica)
    if not serve:
        _take_command_lines(case, observed)
    _take_backends(observed, backends)
    if not isinstance(settings.model, Missing) and settings.model.quantization is not None:
        observed.take({"quantization": settings.model.quantization}, "model", "config.json")
    return observed


def _take_command_lines(case: FleetCase, observed: Observed) -> None:
    for host in case.site.hosts:
        processes = processes_of(case, host)
        if isinstance(processes, Missing) or isinstance(processes.processes, Missing):
            continue
        for process in processes.of(Role.VLLM_SERVER):
            where = f"{host.name} pid {process.pid}"
            if not process.flags:
                observed.lost.append(Missing(Reason.PERMISSION, f"{where}: its command line cannot be read"))
            else:
                observed.take(of_command_line(process.flags), "command line", where)


def _take_backends(observed: Observed, backends: VllmBackends) -> None:
    for backend in backends.backends:
        configs = backends.cache_configs(backend)
        for config in () if isinstance(configs, Missing) else configs:
            observed.take(config.values, "metrics", backend.url)
            if config.max_concurrency is not None:
                observed.max_concurrency.append(config.max_concurrency)
        cards = backends.models(backend)
        for card in () if isinstance(cards, Missing) else cards:
            if card.max_model_len is not None:
                observed.take({"max_model_len": card.max_model_len}, "models", backend.url)


def _weigh_wanted(causes: Causes, wanted: Mapping[str, object], observed: Observed) -> None:
    if not wanted:
        causes.unknown(
            Reason.NO_TARGETS,
            Text(
                "engine: is empty in the inventory, so there is nothing to compare with",
                "清单中的 engine: 为空，没有可比较的值",
            ),
        )
    unseen: list[str] = []
    for name, value in wanted.items():
        seen = [one for one in observed.seen.get(name, []) if _tells(one, value)]
        if not seen:
            unseen.append(name)
            continue
        different = [one for one in seen if not _equal(name, value, one)]
        if different:
            one = different[0]
            causes.fail(
                Text(
                    f"{name} is {_word(one.value)}, not {_word(value)} ({quoted(one.source, 80)})",
                    f"{name} 为 {_word(one.value)}，不是 {_word(value)}（{quoted(one.source, 80)}）",
                )
            )
        else:
            sources = quoted(listed(sorted({one.source for one in seen})), 160)
            causes.note(Text(f"{name} {_word(value)}: {sources}", f"{name} {_word(value)}：{sources}"))
    if unseen:
        why = "; ".join(dict.fromkeys(quoted(missing.why, 120) for missing in observed.lost[:3]))
        reason = observed.lost[0].reason if observed.lost else Reason.CANNOT_TELL
        causes.unknown(
            reason,
            Text(
                f"not observable: {', '.join(unseen)}" + (f" ({why})" if why else ""),
                f"观察不到：{', '.join(unseen)}" + (f"（{why}）" if why else ""),
            ),
        )
    _weigh_disagreement(causes, wanted, observed)


def _weigh_disagreement(causes: Causes, wanted: Mapping[str, object], observed: Observed) -> None:
    for name in NAMES:
        values = {_word(one.value) for one in observed.seen.get(name, []) if one.value != "auto"}
        if name not in wanted and len(values) > 1:
            shown = listed([f"{_word(one.value)} ({one.source})" for one in observed.seen[name]])
            causes.warn(Text(f"{name} differs: {quoted(shown, 160)}", f"{name} 不一致：{quoted(shown, 160)}"))


def _tells(one: Seen, wanted: object) -> bool:
    """Whether it says anything of the value in force: what was asked for as `auto` does not."""
    return one.value != "auto" or one.kind in _RESOLVED or str(wanted).lower() == "auto"


def _equal(name: str, wanted: object, one: Seen) -> bool:
    found = one.value
    if isinstance(wanted, bool) or isinstance(found, bool):
        return wanted is found
    if isinstance(wanted, int | float) and isinstance(found, int | float):
        return abs(wanted - found) < 1e-6
    if str(wanted).lower() == "auto" and (one.kind in _RESOLVED or name == "quantization"):
        return True
    return str(wanted).lower() == str(found).lower()


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else quoted(str(value), 60)


def _share(value: Setting) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _line(observed: Observed) -> Text:
    parts = [f"{name} {_word(observed.first(name))}" for name in NAMES if observed.seen.get(name)]
    shown = ", ".join(parts)
    return Text(shown or "no setting was seen", shown or "没有看到任何设置")


JUDGE = FleetJudge(
    "vllm.parallel-batch-config",
    ("serve_processes", "gpu", "links"),
    (),
    judge,
    needs=("ray", "vllm-backends", "engine-settings"),
)
