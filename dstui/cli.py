"""The command line. Parsing, exit codes and wiring; everything else is imported when a command needs it."""

from __future__ import annotations

import argparse
import gc
import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from dstui import __version__
from dstui.model import DstuiError, Lang, UsageError
from dstui.options import Options

if TYPE_CHECKING:
    from dstui.catalogue import Catalogue
    from dstui.engine import Engine, EngineFactory

EXIT_OPEN, EXIT_FAIL, EXIT_UNKNOWN, EXIT_USAGE = 0, 1, 2, 3
EXIT_INTERRUPTED = 130
DEFAULT_INVENTORY = "inventory.yaml"


class _Parser(argparse.ArgumentParser):
    """argparse with dstui's exit code for usage errors: 2 means something else here."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"{self.prog}: {message}\n")


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-i", "--inventory", type=Path, metavar="FILE", help=f"default: ./{DEFAULT_INVENTORY}")
    parser.add_argument("--overlay", type=Path, action="append", default=[], metavar="FILE",
                        help="YAML with own parameters, disabled and added checks; may be repeated")  # fmt: skip
    parser.add_argument("--journal", type=Path, metavar="PATH", help="default: the user's state directory")
    parser.add_argument(
        "--new-run", action="store_true", help="start over instead of going on where the journal stands"
    )
    parser.add_argument("--accept-new-host-keys", action="store_true",
                        help="trust hosts that are not in known_hosts yet (never one whose key changed)")  # fmt: skip
    parser.add_argument("--set", action="append", default=[], metavar="CHECK.PARAM=VALUE", dest="overrides",
                        help="override a threshold for this invocation, e.g. hw.memory.mem_min_gb=512")  # fmt: skip


def _language(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--lang", choices=[lang.value for lang in Lang], help="default: zh where the locale is Chinese")


def _parser(argv: Sequence[str] | None = None) -> _Parser:
    """The whole parser, or that for `argv`: only commands it names get their arguments, as the first frame waits."""
    parser = _Parser(
        prog="dstui",
        description="Bring an LLM deployment on Ray and vLLM to a signed-off production state.",
        epilog="exit codes: 0 gate open, 1 a check failed, 2 none failed but some are unknown, stale or not run, "
        "3 usage or inventory error",
    )
    parser.add_argument("--version", action="version", version=f"dstui {__version__}")
    _common(parser)
    _language(parser)
    parser.add_argument("--no-live", action="store_true", help="probe only when told to: no live strip, no monitor")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    for name, (help_line, add_arguments) in COMMANDS.items():
        command = commands.add_parser(name, help=help_line)
        if argv is None or name in argv:
            add_arguments(command)
    return parser


def _run_arguments(run: argparse.ArgumentParser) -> None:
    _common(run)
    _language(run)
    run.add_argument("--section", action="append", default=[], metavar="S", help="only this section (hw, sw, net …)")
    run.add_argument("--check", action="append", default=[], metavar="ID", help="only this check")
    run.add_argument("--profile", choices=["full", "quick"], default="full")
    run.add_argument("--output", choices=["text", "json"], default="text")
    run.add_argument("--allow-unknown", action="append", default=[], metavar="ID",
                     help="a check whose UNKNOWN does not shut the gate")  # fmt: skip
    run.add_argument("--allow-load", action="append", default=[], metavar="ID",
                     help="let this check load the service or a GPU, or `all` of those that ask first")  # fmt: skip


def _checks_arguments(checks: argparse.ArgumentParser) -> None:
    _language(checks)
    checks.add_argument("--overlay", type=Path, action="append", default=[], metavar="FILE")
    checks.add_argument("--section", action="append", default=[], metavar="S")
    checks.add_argument("--output", choices=["text", "json"], default="text")


def _export_arguments(export: argparse.ArgumentParser) -> None:
    _common(export)
    _language(export)
    export.add_argument("--format", choices=["markdown", "json"], default="markdown")
    export.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="- for standard output")


def _runs_arguments(runs: argparse.ArgumentParser) -> None:
    _common(runs)
    _language(runs)
    runs.add_argument("--output", choices=["text", "json"], default="text")


def _watch_arguments(watch: argparse.ArgumentParser) -> None:
    _common(watch)
    _language(watch)
    watch.add_argument("--interval", type=float, default=1.0, metavar="S", help="seconds between samples, 0.2 to 10")
    watch.add_argument("--output", choices=["text", "json"], default="text")
    watch.add_argument("--record", type=Path, metavar="FILE", help="keep everything, for `dstui replay`")
    watch.add_argument("--seconds", type=float, metavar="N", help="end by itself; default: until ctrl-c")


def _replay_arguments(replay: argparse.ArgumentParser) -> None:
    _language(replay)
    replay.add_argument("recording", type=Path, metavar="FILE")
    replay.add_argument("--speed", type=float, default=1.0, metavar="X", help="0.1 to 100")
    replay.add_argument("--output", choices=["app", "text", "json"], help="default: app on a terminal, else text")


def _ladder_arguments(ladder: argparse.ArgumentParser) -> None:
    _common(ladder)
    _language(ladder)
    add = ladder.add_argument
    add("--levels", type=_counts, metavar="N,N,…", help="users at once; default: 1,50,100,200,500 or the inventory's")
    add("--loop", choices=["closed", "poisson", "constant"], default="closed", help="open loops need --rates")
    add("--rates", type=_rates, default=(), metavar="R,R,…", help="requests/s of an open loop, a stage each")
    add("--window", type=float, metavar="S", help="seconds that are measured (120)")
    add("--ramp", type=float, metavar="S", help="seconds in which the users come (10)")
    add("--warm", type=float, metavar="S", help="seconds that are thrown away then (30)")
    add("--drain", type=float, metavar="S", help="seconds for requests under way to end (60)")
    add("--pause", type=float, metavar="S", help="seconds between two stages (60)")
    add("--think", type=float, metavar="S", help="seconds a user waits between two requests")
    add("--timeout", type=float, metavar="S", help="seconds for a whole answer (300)")
    add("--input-tokens", type=int, metavar="N", help="of a prompt, about (512)")
    add("--output-tokens", type=int, metavar="N", help="of an answer (128)")
    add("--prompts", type=Path, metavar="FILE", help="conversations, ShareGPT-like or OpenAI messages, one a line")
    add("--turns", type=int, default=1, metavar="N", help="requests of a conversation")
    add("--cached", action="store_true", help="let the cache of prefixes help: prompts repeat")
    add("--natural", action="store_true", help="let answers end where they end, without ignore_eos")
    add("--url", metavar="URL", help="instead of endpoints.api")
    add("--model", metavar="NAME", help="instead of model.served_name")
    add("--workers", type=int, default=0, metavar="N", help="default: one for every core, or Ray node")
    add("--engine", default="local", metavar="E", help="local, or ray:HOST to make the load on a Ray cluster's nodes")
    add("--no-single", action="store_true", help="leave out the stages for perf.single-user-latency")
    add("--no-batch", action="store_true", help="leave out the stage for perf.max-batch")
    add("--find-most", action="store_true", help="search the most users within slo.ttft_p95_s")
    add("--calibrate", action="store_true", help="measure what this machine can make, against a built-in server")
    add("--yes", action="store_true", help="make the load without asking")
    add("--output", choices=["text", "json"], default="text")
    add("-o", "--out", type=Path, metavar="FILE", help="the result as JSON")


def _counts(text: str) -> tuple[int, ...]:
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: write numbers of users, such as 1,50,100") from None
    if not found or min(found) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: numbers of users, from 1")
    return found


def _rates(text: str) -> tuple[float, ...]:
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: write requests a second, such as 0.5,1,2") from None
    if not found or not all(0 < rate < 1e6 for rate in found):
        raise argparse.ArgumentTypeError(f"{text!r}: requests a second, above 0")
    return found


def _verify_arguments(verify: argparse.ArgumentParser) -> None:
    _common(verify)
    verify.add_argument("report", type=Path, nargs="?", help="an exported report")


def _init_arguments(init: argparse.ArgumentParser) -> None:
    init.add_argument("--from-ssh-config", type=Path, nargs="?", const=Path("~/.ssh/config"), metavar="FILE")
    init.add_argument("--from-ray", metavar="URL", help="a Ray dashboard, e.g. http://10.0.0.1:8265")
    init.add_argument("--ray-token", metavar="REF", help="env:NAME or file:/path of the dashboard's token")
    init.add_argument("--from-hosts", type=Path, metavar="FILE", help="one host a line, name or name=ip; - for stdin")
    init.add_argument("host", nargs="*", help="hosts, name or name=ip")
    init.add_argument("-o", "--out", type=Path, default=Path(DEFAULT_INVENTORY), metavar="FILE", help="- for stdout")
    init.add_argument("--force", action="store_true", help="overwrite the file")


def _inventory_arguments(inventory: argparse.ArgumentParser) -> None:
    actions = inventory.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=_Parser)
    check = actions.add_parser("check", help="report every fault with file:line:column")
    check.add_argument("-i", "--inventory", type=Path, metavar="FILE")
    check.add_argument("--overlay", type=Path, action="append", default=[], metavar="FILE")


def _sudoers_arguments(sudoers: argparse.ArgumentParser) -> None:
    sudoers.add_argument("user", help="the login user on the hosts")
    sudoers.add_argument("--controller", metavar="IP", help="this machine's address as the hosts see it")


def _demo_arguments(demo: argparse.ArgumentParser) -> None:
    _language(demo)
    demo.add_argument("--hosts", type=int, default=8, metavar="N", help="how many hosts (1 to 64)")
    demo.add_argument("--headless", action="store_true", help="run once and print, like `dstui run`")
    demo.add_argument("--watch", action="store_true", help="stream what the fleet does, like `dstui watch`")
    demo.add_argument("--record", type=Path, metavar="FILE", help="with --watch: keep everything, for `dstui replay`")
    demo.add_argument("--seconds", type=float, metavar="N", help="with --watch: end by itself")
    demo.add_argument("--output", choices=["text", "json"], default="text")


COMMANDS: Mapping[str, tuple[str, Callable[[argparse.ArgumentParser], None]]] = {
    "run": ("run checks without the app; the exit code is the gate", _run_arguments),
    "checks": ("list the catalogue", _checks_arguments),
    "export": ("write the report of what the journal holds", _export_arguments),
    "runs": ("list the runs in the journal", _runs_arguments),
    "watch": ("stream what hosts, Ray and vLLM say", _watch_arguments),
    "replay": ("show a recording of `dstui watch`", _replay_arguments),
    "ladder": ("put the API under rising load, and judge perf.* by it", _ladder_arguments),
    "verify": ("check the journal's hash chain, and a report against it", _verify_arguments),
    "init": ("write a commented starter inventory", _init_arguments),
    "inventory": ("look at the inventory", _inventory_arguments),
    "sudoers": ("print the sudoers file that lets dstui read root-only facts", _sudoers_arguments),
    "demo": ("the app on an embedded fleet of made-up hosts", _demo_arguments),
}


def main(argv: Sequence[str] | None = None) -> int:
    """The `dstui` command. Returns the exit code; a DstuiError becomes its sentence on standard error and 3."""
    given = sys.argv[1:] if argv is None else argv
    arguments = _parser(given).parse_args(given)
    try:
        return _dispatch(arguments)
    except DstuiError as error:
        sys.stderr.write(f"dstui: {error}\n")
        return EXIT_USAGE
    except KeyboardInterrupt:
        sys.stderr.write("\ndstui: interrupted; what had settled is recorded\n")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe went away; there is nobody to tell.
        sys.stderr.close()
        return EXIT_USAGE


def _dispatch(arguments: argparse.Namespace) -> int:
    if arguments.command is None:
        return _app(replace(_options(arguments), live=not arguments.no_live), _lang(arguments))
    if arguments.command == "demo":
        return _demo(arguments)
    if arguments.command in ("watch", "replay"):
        return _stream(arguments)
    if arguments.command == "ladder":
        return _ladder(arguments)
    # The app starts without these: they cost more than its first frame.
    from dstui import headless

    command = arguments.command
    if command == "checks":
        return headless.list_checks(arguments.overlay, arguments.section, _lang(arguments), arguments.output)
    if command == "init":
        return headless.write_starter(arguments)
    if command == "inventory":
        return headless.check_inventory(_inventory(arguments), arguments.overlay)
    if command == "sudoers":
        return headless.print_sudoers(arguments.user, arguments.controller)
    options = _options(arguments)
    if command == "run":
        scope = headless.Scope(
            tuple(arguments.section),
            tuple(arguments.check),
            arguments.profile,
            frozenset(arguments.allow_unknown),
            frozenset(arguments.allow_load),
        )
        return headless.run(options, scope, _lang(arguments), arguments.output)
    if command == "export":
        return headless.export(options, arguments.format, arguments.out, _lang(arguments))
    if command == "runs":
        return headless.list_runs(options, _lang(arguments), arguments.output)
    return headless.verify(options, arguments.report)


def _ladder(arguments: argparse.Namespace) -> int:
    from dstui import ladder_command

    lang = _lang(arguments)
    if arguments.calibrate:
        return ladder_command.calibrate_here(arguments.workers, lang, arguments.output)
    options = _options(arguments)
    if not options.inventory.exists():
        raise UsageError(f"{options.inventory}: no such file. Write one with `dstui init`, or name one with -i.")
    wanted = ladder_command.Wanted(arguments.output, lang, arguments.yes, arguments.out)
    return ladder_command.run(options, ladder_command.options_of(arguments), wanted)


def _stream(arguments: argparse.Namespace) -> int:
    from dstui import watch

    lang = _lang(arguments)
    if arguments.command == "replay":
        output = arguments.output or ("app" if sys.stdin.isatty() and sys.stdout.isatty() else "text")
        if output == "app":
            return _replay_app(arguments.recording, arguments.speed, lang)
        return watch.replay(arguments.recording, speed=arguments.speed, output=output, lang=lang)
    wanted = watch.Wanted(arguments.output, arguments.record, arguments.seconds, lang)
    return watch.watch(_options(arguments), wanted, interval=arguments.interval)


def _replay_app(recording: Path, speed: float, lang: Lang) -> int:
    from dstui.telemetry.feed import ReplayFeed
    from screens.replayapp import show_replay

    return show_replay(ReplayFeed(recording, speed=speed), lang)


def _options(arguments: argparse.Namespace) -> Options:
    return Options(
        inventory=_inventory(arguments),
        overlays=tuple(arguments.overlay),
        journal=arguments.journal,
        new_run=arguments.new_run,
        accept_new_host_keys=arguments.accept_new_host_keys,
        overrides=tuple(arguments.overrides),
    )


def _app(options: Options, lang: Lang) -> int:
    if not options.inventory.exists():
        raise UsageError(
            f"{options.inventory}: no such file. Write one with `dstui init`, name one with -i, "
            "or look around first with `dstui demo`."
        )
    catalogue = _catalogue(options.overlays)

    async def factory() -> Engine:
        import asyncio

        opening = await asyncio.to_thread(importlib.import_module, "dstui.opening")
        engine: Engine = await opening.open_engine(options, catalogue())
        return engine

    return _show(factory, catalogue, lang)


def _catalogue(overlays: tuple[Path, ...]) -> Callable[[], Catalogue]:
    """Reads the catalogue when it is first asked for: the app's first frame does not wait for it."""

    @cache
    def read() -> Catalogue:
        from dstui.catalogue import load_catalogue

        return load_catalogue(overlays)

    return read


def _show(factory: EngineFactory, catalogue: Callable[[], Catalogue], lang: Lang) -> int:
    # Until the checklist stands nothing becomes garbage; looking for it costs a fifth of the start.
    gc.disable()
    try:
        from screens.app import run_app

        return run_app(factory, catalogue, lang)
    finally:
        gc.enable()


def _demo(arguments: argparse.Namespace) -> int:
    if not 1 <= arguments.hosts <= 64:
        raise UsageError(f"--hosts {arguments.hosts}: from 1 to 64")
    from dstui.demo import open_demo

    lang = _lang(arguments)
    if arguments.watch:
        from dstui import watch
        from dstui.demo.watching import watching

        wanted = watch.Wanted(arguments.output, arguments.record, arguments.seconds, lang)
        return watch.watch_opened(watching(arguments.hosts), wanted)
    if arguments.headless:
        from dstui import headless

        return headless.run_engine(lambda: open_demo(arguments.hosts), headless.Scope(), lang, arguments.output)
    return _show(lambda: open_demo(arguments.hosts), _catalogue(()), lang)


def _inventory(arguments: argparse.Namespace) -> Path:
    return arguments.inventory or Path(DEFAULT_INVENTORY)


def _lang(arguments: argparse.Namespace) -> Lang:
    import os

    if arguments.lang:
        return Lang(arguments.lang)
    named = next((os.environ[v] for v in ("LC_ALL", "LC_MESSAGES", "LANG") if os.environ.get(v)), "")
    return Lang.ZH if named.startswith("zh") else Lang.EN


if __name__ == "__main__":
    sys.exit(main())
