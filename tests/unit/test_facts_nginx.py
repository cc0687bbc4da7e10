"""nginx's configuration out of `nginx -T`, and where it sends a request, by nginx's own rules."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstui.facts.nginx_config import NginxConfig, parse_dump
from dstui.facts.nginx_routes import Place, Server, passed_to, place_of, seconds, server_for, servers, upstream_of
from dstui.facts.raw import Missing
from dstui.model import Reason

DUMP = (Path(__file__).parent.parent / "data" / "lb" / "nginx_T.txt").read_text()


def dump(**files: str) -> str:
    return "".join(f"# configuration file {path}:\n{content}\n\n" for path, content in files.items())


def config(http: str) -> NginxConfig:
    found = parse_dump(dump(**{"/etc/nginx/nginx.conf": f"http {{ {http} }}"}))
    assert isinstance(found, NginxConfig), found
    return found


def server(http: str, host: str = "api.example.com", port: int = 443) -> Server:
    found = server_for(config(http), host, port)
    assert found is not None
    return found


def where(locations: str, path: str) -> str:
    found = place_of(server(f"server {{ listen 443 ssl; {locations} }}"), path)
    assert isinstance(found, Place), found
    return found.label


def test_a_captured_dump() -> None:
    found = parse_dump(DUMP)
    assert isinstance(found, NginxConfig)
    assert found.files == ("/etc/nginx/nginx.conf",)
    front = server_for(found, "llm.dslab.test", 18443)
    assert front is not None
    place = place_of(front, "/v1/chat/completions")
    assert isinstance(place, Place)
    assert (place.label, place.value("proxy_read_timeout")) == ("location /v1/", "600s")
    upstream = upstream_of(found, str(passed_to(place)))
    assert [str(member) for member in upstream.members] == ["127.0.0.1:18000", "127.0.0.1:18001"]
    assert (upstream.algorithm, upstream.zone, upstream.keepalive) == ("least_conn", False, True)


def test_includes_stand_where_they_are_included() -> None:
    found = parse_dump(
        dump(
            **{
                "/etc/nginx/nginx.conf": "http { include mime.types; include sites/*.conf; include none/*; }",
                "/etc/nginx/mime.types": "types { text/html html; }",
                "/etc/nginx/sites/b.conf": "server { server_name b; include /etc/nginx/common; }",
                "/etc/nginx/common": "listen 443 ssl; # no ; here { nor here }",
                "/etc/nginx/sites/a.conf": "server { server_name a; include common; }",
                "/etc/nginx/sites/deeper/c.conf": "server { server_name c; }",
                "/etc/nginx/sites/.hidden.conf": "server { server_name hidden; }",
            }
        )
    )
    assert isinstance(found, NginxConfig)
    assert [each.names for each in servers(found)] == [("a",), ("b",)]
    assert all(each.listens[0].ssl for each in servers(found))
    assert servers(found)[1].directive.where == "/etc/nginx/sites/b.conf:1"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no configuration"),
        ("nginx: the configuration file /etc/nginx/nginx.conf syntax is ok", "no configuration"),
        (dump(**{"/etc/nginx/nginx.conf": "http { server { listen 80;"}), "expecting"),
        (dump(**{"/etc/nginx/nginx.conf": 'http { log_format x "no end; }'}), "expecting"),
        (dump(**{"/etc/nginx/nginx.conf": "http { include gone.conf; }"}), "gone.conf, which is not in the dump"),
        (dump(**{"/a/n.conf": "include b;", "/a/b": "include c;", "/a/c": "include b;"}), "which includes it"),
        (dump(**{"/a/n.conf": "include *;"}), "which includes it"),
        (dump(**{"/a/n.conf": "a { " * 500 + "}" * 500}), "within each other"),
        (dump(**{"/a/n.conf": "a;"}) * 2, "twice"),
    ],
)
def test_what_is_no_whole_configuration(text: str, said: str) -> None:
    found = parse_dump(text)
    assert isinstance(found, Missing)
    assert found.reason is Reason.PARSE_ERROR and said in found.why


def test_quotes_comments_and_several_on_a_line() -> None:
    found = config("""
        log_format x '{"a": "$b"}' ";"; # };
        map $uri $cached { "~^/a{1,2};" 1; default 0; }
        upstream vllm { server 10.0.0.1:8000; } server { listen 443; location /v1/ { proxy_pass http://vllm; } }
    """)
    assert [each.name for each in found.directives[0].block or ()] == ["log_format", "map", "upstream", "server"]
    assert next(found.every("log_format")).args == ("x", '{"a": "$b"}', ";")


@given(st.text(max_size=400))
def test_any_text_is_a_configuration_or_missing(text: str) -> None:
    for given_text in (text, dump(**{"/etc/nginx/nginx.conf": text})):
        assert isinstance(parse_dump(given_text), NginxConfig | Missing)


@given(
    st.lists(st.sampled_from(["{", "}", ";", '"', "'", "\\", "#", "\n", " ", "$", "http", "server", "include", "*"]))
)
def test_any_tokens_are_a_configuration_or_missing(tokens: list[str]) -> None:
    text = " ".join(tokens)
    found = parse_dump(dump(**{"/etc/nginx/nginx.conf": text}))
    assert isinstance(found, NginxConfig | Missing)
    if isinstance(found, NginxConfig):
        front = server_for(found, "a", 80)
        assert front is None or isinstance(place_of(front, "/v1/"), Place | Missing)


@pytest.mark.parametrize(
    ("host", "port", "name"),
    [
        ("api.example.com", 443, "exact"),
        ("x.example.com", 443, "wild"),
        ("a.b.example.com", 443, "wild"),
        ("api.example.org", 443, "tail"),
        ("gpu7.internal", 443, "regex"),
        ("10.0.0.5", 443, "fallback"),
        ("api.example.com", 8443, "other"),
        ("api.example.com", 31443, "exact"),
    ],
)
def test_the_server_for_a_name(host: str, port: int, name: str) -> None:
    http = """
        server { listen 443 ssl; server_name first; add_header x first; }
        server { listen 443 ssl default_server; server_name _; add_header x fallback; }
        server { listen [::]:443 ssl; server_name *.example.com; add_header x wild; }
        server { listen 127.0.0.1:443; server_name api.example.*; add_header x tail; }
        server { listen 443; server_name api.example.com; add_header x exact; }
        server { listen 443; server_name ~^gpu(?<n>[0-9]+)[.]internal$; add_header x regex; }
        server { listen 8443; server_name unrelated; add_header x other; }
    """
    assert server(http, host, port).place.all("add_header")[0].args[1] == name


def test_the_ways_to_say_where_to_listen() -> None:
    http = "server { listen 80; listen [::]:443 ssl; listen [::1]; listen *:8080; listen localhost; listen unix:/x; }"
    ports = [listen.port for listen in servers(config(http))[0].listens]
    assert ports == [80, 443, 80, 8080, 80]
    assert [listen.port for listen in servers(config("server { location / {} }"))[0].listens] == [80]


@pytest.mark.parametrize(
    ("locations", "path", "label"),
    [
        ("location / {} location /v1/ {}", "/v1/models", "location /v1/"),
        ("location /v1/ {} location /v1/chat {} location /v {}", "/v1/chat/completions", "location /v1/chat"),
        ("location = /v1/models {} location /v1/ {}", "/v1/models", "location = /v1/models"),
        ("location /v1/ {} location ~ ^/v1/chat {}", "/v1/chat/completions", "location ~ ^/v1/chat"),
        ("location ^~ /v1/ {} location ~ chat {}", "/v1/chat/completions", "location ^~ /v1/"),
        ("location ~ nothing {} location ~* CHAT {} location ~ chat {}", "/v1/chat", "location ~* CHAT"),
        ("location / { location /v1/ {} }", "/v1/chat", "location /v1/"),
        ("location @x {}", "/v1/chat", "server"),
        ("location /v2/ {}", "/v1/chat", "server"),
    ],
)
def test_the_location_for_a_path(locations: str, path: str, label: str) -> None:
    assert where(locations, path) == label


def test_an_expression_that_is_not_understood_is_no_answer() -> None:
    found = place_of(server(r"server { listen 443; location ~ (?|a|b)++ {} location / {} }"), "/v1/chat")
    assert isinstance(found, Missing) and found.reason is Reason.CANNOT_TELL


def test_what_holds_at_a_place() -> None:
    front = server("""
        proxy_read_timeout 10s; proxy_set_header A 1; client_max_body_size 20m;
        server { listen 443; proxy_read_timeout 20s; proxy_set_header B 2; proxy_pass http://no;
          location /v1/ { proxy_buffering off; } }
    """)
    place = place_of(front, "/v1/x")
    assert isinstance(place, Place)
    assert place.value("proxy_read_timeout") == "20s"
    assert place.value("client_max_body_size") == "20m"
    assert [each.args for each in place.all("proxy_set_header")] == [("B", "2")]
    assert place.own("proxy_pass") is None and passed_to(place) is None


@pytest.mark.parametrize(
    ("inside", "to"),
    [
        ("proxy_pass http://vllm;", "http://vllm"),
        ("proxy_pass http://10.0.0.1:8000/v1/;", "http://10.0.0.1:8000/v1/"),
        ("set $where vllm; proxy_pass http://$where;", "http://vllm"),
        ("proxy_pass http://$host;", None),
        ("proxy_pass $backend;", None),
    ],
)
def test_where_it_is_passed_to(inside: str, to: str | None) -> None:
    place = place_of(server(f"server {{ listen 443; location / {{ {inside} }} }}"), "/")
    assert isinstance(place, Place)
    found = passed_to(place)
    assert (None if isinstance(found, Missing) else found) == to


@pytest.mark.parametrize(
    ("block", "algorithm", "key"),
    [
        ("", "round-robin", ""),
        ("least_conn;", "least_conn", ""),
        ("ip_hash;", "ip_hash", "$remote_addr"),
        ("hash $request_id;", "hash", "$request_id"),
        ("hash $http_x_session consistent;", "hash-consistent", "$http_x_session"),
        ("random;", "random", ""),
        ("random two;", "random two least_conn", ""),
        ("random two least_conn;", "random two least_conn", ""),
        ("least_time header;", "least_time", ""),
        ("sticky cookie srv;", "sticky", ""),
    ],
)
def test_algorithms(block: str, algorithm: str, key: str) -> None:
    members = "server 10.0.0.1:8000 max_fails=0 weight=2; server [fd00::2]:8000 down; server unix:/run/x backup;"
    found = upstream_of(config(f"upstream vllm {{ zone v 64k; {block} {members} keepalive 8; }}"), "http://vllm/v1/")
    assert (found.algorithm, found.key, found.zone, found.keepalive) == (algorithm, key, True, True)
    assert [str(member) for member in found.members] == ["10.0.0.1:8000", "fd00::2:8000", "unix:/run/x"]
    assert [(m.max_fails, m.down, m.backup) for m in found.members] == [("0", 0, 0), ("1", 1, 0), ("1", 0, 1)]


def test_a_server_named_outright_is_an_upstream_of_one() -> None:
    found = upstream_of(config(""), "https://10.0.0.1/v1/")
    assert [(m.host, m.port) for m in found.members] == [("10.0.0.1", 443)]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("600s", 600),
        ("75", 75),
        ("5m", 300),
        ("1h 30m", 5400),
        ("1h30m", 5400),
        ("500ms", 0.5),
        ("x", None),
        ("", None),
    ],
)
def test_times(written: str, value: float | None) -> None:
    assert seconds(written) == value
