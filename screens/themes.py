"""The colours: dark and calm, so that the few things that need a person stand out."""

from __future__ import annotations

from textual.theme import Theme

NIGHT = Theme(
    name="dstui",
    primary="#6cb6ff",
    secondary="#9fb8d0",
    accent="#d2a8ff",
    success="#57c785",
    warning="#e3b341",
    error="#ff7b72",
    foreground="#d7dde4",
    background="#0f1419",
    surface="#1d2630",
    panel="#161d25",
    dark=True,
    variables={
        "border-blurred": "#33404d",
        "block-cursor-foreground": "#0f1419",
        "text-muted": "#8a98a6",
        "input-cursor-background": "#d7dde4",
    },
)
