"""Draws docs/checklist.svg: the embedded fleet after a run, with the cursor on a check that failed.

    python docs/picture.py [FILE]
"""

from __future__ import annotations

import asyncio
import html
import os
import re
import sys
import time
from pathlib import Path

from rich.cells import cell_len
from textual.pilot import Pilot

from dstui.catalogue import load_catalogue
from dstui.demo import open_demo
from dstui.model import Lang
from screens.app import DstuiApp
from screens.checklist import ChecklistScreen

CHECK = "sw.nvidia-driver"
HOSTS = 8
SIZE = (120, 40)
DEADLINE = 180.0
FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"

TEXT = re.compile(
    r'<text class="(?P<kind>[^"]*)" x="(?P<x>[\d.]+)" y="(?P<y>[\d.]+)" textLength="(?P<length>[\d.]+)" '
    r"(?P<rest>[^>]*)>(?P<said>[^<]*)</text>"
)


async def draw() -> str:
    """The screen as SVG."""
    app = DstuiApp(lambda: open_demo(HOSTS), load_catalogue, lang=Lang.EN)
    async with app.run_test(size=SIZE) as pilot:
        while not app.opened:
            await pilot.pause(0.05)
        await pilot.press("R")
        await _run_ended(app, pilot)
        home = app.screen
        assert isinstance(home, ChecklistScreen)
        home.reveal(CHECK)
        await pilot.pause(0.5)
        return app.export_screenshot(title="dstui demo")


async def _run_ended(app: DstuiApp, pilot: Pilot[str]) -> None:
    until = time.monotonic() + DEADLINE
    while app.moment.last_run is None or app.moment.last_run.finished_at is None:
        if time.monotonic() > until:
            raise SystemExit(f"picture: the run has not ended within {DEADLINE:.0f} s")
        await pilot.pause(0.2)


def portable(svg: str) -> str:
    """The picture as every viewer shows it: fonts the reader has, nothing fetched, no text that begins with spaces."""
    svg = re.sub(r"@font-face\s*\{.*?\}\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font-family:\s*Fira Code[^;]*;", f"font-family: {FONTS};", svg)
    svg = TEXT.sub(_without_margin, svg)
    return "\n".join(line.rstrip() for line in svg.splitlines() if line.strip()) + "\n"


def _without_margin(text: re.Match[str]) -> str:
    """Some viewers drop spaces at the edge of a text, and what follows slides over: its place is said in numbers."""
    said = html.unescape(text["said"]).replace("\xa0", " ")
    bare = said.strip()
    if not bare:
        return ""
    cell = float(text["length"]) / cell_len(said)
    x = float(text["x"]) + cell * (len(said) - len(said.lstrip()))
    inside = html.escape(bare, quote=False).replace(" ", "&#160;")
    return (
        f'<text class="{text["kind"]}" x="{x:.1f}" y="{text["y"]}" '
        f'textLength="{cell * cell_len(bare):.1f}" {text["rest"]}>{inside}</text>'
    )


def main() -> None:
    os.environ.update(TZ="UTC", LOGNAME="zhang.wei")
    os.environ.pop("SUDO_USER", None)
    time.tzset()
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("checklist.svg")
    path.write_text(portable(asyncio.run(draw())), encoding="utf-8")


if __name__ == "__main__":
    main()
