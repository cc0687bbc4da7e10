"""What one replica of vLLM said on its page of metrics: every value present with the name it came from, or absent.

One page may hold several replicas (a Ray node's page, a federated one), a replica several engines (data parallel
ranks) and models. Names are resolved per engine by the table in `aliases`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import isfinite

from dstui.telemetry.aliases import COUNTERS, GAUGES, HISTOGRAMS, INFO, LABELLED, RETIRED, Family, Thing
from dstui.telemetry.exposition import Page, Series, read_page
from dstui.telemetry.windows import Absent, Histogram, Present, Why, histogram

Number = Present[float] | Absent
Labelled = Present[Mapping[str, float]] | Absent
Buckets = Present[Histogram] | Absent

NAMES_KEPT = 80
"""How many of the names on a page are kept to be shown where something that was looked for is not there."""

_PARTS = ("_bucket", "_count", "_sum", "_created", "_total")
_OTHER_NAMES_KEPT = 12


@dataclass(frozen=True, slots=True)
class EngineSample:
    """One engine of a replica. `model` and `engine` are labels; vLLM before its V1 has no engine label.

    `numbers` has every gauge and counter of the alias table, `histograms` every histogram (seconds). KV usage is a
    share, 0 to 1. `finished` is requests by finished_reason; `cache_config` the labels of cache_config_info.
    """

    model: str | None
    engine: str | None
    numbers: Mapping[Thing, Number]
    histograms: Mapping[Thing, Buckets]
    finished: Labelled
    cache_config: Present[Mapping[str, str]] | Absent

    @property
    def key(self) -> tuple[str, str]:
        return self.model or "", self.engine or ""


@dataclass(frozen=True, slots=True)
class VllmSample:
    """One look at one replica, `at` seconds since the epoch on the controller's clock.

    No engines: the page has no vLLM metrics that are known. `names` are those on the page, kept only where one that
    current versions have is absent. `as_of` is the page's own time of the values, when it gives one. `node`,
    `replica_id` and `worker_id` are Ray's labels. `rejections` are of the whole replica, by reason.
    """

    at: float
    replica: str
    family: Family | None
    engines: tuple[EngineSample, ...]
    rejections: Labelled
    names: tuple[str, ...]
    node: str | None = None
    replica_id: str | None = None
    worker_id: str | None = None
    as_of: float | None = None
    node_page: bool = False
    """Not a replica but a Ray node's page as such, which may have any number of them, none as well."""


@dataclass(frozen=True, slots=True)
class _Use:
    """What a name on the page is used for; of several names of a thing the one with the lowest rank is taken."""

    thing: Thing
    rank: int
    part: str


def _uses() -> dict[str, _Use]:
    found: dict[str, _Use] = {}
    for thing, names in GAUGES.items():
        found.update({name: _Use(thing, rank, "value") for rank, name in enumerate(names)})
    counters = COUNTERS | {thing: (name,) for thing, (name, _) in LABELLED.items()}
    for thing, names in counters.items():
        for rank, name in enumerate(names):
            found[f"{name}_total"] = _Use(thing, 2 * rank, "value")
            found[name] = _Use(thing, 2 * rank + 1, "value")
    for thing, name in INFO.items():
        found[name] = _Use(thing, 0, "value")
    for thing, names in HISTOGRAMS.items():
        for rank, name in enumerate(names):
            found.update({f"{name}_{part}": _Use(thing, rank, part) for part in ("bucket", "sum", "count")})
    return found


_USES = _uses()
_FAMILIES = (Family.RAY_COLON, Family.RAY, Family.NATIVE, Family.UNDERSCORE)


def _split(name: str) -> tuple[Family, str] | None:
    for family in _FAMILIES:
        if name.startswith(family.value):
            return family, name[len(family.value) :]
    return None


def _wanted(name: str) -> bool:
    parts = _split(name)
    return parts is not None and parts[1] in _USES


def parse_metrics(
    text: str, *, at: float, replica: str, node_page: bool = False, openmetrics: bool = False, cut: bool = False
) -> tuple[VllmSample, ...]:
    """The replicas on a page. One that stands alone is called `replica`, several `replica/<Ray's id or instance>`.

    A page of metrics that has none of vLLM's gives one sample without engines. A `node_page` always gives one of its
    own first, so that a page without replicas is told from one that was not looked at.

    Raises GatherError(parse-error) when it is no page of metrics, or `cut`.
    """
    page = read_page(text, _wanted, openmetrics=openmetrics, cut=cut)
    groups = _replicas(page.series)
    nothing = _nothing(page, at, replica)
    if not groups and not node_page:
        return (nothing,)
    whole = (replace(nothing, names=() if groups else nothing.names, node_page=True),) if node_page else ()
    lone = len(groups) == 1 and not node_page and not next(iter(groups))[1]
    return (
        *whole,
        *(
            _sample(page, family, series, at, replica if lone else f"{replica}/{suffix or family.value.strip(':_')}")
            for (family, suffix), series in sorted(groups.items())
        ),
    )


def _replicas(series: Iterable[Series]) -> dict[tuple[Family, str], list[Series]]:
    """Series by the family of their names and by what tells replicas apart, which is empty on vLLM's own page."""
    groups: dict[tuple[Family, str], list[Series]] = defaultdict(list)
    for each in series:
        parts = _split(each.name)
        if parts is not None:
            groups[parts[0], _identity(each.labels)].append(each)
    return dict(groups)


def _identity(labels: Mapping[str, str]) -> str:
    ray = labels.get("ReplicaId") or labels.get("WorkerId", "")[:12]
    return "/".join(part for part in (labels.get("instance", ""), ray) if part)


def _nothing(page: Page, at: float, replica: str) -> VllmSample:
    own = _families_on(page.names, None)
    other = sorted(page.names)[:_OTHER_NAMES_KEPT]
    tried = " or ".join(family.value for family in Family)
    return VllmSample(at, replica, None, (), Absent(Why.NOT_EXPORTED, f"no name begins with {tried}"), own or (*other,))


def _families_on(names: Iterable[str], family: Family | None) -> tuple[str, ...]:
    """vLLM's names on the page without `_bucket` and the like, which tell nothing; of one family or of any."""
    found = set()
    for name in names:
        parts = _split(name)
        if parts is not None and family in (None, parts[0]):
            short = name
            for part in _PARTS:
                short = short.removesuffix(part)
            found.add(short)
    return tuple(sorted(found)[:NAMES_KEPT])


def _sample(page: Page, family: Family, series: list[Series], at: float, replica: str) -> VllmSample:
    by_engine: dict[tuple[str, str], list[Series]] = defaultdict(list)
    whole: list[Series] = []
    for each in series:
        use = _USES[each.name.removeprefix(family.value)]
        if use.thing in (Thing.REJECTIONS, Thing.CACHE_CONFIG):
            whole.append(each)
        else:
            by_engine[_model(each.labels), each.labels.get("engine", "")].append(each)
    reader = _Reader(family, page.bad)
    engines = tuple(
        _engine(reader, key, mine, _configs(whole, key, by_engine)) for key, mine in sorted(_together(by_engine))
    )
    rejections = reader.labelled(Thing.REJECTIONS, whole)
    complete = bool(engines) and not isinstance(rejections, Absent) and not any(_gaps(engine) for engine in engines)
    stamps = [each.time for each in series if each.time is not None]
    labels = series[0].labels
    return VllmSample(
        at,
        replica,
        family,
        engines,
        rejections,
        () if complete else _families_on(page.names, family),
        labels.get("NodeAddress") or None,
        labels.get("ReplicaId") or None,
        labels.get("WorkerId") or None,
        max(stamps) if stamps else None,
    )


def _model(labels: Mapping[str, str]) -> str:
    """A Prometheus target label `model_name` renames vLLM's own to `exported_model_name`."""
    return labels.get("exported_model_name") or labels.get("model_name", "")


def _together(engines: Mapping[tuple[str, str], list[Series]]) -> Iterator[tuple[tuple[str, str], list[Series]]]:
    """Engines; series without an engine label belong to the model's engine where it has only one."""
    for (model, engine), series in engines.items():
        others = [key for key in engines if key[0] == model and key[1]]
        if engine or not others:
            unlabelled = engines.get((model, ""), []) if engine and len(others) == 1 else []
            yield (model, engine), [*series, *unlabelled]


def _configs(
    whole: Iterable[Series], key: tuple[str, str], engines: Mapping[tuple[str, str], list[Series]]
) -> list[Series]:
    """cache_config_info has no model label: it is an engine's own if no other model has an engine of that number."""
    model, engine = key
    alone = sum(1 for _, other in engines if other == engine) == 1
    return [
        each
        for each in whole
        if _USES[_bare(each.name)].thing is Thing.CACHE_CONFIG
        and each.labels.get("engine", engine) == engine
        and (_model(each.labels) == model if _model(each.labels) else alone)
    ]


def _bare(name: str) -> str:
    parts = _split(name)
    return parts[1] if parts else name


def _gaps(engine: EngineSample) -> bool:
    values = (*engine.numbers.items(), *engine.histograms.items())
    return isinstance(engine.finished, Absent) or any(
        isinstance(value, Absent) and thing not in RETIRED for thing, value in values
    )


def _engine(reader: _Reader, key: tuple[str, str], series: list[Series], configs: list[Series]) -> EngineSample:
    numbers: dict[Thing, Number] = {thing: reader.gauge(thing, series) for thing in GAUGES}
    numbers.update({thing: reader.counter(thing, series) for thing in COUNTERS})
    return EngineSample(
        key[0] or None,
        key[1] or None,
        numbers,
        {thing: reader.buckets(thing, series) for thing in HISTOGRAMS},
        reader.labelled(Thing.FINISHED, series),
        reader.config(configs),
    )


_NAMES_OF: dict[Thing, list[str]] = {
    thing: sorted((name for name, use in _USES.items() if use.thing is thing), key=lambda name: _USES[name].rank)
    for thing in Thing
}


@dataclass(frozen=True, slots=True)
class _Reader:
    """Values of one family of names; a name of which a line was unreadable gives no value, as its sum may be short."""

    family: Family
    bad: frozenset[str]

    def gauge(self, thing: Thing, series: Iterable[Series]) -> Number:
        """A gauge that has several values for one engine is ambiguous: it cannot be added up."""
        chosen = self._chosen(thing, series)
        if isinstance(chosen, Absent):
            return chosen
        name, mine = chosen
        values = {each.value for each in mine}
        if len(values) > 1:
            return Absent(Why.AMBIGUOUS, f"{name} has {len(mine)} series")
        value = values.pop()
        highest = 1.0 if thing in (Thing.KV_USAGE, Thing.PREFIX_HIT_RATE) else None
        if not isfinite(value) or value < 0 or (highest is not None and value > highest):
            return Absent(Why.UNREADABLE, f"{name} is {value}")
        return Present(value, name)

    def counter(self, thing: Thing, series: Iterable[Series]) -> Number:
        chosen = self._chosen(thing, series)
        if isinstance(chosen, Absent):
            return chosen
        name, mine = chosen
        total = sum(each.value for each in mine)
        if not isfinite(total) or any(each.value < 0 for each in mine):
            return Absent(Why.UNREADABLE, f"{name} is no count")
        return Present(total, name)

    def labelled(self, thing: Thing, series: Iterable[Series]) -> Labelled:
        chosen = self._chosen(thing, series)
        if isinstance(chosen, Absent):
            return chosen
        name, mine = chosen
        counts: dict[str, float] = defaultdict(float)
        for each in mine:
            counts[each.labels.get(LABELLED[thing][1], "")] += each.value
        if not all(isfinite(count) for count in counts.values()) or any(each.value < 0 for each in mine):
            return Absent(Why.UNREADABLE, f"{name} is no count")
        return Present(dict(sorted(counts.items())), name)

    def config(self, series: list[Series]) -> Present[Mapping[str, str]] | Absent:
        chosen = self._chosen(Thing.CACHE_CONFIG, series)
        if isinstance(chosen, Absent):
            return chosen
        name, mine = chosen
        if len(mine) > 1:
            return Absent(Why.AMBIGUOUS, f"{name} has {len(mine)} series")
        return Present(dict(sorted(mine[0].labels.items())), name)

    def buckets(self, thing: Thing, series: Iterable[Series]) -> Buckets:
        mine = [each for each in series if self._use(each).thing is thing]
        ranks = sorted({self._use(each).rank for each in mine})
        unreadable = False
        for rank in ranks or ():
            name = self.family.value + HISTOGRAMS[thing][rank]
            if any(bad.startswith(f"{name}_") for bad in self.bad):
                unreadable = True
                continue
            return self._histogram(name, [each for each in mine if self._use(each).rank == rank])
        return self._absent(thing, unreadable)

    def _histogram(self, name: str, series: Iterable[Series]) -> Buckets:
        counts: dict[float, float] = defaultdict(float)
        rest: dict[str, float] = {}
        for each in series:
            part = self._use(each).part
            if part == "bucket":
                try:
                    bound = float(each.labels.get("le", ""))
                except ValueError:
                    return Absent(Why.UNREADABLE, f"{name} has a bucket without a bound")
                counts[bound] += each.value
            else:
                rest[part] = rest.get(part, 0.0) + each.value
        found = histogram(counts, rest.get("count"), rest.get("sum"), name)
        return found if isinstance(found, Absent) else Present(found, name)

    def _use(self, series: Series) -> _Use:
        return _USES[series.name.removeprefix(self.family.value)]

    def _chosen(self, thing: Thing, series: Iterable[Series]) -> tuple[str, list[Series]] | Absent:
        mine = [each for each in series if self._use(each).thing is thing]
        for bare in _NAMES_OF[thing]:
            name = self.family.value + bare
            found = [each for each in mine if each.name == name]
            if found and name not in self.bad:
                return name, found
        return self._absent(thing, False)

    def _absent(self, thing: Thing, unreadable: bool) -> Absent:
        names = [self.family.value + bare for bare in _NAMES_OF[thing]]
        if unreadable or self.bad.intersection(names):
            return Absent(Why.UNREADABLE, " ".join(sorted(self.bad.intersection(names)) or names[:1]))
        return Absent(Why.NOT_EXPORTED, " ".join(names))
