"""Judges of the section 安全配置检查 (`hard.*`)."""

from __future__ import annotations

from dstui.judge import hard_agents, hard_cloud, hard_firewall, hard_ssh_keys, hard_ssh_root
from dstui.judge.registry import Judge

JUDGES: tuple[Judge, ...] = (
    *hard_ssh_root.JUDGES,
    *hard_ssh_keys.JUDGES,
    *hard_firewall.JUDGES,
    *hard_cloud.JUDGES,
    *hard_agents.JUDGES,
)
