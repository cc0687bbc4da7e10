"""What must be true between the values of an inventory. Works on the raw values, so that a file with other faults
is told these as well; a value of the wrong type is somebody else's fault and passed over here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

from dstui.inventory.secrets import FileReference, NamedReference, file_fault, parse_reference
from dstui.inventory.unfold import Path, Unfolded, nearest, spelled

_RAY_ROLES = frozenset({"head", "worker", "ray"})


def check(file: Unfolded) -> None:
    """Add a fault to `file` for everything that contradicts something else."""
    for rule in _RULES:
        rule(file)


def _at(value: object, *path: str) -> object:
    for part in path:
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _block(file: Unfolded, *path: str) -> Mapping[str, object]:
    found = _at(file.root, *path)
    return found if isinstance(found, Mapping) else {}


def _texts(value: object) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, tuple) else ()


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _hosts(file: Unfolded) -> Iterator[tuple[Path, Mapping[str, object]]]:
    listed = _at(file.root, "hosts")
    for i, host in enumerate(listed if isinstance(listed, tuple) else ()):
        if isinstance(host, Mapping):
            yield ("hosts", i), host


def _group_of(file: Unfolded, host: Mapping[str, object]) -> Mapping[str, object]:
    group = host.get("group")
    return _block(file, "groups", group) if isinstance(group, str) else {}


def roles_of(own: tuple[str, ...] | None, group: tuple[str, ...] | None) -> frozenset[str]:
    """A host's roles: its own and its group's; `worker` when nobody says anything or only that it is in Ray."""
    roles = frozenset(own or ()) | frozenset(group or ())
    return roles | {"worker"} if not roles or roles == {"ray"} else roles


def _host_names(file: Unfolded) -> list[str]:
    return [name for _, host in _hosts(file) if isinstance(name := host.get("name"), str)]


def _names_are_unique(file: Unfolded) -> None:
    first: dict[str, Path] = {}
    for path, host in _hosts(file):
        name = host.get("name")
        if isinstance(name, str) and first.setdefault(name, path) != path:
            line = file.at((*first[name], "name")).line
            file.fault((*path, "name"), f"the name `{name}` is taken by the host on line {line}; choose another")


def _addresses_are_unique(file: Unfolded) -> None:
    first: dict[str, Path] = {}
    for path, host in _hosts(file):
        for key in ("data_ip", "mgmt_ip"):
            address = _address(host.get(key))
            if address is None:
                continue
            holder = first.setdefault(address, (*path, key))
            if holder[:2] != path:
                line = file.at(holder).line
                file.fault((*path, key), f"{address} is already given to the host on line {line}; one of them is wrong")


def _address(value: object) -> str | None:
    if not isinstance(value, str):
        return None
    try:
        return str(ip_address(value))
    except ValueError:
        return None


def _groups_exist(file: Unfolded) -> None:
    groups = [name for name in _block(file, "groups") if isinstance(name, str)]
    for path, host in _hosts(file):
        group = host.get("group")
        if isinstance(group, str) and group not in groups:
            file.fault((*path, "group"), f"there is no group `{group}`; {_hint(group, groups, 'add it to `groups:`')}")


def _hint(word: str, known: list[str], otherwise: str) -> str:
    guess = nearest(word, known)
    return f"did you mean `{guess}`?" if guess else otherwise


def _ray_has_one_head(file: Unfolded) -> None:
    heads: list[Path] = []
    ray = False
    for path, host in _hosts(file):
        if not isinstance(host.get("roles", ("worker",)), tuple) or host.get("roles") == ():
            return
        roles = roles_of(_texts(host.get("roles")), _texts(_group_of(file, host).get("roles")))
        ray = ray or bool(roles & _RAY_ROLES)
        if "head" in roles:
            heads.append(path)
    if ray and not heads:
        file.fault(("hosts",), "no host has the role `head`; give it to the host where `ray start --head` runs")
    for path in heads[1:]:
        line = file.at(heads[0]).line
        file.fault((*path, "roles"), f"a second `head`, the first is on line {line}; a Ray cluster has one")


def _one_host_is_local(file: Unfolded) -> None:
    local = [(path, host) for path, host in _hosts(file) if host.get("local") is True]
    for path, _ in local[1:]:
        file.fault((*path, "local"), "only one host can be `local`, the one that dstui runs on")
    for path, host in local:
        if host.get("ssh"):
            file.fault((*path, "ssh"), "a `local` host is reached without SSH; remove `ssh:` or `local:`")


def _gpus_agree(file: Unfolded) -> None:
    for path, host in _hosts(file):
        if host.get("gpu") is False and (_whole(host.get("gpus_per_host")) or 0) > 0:
            file.fault((*path, "gpus_per_host"), "`gpu: false` and `gpus_per_host` contradict each other; remove one")


def _people_exist(file: Unfolded) -> None:
    listed = _at(file.root, "team", "members")
    if not isinstance(listed, tuple) or not listed:
        return
    members = [str(m["id"]) for m in listed if isinstance(m, Mapping) and isinstance(m.get("id"), str)]
    for i, member in enumerate(members):
        if member in members[:i]:
            file.fault(("team", "members", i, "id"), f"`{member}` is listed twice; remove one")
    for path, person in _mentions(file):
        if person not in members and not (path[0] == "escalation" and person == "on-call"):
            hint = _hint(person, members, "add the person there")
            file.fault(path, f"`{person}` is not among `team.members`; {hint}")


def _mentions(file: Unfolded) -> Iterator[tuple[Path, str]]:
    """Every place that names a person."""
    for path, host in _hosts(file):
        if isinstance(owner := host.get("owner"), str):
            yield (*path, "owner"), owner
    for section in ("docs", "ops"):
        for name, artefact in _block(file, section).items():
            if isinstance(owner := _at(artefact, "owner"), str):
                yield (section, name, "owner"), owner
    for role, person in _block(file, "team", "roles").items():
        if isinstance(person, str):
            yield ("team", "roles", role), person
    levels = _at(file.root, "escalation")
    for i, level in enumerate(levels if isinstance(levels, tuple) else ()):
        if isinstance(who := _at(level, "who"), str):
            yield ("escalation", i, "who"), who


def _mentioned_hosts_exist(file: Unfolded) -> None:
    names = _host_names(file)
    for path in (("rehearsals", "allowed_targets"), ("lb", "hosts")):
        listed = _at(file.root, *path)
        for i, name in enumerate(listed if isinstance(listed, tuple) else ()):
            if isinstance(name, str) and name not in names:
                file.fault((*path, i), f"there is no host `{name}`; {_hint(name, names, 'add it to `hosts:`')}")


def _ray_ports_are_apart(file: Unfolded) -> None:
    ports = {name: port for name, value in _block(file, "ray", "ports").items() if (port := _whole(value)) is not None}
    low, high = ports.pop("worker_min", None), ports.pop("worker_max", None)
    if (low is None) != (high is None):
        here = "worker_min" if high is None else "worker_max"
        file.fault(("ray", "ports", here), "`worker_min` and `worker_max` belong together; write both")
    if low is not None and high is not None and low > high:
        file.fault(("ray", "ports", "worker_max"), f"the worker ports end before they start at {low}")
    taken = _fixed_ports(file)
    for name, port in ports.items():
        path = ("ray", "ports", name)
        if port in taken:
            file.fault(path, f"port {port} is taken by {taken[port]}; choose another")
        elif low is not None and high is not None and low <= port <= high:
            file.fault(path, f"port {port} lies among the worker ports {low}-{high}; choose one outside")
        taken.setdefault(port, f"`ray.ports.{name}`")


def _fixed_ports(file: Unfolded) -> dict[int, str]:
    gcs = _whole(_at(file.root, "ray", "gcs_port"))
    taken = {6379 if gcs is None else gcs: "Ray's GCS", 10001: "the Ray client"}
    url = _at(file.root, "ray", "dashboard_url")
    try:
        dashboard = urlsplit(url).port if isinstance(url, str) else None
    except ValueError:
        dashboard = None
    return taken | {dashboard or 8265: "the Ray dashboard"}


def _engine_fits(file: Unfolded) -> None:
    engine = _block(file, "engine")
    if not engine:
        return
    needed = _whole(_at(file.root, "serving", "replicas")) or 1
    for key in ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size"):
        needed *= _whole(engine.get(key)) or 1
    total = 0
    for _, host in _hosts(file):
        group = _group_of(file, host)
        roles = roles_of(_texts(host.get("roles")), _texts(group.get("roles")))
        if not roles & _RAY_ROLES or host.get("gpu", group.get("gpu")) is False:
            continue
        count = _whole(host.get("gpus_per_host", group.get("gpus_per_host")))
        if count is None:
            return
        total += count
    if total and needed > total:
        file.fault(
            ("engine",),
            f"tensor x pipeline x data parallel size x replicas needs {needed} GPUs, the hosts have {total};"
            " correct `engine:`, `serving.replicas` or `gpus_per_host`",
        )


def _references_lead_somewhere(file: Unfolded) -> None:
    defined = [name for name in _block(file, "secrets") if isinstance(name, str)]
    for path, value in _references(file.root, ()):
        try:
            reference = parse_reference(value)
        except ValueError:
            continue
        if isinstance(reference, NamedReference) and reference.name not in defined:
            hint = _hint(reference.name, defined, "add it to `secrets:`")
            file.fault(path, f"`{reference}` is not defined; {hint}")
        if isinstance(reference, NamedReference) and path[-1] == "identity_ref":
            _identity_is_a_file(file, path, reference)
        if isinstance(reference, FileReference) and (fault := file_fault(reference.path)):
            file.fault(path, f"`{spelled(path)}`: the file {reference.path} {fault}")


def _identity_is_a_file(file: Unfolded, path: Path, reference: NamedReference) -> None:
    meant = _at(file.root, "secrets", reference.name)
    if meant is not None and not str(meant).startswith("file:"):
        file.fault(path, f"`{reference}` is not a `file:` reference; the private key of an SSH login is a file")


def is_reference(path: Path) -> bool:
    """Whether the schema wants a reference at `path`."""
    if len(path) == 2 and path[0] == "secrets":
        return True
    return (len(path) == 3 and path[:2] == ("auth", "keys")) or (bool(path) and str(path[-1]).endswith("_ref"))


def _references(value: object, path: Path) -> Iterator[tuple[Path, object]]:
    if path[:1] == ("vars",) or "thresholds" in path:
        return
    if is_reference(path):
        yield path, value
    elif isinstance(value, Mapping):
        for key, child in value.items():
            yield from _references(child, (*path, key))
    elif isinstance(value, tuple):
        for i, child in enumerate(value):
            yield from _references(child, (*path, i))


_RULES: tuple[Callable[[Unfolded], None], ...] = (
    _names_are_unique,
    _addresses_are_unique,
    _groups_exist,
    _ray_has_one_head,
    _one_host_is_local,
    _gpus_agree,
    _people_exist,
    _mentioned_hosts_exist,
    _ray_ports_are_apart,
    _engine_fits,
    _references_lead_somewhere,
)
