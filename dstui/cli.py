"""The command line. Parsing, exit codes and wiring; everything else is imported when a command needs it."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
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


def _parser() -> _Parser:
    parser = _Parser(
        prog="dstui",
        description="Bring an LLM deployment on Ray and vLLM to a signed-off production state.",
        epilog="exit codes: 0 gate open, 1 a check failed, 2 none failed but some are unknown, stale or not run, "
        "3 usage or inventory error",
    )
    parser.add_argument("--version", action="version", version=f"dstui {__version__}")
    _common(parser)
    _language(parser)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)

    run = commands.add_parser("run", help="run checks without the app; the exit code is the gate")
    _common(run)
    _language(run)
    run.add_argument("--section", action="append", default=[], metavar="S", help="only this section (hw, sw, net …)")
    run.add_argument("--check", action="append", default=[], metavar="ID", help="only this check")
    run.add_argument("--profile", choices=["full", "quick"], default="full")
    run.add_argument("--output", choices=["text", "json"], default="text")
    run.add_argument("--allow-unknown", action="append", default=[], metavar="ID",
                     help="a check whose UNKNOWN does not shut the gate")  # fmt: skip

    checks = commands.add_parser("checks", help="list the catalogue")
    _language(checks)
    checks.add_argument("--overlay", type=Path, action="append", default=[], metavar="FILE")
    checks.add_argument("--section", action="append", default=[], metavar="S")
    checks.add_argument("--output", choices=["text", "json"], default="text")

    export = commands.add_parser("export", help="write the report of what the journal holds")
    _common(export)
    _language(export)
    export.add_argument("--format", choices=["markdown", "json"], default="markdown")
    export.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="- for standard output")

    runs = commands.add_parser("runs", help="list the runs in the journal")
    _common(runs)
    _language(runs)
    runs.add_argument("--output", choices=["text", "json"], default="text")

    verify = commands.add_parser("verify", help="check the journal's hash chain, and a report against it")
    _common(verify)
    verify.add_argument("report", type=Path, nargs="?", help="an exported report")

    init = commands.add_parser("init", help="write a commented starter inventory")
    init.add_argument("--from-ssh-config", type=Path, nargs="?", const=Path("~/.ssh/config"), metavar="FILE")
    init.add_argument("--from-ray", metavar="URL", help="a Ray dashboard, e.g. http://10.0.0.1:8265")
    init.add_argument("--ray-token", metavar="REF", help="env:NAME or file:/path of the dashboard's token")
    init.add_argument("--from-hosts", type=Path, metavar="FILE", help="one host a line, name or name=ip; - for stdin")
    init.add_argument("host", nargs="*", help="hosts, name or name=ip")
    init.add_argument("-o", "--out", type=Path, default=Path(DEFAULT_INVENTORY), metavar="FILE", help="- for stdout")
    init.add_argument("--force", action="store_true", help="overwrite the file")

    inventory = commands.add_parser("inventory", help="look at the inventory")
    actions = inventory.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=_Parser)
    check = actions.add_parser("check", help="report every fault with file:line:column")
    check.add_argument("-i", "--inventory", type=Path, metavar="FILE")
    check.add_argument("--overlay", type=Path, action="append", default=[], metavar="FILE")

    sudoers = commands.add_parser("sudoers", help="print the sudoers file that lets dstui read root-only facts")
    sudoers.add_argument("user", help="the login user on the hosts")
    sudoers.add_argument("--controller", metavar="IP", help="this machine's address as the hosts see it")

    demo = commands.add_parser("demo", help="the app on an embedded fleet of made-up hosts")
    _language(demo)
    demo.add_argument("--hosts", type=int, default=8, metavar="N", help="how many hosts (1 to 64)")
    demo.add_argument("--headless", action="store_true", help="run once and print, like `dstui run`")
    demo.add_argument("--output", choices=["text", "json"], default="text")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The `dstui` command. Returns the exit code; a DstuiError becomes its sentence on standard error and 3."""
    arguments = _parser().parse_args(argv)
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
        return _app(_options(arguments), _lang(arguments))
    if arguments.command == "demo":
        return _demo(arguments)
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
            tuple(arguments.section), tuple(arguments.check), arguments.profile, frozenset(arguments.allow_unknown)
        )
        return headless.run(options, scope, _lang(arguments), arguments.output)
    if command == "export":
        return headless.export(options, arguments.format, arguments.out, _lang(arguments))
    if command == "runs":
        return headless.list_runs(options, _lang(arguments), arguments.output)
    return headless.verify(options, arguments.report)


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
    from dstui.catalogue import load_catalogue

    if not options.inventory.exists():
        raise UsageError(
            f"{options.inventory}: no such file. Write one with `dstui init`, name one with -i, "
            "or look around first with `dstui demo`."
        )
    catalogue = load_catalogue(options.overlays)

    async def factory() -> Engine:
        import asyncio

        opening = await asyncio.to_thread(importlib.import_module, "dstui.opening")
        engine: Engine = await opening.open_engine(options, catalogue)
        return engine

    return _show(factory, catalogue, lang)


def _show(factory: EngineFactory, catalogue: Catalogue, lang: Lang) -> int:
    from screens.app import run_app

    return run_app(factory, catalogue, lang)


def _demo(arguments: argparse.Namespace) -> int:
    from dstui import headless
    from dstui.catalogue import load_catalogue
    from dstui.demo import open_demo

    if not 1 <= arguments.hosts <= 64:
        raise UsageError(f"--hosts {arguments.hosts}: from 1 to 64")
    lang = _lang(arguments)
    if arguments.headless:
        return headless.run_engine(lambda: open_demo(arguments.hosts), headless.Scope(), lang, arguments.output)
    return _show(lambda: open_demo(arguments.hosts), load_catalogue(), lang)


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
