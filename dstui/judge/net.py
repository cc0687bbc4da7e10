"""Judges of 网络环境检查 (network environment)."""

from __future__ import annotations

from dstui.judge import net_addresses, net_dns, net_outbound, net_ping, net_ports
from dstui.judge.registry import Judge

JUDGES: tuple[Judge, ...] = (
    net_ping.JUDGE,
    net_outbound.JUDGE,
    net_addresses.JUDGE,
    net_ports.JUDGE,
    net_dns.JUDGE,
)
