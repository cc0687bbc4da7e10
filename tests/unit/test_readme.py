"""The README says what the program does today."""

import re
from pathlib import Path

from dstui.cli import _parser
from dstui.facts.sudoers import sudoers_file

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")


def test_the_sudoers_lines_are_the_programs_own() -> None:
    assert sudoers_file("dstui", "192.0.2.1").strip() in README


def test_every_command_it_names_exists() -> None:
    actions = next(a for a in _parser()._actions if a.dest == "command")
    assert actions.choices is not None
    named = set(re.findall(r"`?dstui ([a-z]+)", README)) - {"is", "does", "into"}
    assert named <= set(actions.choices), named - set(actions.choices)


def test_every_flag_it_names_exists() -> None:
    actions = next(a for a in _parser()._actions if a.dest == "command")
    assert isinstance(actions.choices, dict)
    parsers = [_parser(), *actions.choices.values()]
    known = {flag for parser in parsers for a in parser._actions for flag in a.option_strings}
    prose = README.replace(sudoers_file("dstui", "192.0.2.1").strip(), "")
    assert set(re.findall(r"--[a-z][a-z-]+", prose)) - known == {"--peers"}


def test_the_exit_codes_are_the_programs_own() -> None:
    from dstui import cli

    rows = re.findall(r"^\| (\d) \| (.*?) \|$", README, re.MULTILINE)
    assert [int(code) for code, _ in rows] == [cli.EXIT_OPEN, cli.EXIT_FAIL, cli.EXIT_UNKNOWN, cli.EXIT_USAGE]
