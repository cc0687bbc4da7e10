"""Ports, nonces and the outside view: real collectors on loopback addresses as hosts, and hosts that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import secrets
import socket
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstui.facts.case import HostSite, Session, Site
from dstui.facts.raw import Missing, Op, Raw
from dstui.gather import port_matrix as port_module
from dstui.gather import vantage
from dstui.gather.choreography import nonce_matrix, pair_plan, port_matrix, sample_ports, vantage_reach
from dstui.gather.link import HostLink
from dstui.gather.local import open_local
from dstui.model import GatherError, Reason


def host(number: int, *roles: str) -> HostSite:
    return HostSite(
        name=f"gpu-0{number}",
        roles=frozenset(roles or {"worker"}),
        data_ip=f"127.0.0.{number}",
        mgmt_ip=None,
        address=f"127.0.0.{number}",
        port=22,
        user="ops",
        gpu=True,
        gpus_per_host=8,
    )


def site_of(*hosts: HostSite) -> Site:
    return Site(
        name="lab",
        environment="lab",
        phase="pre",
        hosts=hosts,
        shared_path="/mnt/shared",
        runtime_python=None,
        runtime_user=None,
        runtime_mode="bare-metal",
        docker_required=False,
        become="none",
    )


class Told:
    """A host that answers what it is told to: a mapping, or an error, per verb."""

    session = Session("ops", "publickey")

    def __init__(self, **answers: Mapping[str, object] | GatherError) -> None:
        self.answers = answers
        self.asked: list[tuple[str, dict[str, object]]] = []
        self.hanging = asyncio.Event()

    async def facts(self, ops: Sequence[Op], *, deadline: float) -> Raw:
        raise NotImplementedError

    async def call(self, verb: str, *, timeout: float, **args: object) -> Mapping[str, object]:  # noqa: ASYNC109
        self.asked.append((verb, args))
        answer = self.answers.get(verb.replace("-", "_"), {})
        if isinstance(answer, GatherError):
            raise answer
        if answer.get("hang"):
            self.hanging.set()
            await asyncio.get_running_loop().create_future()
        return answer

    async def close(self) -> None:
        return

    def verbs(self) -> list[str]:
        return [verb for verb, _ in self.asked]


@pytest.fixture
async def collectors() -> AsyncIterator[dict[str, HostLink]]:
    """Three collectors, for gpu-01 to gpu-03."""
    async with contextlib.AsyncExitStack() as stack:
        links: dict[str, HostLink] = {}
        for number in (1, 2, 3):
            link = await open_local(f"gpu-0{number}", become="none")
            stack.push_async_callback(link.close)
            links[f"gpu-0{number}"] = link
        yield links


@pytest.fixture
def free_range() -> Iterator[tuple[int, int]]:
    """A range of ports that nothing holds on any of the loopback addresses just now."""
    low = 20_000 + secrets.randbelow(5_000)
    while any(_busy(f"127.0.0.{n}", port) for n in (1, 2, 3) for port in range(low, low + 12)):
        low += 12
    yield low, low + 9


def _busy(address: str, port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((address, port))
            sock.listen()
        except OSError:
            return True
        return False


async def matrix(
    site: Site,
    links: Mapping[str, HostLink],
    port_range: tuple[int, int],
    *,
    missing: Mapping[str, Missing] | None = None,
    head_ports: Sequence[int] = (),
    phase: str = "pre",
    samples: int = 3,
    extra: Sequence[int] = (),
) -> port_module.PortMatrix:
    return await port_matrix(
        site,
        links,
        missing or {},
        head_ports=head_ports,
        port_range=port_range,
        samples=samples,
        extra=extra,
        phase=phase,
        connect_timeout=1.0,
        seed="lab",
    )


class TestSamples:
    def test_the_documents_range(self) -> None:
        ports = sample_ports((10001, 19999), 12, "ds-prod")
        assert len(ports) == 12
        assert {10001, 10002, 19999} <= set(ports)
        gaps = [b - a for a, b in itertools.pairwise(ports)]
        assert max(gaps) < 2 * 9999 // 9 + 2, "no part of the range is left out"

    def test_the_seed_decides(self) -> None:
        first = sample_ports((10001, 19999), 12, "a")
        assert first == sample_ports((10001, 19999), 12, "a")
        assert first != sample_ports((10001, 19999), 12, "b")

    @given(st.integers(1, 65535), st.integers(0, 3000), st.integers(0, 40), st.text(max_size=5))
    def test_any_range(self, low: int, width: int, count: int, seed: str) -> None:
        high = min(65535, low + width)
        ports = sample_ports((low, high), count, seed)
        assert list(ports) == sorted(set(ports))
        assert all(low <= port <= high for port in ports)
        assert {low, high} <= set(ports)
        ends = {low, high} | ({10002} if low <= 10002 <= high else set())
        assert len(ports) == max(len(ends), min(count, high - low + 1))


class TestPairs:
    def test_all_pairs_of_few(self) -> None:
        names = [f"h{n}" for n in range(16)]
        pairs, everything = pair_plan(names, ["h0"], "lab")
        assert everything
        assert len(set(pairs)) == 16 * 15

    def test_a_star_and_some_of_many(self) -> None:
        names = [f"h{n:02}" for n in range(40)]
        pairs, everything = pair_plan(names, ["h00"], "lab")
        assert not everything
        assert {("h00", name) for name in names[1:]} | {(name, "h00") for name in names[1:]} <= set(pairs)
        peers = {name: {b for a, b in pairs if a == name and b != "h00"} for name in names[1:]}
        assert all(len(found) == 3 and name not in found for name, found in peers.items())
        assert len({frozenset(found) for found in peers.values()}) > 20, "not everyone has the same peers"
        assert pair_plan(names, ["h00"], "lab") == (pairs, everything)
        assert pair_plan(names, ["h00"], "other")[0] != pairs

    def test_without_a_head_the_first_is_the_centre(self) -> None:
        names = [f"h{n:02}" for n in range(17)]
        assert {("h00", name) for name in names[1:]} <= set(pair_plan(names, [], "lab")[0])

    @pytest.mark.parametrize("count", [0, 1])
    def test_nobody_to_talk_to(self, count: int) -> None:
        assert pair_plan(["h0"][:count], [], "lab") == ((), True)


class TestPorts:
    async def test_real_hosts_reach_each_other(
        self, collectors: dict[str, HostLink], free_range: tuple[int, int]
    ) -> None:
        low, high = free_range
        site = site_of(host(1, "head"), host(2), host(3), host(4, "lb"))
        found = await matrix(site, collectors, free_range, head_ports=(high + 1,))
        assert (found.all_pairs, found.range_low, found.range_high, found.seed) == (True, low, high, "lab")
        assert {(x.host, x.state) for x in found.listeners} == {(f"gpu-0{n}", "listening") for n in (1, 2, 3)}
        assert [x.host for x in found.listeners if x.port == high + 1] == ["gpu-01"]
        assert len(found.tries) == 2 * (4 + 3 + 3)
        assert {t.outcome for t in found.tries} == {"ok"}
        assert found.missing == {}
        assert not any(_busy(f"127.0.0.{n}", port) for n in (1, 2, 3) for port in found.samples)

    async def test_a_port_that_something_else_holds(
        self, collectors: dict[str, HostLink], free_range: tuple[int, int]
    ) -> None:
        port = free_range[1] + 1
        with socket.create_server(("127.0.0.1", port)):
            site = site_of(host(1, "head"), host(2))
            before = await matrix(site, collectors, free_range, head_ports=(port,))
            live = await matrix(site, collectors, free_range, head_ports=(port,), phase="live")
        for found, outcome in ((before, "wrong-nonce"), (live, "ok")):
            assert [x.state for x in found.listeners if x.port == port] == ["busy"]
            assert [t.outcome for t in found.tries if t.port == port] == [outcome]

    async def test_in_a_live_cluster_a_free_head_port_is_let_go_at_once(
        self, collectors: dict[str, HostLink], free_range: tuple[int, int]
    ) -> None:
        port = free_range[1] + 1
        found = await matrix(
            site_of(host(1, "head"), host(2)), collectors, free_range, head_ports=(port,), phase="live"
        )
        assert [x.state for x in found.listeners if x.port == port] == ["listening"]
        assert [t for t in found.tries if t.port == port] == []
        assert found.missing == {}

    async def test_an_address_that_is_not_the_hosts(
        self, collectors: dict[str, HostLink], free_range: tuple[int, int]
    ) -> None:
        elsewhere = replace(host(1), data_ip="192.0.2.1")
        found = await matrix(site_of(elsewhere, host(2)), collectors, free_range)
        assert {(x.state, bool(x.why)) for x in found.listeners if x.host == "gpu-01"} == {("failed", True)}
        assert {t.destination for t in found.tries} == {"gpu-02"}

    async def test_hosts_without_a_link_make_holes_only(
        self, collectors: dict[str, HostLink], free_range: tuple[int, int]
    ) -> None:
        down = Missing(Reason.UNREACHABLE, "gpu-03: no answer")
        del collectors["gpu-03"]
        site = site_of(host(1), host(2), host(3), host(4))
        found = await matrix(site, collectors, free_range, missing={"gpu-03": down, "lb-01": down})
        assert {(t.source, t.destination, t.outcome) for t in found.tries} == {
            ("gpu-01", "gpu-02", "ok"),
            ("gpu-02", "gpu-01", "ok"),
        }
        assert found.missing["gpu-03"] is down
        assert found.missing["gpu-04"].reason is Reason.NOT_RUN
        assert set(found.missing) == {"gpu-03", "gpu-04"}

    async def test_a_host_lost_meanwhile_is_no_closed_port(self) -> None:
        """Its listeners went with it, so a refusal says nothing of the network."""
        gone = GatherError(Reason.UNREACHABLE, "gpu-02: lost")
        first = Told(
            listen={"state": "listening"},
            connect={"tries": [["127.0.0.2", 7001, "refused", 1.0], ["127.0.0.2", 7002, "ok", 1.0]]},
        )
        second = Told(listen={"state": "listening"}, connect=gone, close=gone)
        found = await matrix(site_of(host(1), host(2)), {"gpu-01": first, "gpu-02": second}, (7001, 7002))
        assert [(t.port, t.outcome) for t in found.tries] == [(7002, "ok")]
        assert found.missing["gpu-02"].why == "gpu-02: lost"
        assert "gpu-01" not in found.missing

    @pytest.mark.parametrize(
        "tries",
        [
            None,
            "ok",
            [],
            [["127.0.0.2", 7001, "ok", 1.0]],
            [["127.0.0.2", 7001, "fine", 1.0], [[], {}, 1], ["127.0.0.9", 7001, "ok", 1.0], None],
        ],
    )
    async def test_incomplete_and_made_up_answers(self, tries: object) -> None:
        first = Told(listen={"state": "listening"}, connect={"tries": tries})
        second = Told(listen={"state": "odd"}, connect={"tries": []})
        third = Told(listen={"state": "listening"}, connect={"tries": [["127.0.0.1", 7001, "ok", "x"]]})
        links = {"gpu-01": third, "gpu-02": first}
        found = await matrix(site_of(host(1), host(2)), links, (7001, 7002))
        assert all(t.destination != t.source for t in found.tries)
        assert {name: hole.reason for name, hole in found.missing.items()} == dict.fromkeys(
            ("gpu-01", "gpu-02"), Reason.PARSE_ERROR
        )
        odd = await matrix(site_of(host(1), host(2)), {"gpu-01": second, "gpu-02": second}, (7001, 7002))
        assert {x.state for x in odd.listeners} == {"failed"}
        assert odd.tries == ()

    async def test_answers_after_the_listeners_closed_themselves_are_not_waited_for(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(port_module, "TRUSTED_SECONDS", 0.0)
        seconds: list[float] = []

        class Timed(Told):
            async def call(self, verb: str, *, timeout: float, **args: object) -> Mapping[str, object]:  # noqa: ASYNC109
                if verb == "connect":
                    seconds.append(timeout)
                return await super().call(verb, timeout=timeout, **args)

        slow = Timed(listen={"state": "listening"}, connect={"tries": []})
        await matrix(site_of(host(1), host(2)), {"gpu-01": slow, "gpu-02": slow}, (7001, 7002))
        assert seconds == [0.1, 0.1]

    async def test_being_cancelled_closes_the_listeners(self) -> None:
        stuck = Told(listen={"state": "listening"}, connect={"hang": True})
        task = asyncio.create_task(matrix(site_of(host(1), host(2)), {"gpu-01": stuck, "gpu-02": stuck}, (7001, 7002)))
        await stuck.hanging.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert stuck.verbs().count("close") == 4

    async def test_no_ray_hosts_no_matrix(self) -> None:
        found = await matrix(site_of(host(1, "lb")), {}, (7001, 7002))
        assert (found.listeners, found.tries, dict(found.missing)) == ((), (), {})


class TestNonce:
    run = secrets.token_hex(16)

    async def test_all_see_all(self, collectors: dict[str, HostLink], tmp_path: Path) -> None:
        found = await nonce_matrix(
            site_of(host(1), host(2), host(3), host(4, "storage")),
            collectors,
            {},
            directory=str(tmp_path / ".dstui-probe"),
            run=self.run,
            as_user=None,
            within=5,
        )
        assert [(w.host, w.ok, w.error) for w in found.writes] == [(f"gpu-0{n}", True, "") for n in (1, 2, 3)]
        assert {(r.reader, r.writer) for r in found.reads} == {
            (f"gpu-0{a}", f"gpu-0{b}") for a in (1, 2, 3) for b in (1, 2, 3)
        }
        assert {r.outcome for r in found.reads} == {"match"}
        assert (found.missing, found.run) == ({}, self.run)
        assert os.listdir(tmp_path) == []

    async def test_a_folder_that_cannot_be_written(self, collectors: dict[str, HostLink], tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        found = await nonce_matrix(
            site_of(host(1)),
            collectors,
            {},
            directory=str(tmp_path / "file" / "probe"),
            run=self.run,
            as_user=None,
            within=1,
        )
        assert [(w.ok, w.error) for w in found.writes] == [(False, "ENOTDIR")]
        assert found.reads == ()

    async def test_holes(self) -> None:
        written = {"written": True, "sha256": "ab", "as_user": "ops", "ms": 2.5, "leftovers": 1}
        good = Told(
            nonce_write=written,
            nonce_read={"reads": {"gpu-01": ["match", "", 0.1], "gpu-02": ["absent", "ENOENT", 5]}},
        )
        mute = Told(nonce_write=written, nonce_read=GatherError(Reason.TIMEOUT, "gpu-02: no answer"))
        odd = Told(nonce_write={"written": "yes", "sha256": "cd"}, nonce_read={"reads": {"gpu-01": ["fine", "", 1]}})
        stuck = Told(nonce_write=GatherError(Reason.TIMEOUT, "gpu-04: no answer"))
        links = {"gpu-01": good, "gpu-02": mute, "gpu-03": odd, "gpu-04": stuck}
        found = await nonce_matrix(
            site_of(*(host(n) for n in range(1, 6))),
            links,
            {},
            directory="/mnt/shared/.dstui-probe",
            run=self.run,
            as_user="deepseek",
            within=1,
        )
        assert [(w.host, w.ok) for w in found.writes] == [("gpu-01", True), ("gpu-02", True), ("gpu-03", False)]
        assert [(r.reader, r.writer, r.outcome) for r in found.reads] == [
            ("gpu-01", "gpu-01", "match"),
            ("gpu-01", "gpu-02", "absent"),
        ]
        assert {name: hole.reason for name, hole in found.missing.items()} == {
            "gpu-02": Reason.TIMEOUT,
            "gpu-03": Reason.PARSE_ERROR,
            "gpu-04": Reason.TIMEOUT,
            "gpu-05": Reason.NOT_RUN,
        }
        assert all(link.verbs()[-1] == "nonce-clean" for link in links.values())
        assert good.asked[0][1]["as_user"] == "deepseek"

    async def test_being_cancelled_removes_the_files(self) -> None:
        stuck = Told(nonce_write={"written": True, "sha256": "ab"}, nonce_read={"hang": True})
        task = asyncio.create_task(
            nonce_matrix(site_of(host(1)), {"gpu-01": stuck}, {}, directory="/d", run=self.run, as_user=None, within=1)
        )
        await stuck.hanging.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert stuck.verbs() == ["nonce-write", "nonce-read", "nonce-clean"]


class TestVantage:
    async def test_open_and_closed(self, free_range: tuple[int, int]) -> None:
        low, high = free_range
        with socket.create_server(("127.0.0.1", low)):
            found = await vantage_reach(
                site_of(host(1), host(2)),
                {"gpu-01": [low, high, low], "gpu-02": [low], "gpu-03": [low]},
                timeout=2,
                cluster_cidrs=["198.51.100.0/24"],
            )
        assert found.outcomes == {"gpu-01": {low: "ok", high: "refused"}, "gpu-02": {low: "refused"}}
        assert (found.vantage, found.address, found.inside) == ("controller", "127.0.0.1", False)

    async def test_open_on_any_address_is_open(self, free_range: tuple[int, int]) -> None:
        port = free_range[0]
        with socket.create_server(("127.0.0.2", port)):
            found = await vantage_reach(
                site_of(replace(host(1), mgmt_ip="127.0.0.2")), {"gpu-01": [port]}, timeout=2, cluster_cidrs=[]
            )
        assert found.outcomes == {"gpu-01": {port: "ok"}}

    async def test_where_one_address_cannot_be_looked_at_the_port_is_not_closed(
        self, free_range: tuple[int, int]
    ) -> None:
        found = await vantage_reach(
            site_of(replace(host(1), mgmt_ip="not an address")),
            {"gpu-01": [free_range[0]]},
            timeout=2,
            cluster_cidrs=[],
        )
        assert found.outcomes == {"gpu-01": {free_range[0]: "error"}}

    @pytest.mark.parametrize(
        ("hosts", "cidrs", "inside"),
        [
            ((host(1),), ["127.0.0.0/8"], True),
            ((host(1),), ["127.0.0.1/8"], True),
            ((host(1),), ["10.0.0.0/8", "2001:db8::/32"], False),
            ((host(1), replace(host(2), local=True)), [], True),
            ((host(1), replace(host(2, "monitoring"), local=True)), [], False),
            ((replace(host(1), data_ip="nowhere"),), [], True),
        ],
    )
    async def test_inside(self, hosts: tuple[HostSite, ...], cidrs: list[str], inside: bool) -> None:
        assert (await vantage_reach(site_of(*hosts), {}, timeout=1, cluster_cidrs=cidrs)).inside is inside

    async def test_the_local_host_is_not_seen_from_outside(self) -> None:
        found = await vantage_reach(
            site_of(replace(host(1), local=True)), {"gpu-01": [22]}, timeout=1, cluster_cidrs=[]
        )
        assert found.outcomes == {}

    async def test_a_host_that_takes_too_long_has_no_outcomes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(vantage, "HOST_SECONDS", 0.0)
        found = await vantage_reach(site_of(host(1)), {"gpu-01": [22]}, timeout=1, cluster_cidrs=[])
        assert found.outcomes == {}
