"""Commands that need root on a host: the exact argv, what each is for, and how to grant it.

The one list behind the operations, the README's sudoers file and the "grant: …" of an UNKNOWN(permission). Entries are
whole command lines without wildcards: `sshd -T *` would allow `sshd -T -f /etc/shadow`, which prints that file.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from dstui.facts.raw import Answer, Missing, Op, Raw, run
from dstui.facts.untyped import command
from dstui.model import Reason, Text

CONTROLLER = "<controller>"
"""Stands for the controller's address, as a host sees it, in the entry that names one."""

SSHD = ("/usr/sbin/sshd", "-T")
SSHD_AS_ROOT = ("/usr/sbin/sshd", "-T", "-C", f"user=root,host=dstui,addr={CONTROLLER}")
NGINX = ("/usr/sbin/nginx", "-T")
UFW = ("/usr/sbin/ufw", "status", "verbose")
NFT = ("/usr/sbin/nft", "-j", "list", "ruleset")
IPTABLES = ("/usr/sbin/iptables-save",)
IP6TABLES = ("/usr/sbin/ip6tables-save",)
FIREWALLD = ("/usr/bin/firewall-cmd", "--list-all")
DMIDECODE = ("/usr/sbin/dmidecode", "-t", "17")
KERNEL_LOG = ("/usr/bin/journalctl", "-k", "-b", "-o", "short-iso", "--no-pager")
NETPLAN = ("/usr/sbin/netplan", "get")
DOCKER = ("/usr/bin/docker", "version")
EXPORTS = ("/usr/sbin/exportfs", "-v")


@dataclass(frozen=True, slots=True)
class Grant:
    """One command line that the login user should be allowed to run as root, and why dstui wants it."""

    argv: tuple[str, ...]
    purpose: Text


GRANTS: tuple[Grant, ...] = (
    Grant(SSHD, Text("sshd's effective configuration", "sshd 的生效配置")),
    Grant(
        SSHD_AS_ROOT,
        Text(
            "sshd's configuration for root from this controller, Match blocks applied",
            "root 从本控制机登录时的 sshd 配置（含 Match 块）",
        ),
    ),
    Grant(NGINX, Text("nginx's whole configuration", "nginx 的完整配置")),
    Grant(UFW, Text("whether ufw is active and what it denies by default", "ufw 是否启用及其默认策略")),
    Grant(NFT, Text("the packet filter's rules", "内核包过滤规则")),
    Grant(
        IPTABLES,
        Text(
            "iptables rules for IPv4, with conditions that nft does not show",
            "IPv4 的 iptables 规则（含 nft 不显示的条件）",
        ),
    ),
    Grant(IP6TABLES, Text("iptables rules for IPv6", "IPv6 的 iptables 规则")),
    Grant(FIREWALLD, Text("firewalld's default zone", "firewalld 的默认区域")),
    Grant(DMIDECODE, Text("installed memory modules", "已安装的内存条")),
    Grant(
        KERNEL_LOG,
        Text(
            "kernel messages of this boot: GPU Xid, OOM, file systems",
            "本次启动的内核日志：GPU Xid、OOM、文件系统",
        ),
    ),
    Grant(NETPLAN, Text("netplan's configuration of addresses", "netplan 的地址配置")),
    Grant(
        DOCKER, Text("Docker's version, where its socket is closed to the login user", "Docker 版本（套接字不可用时）")
    ),
    Grant(EXPORTS, Text("what a storage host exports, and to whom", "存储主机导出的目录及对象")),
)

_ESCAPED = re.compile(r"[,:=\\]")
_DENIED = re.compile(
    r"password is required|terminal is required|not allowed to (?:execute|run)|may not run sudo|not in the sudoers"
    r"|operation not permitted|permission denied|must be root|need to be root|authorization failed|not authorized"
    r"|no hostkeys available|access denied",
    re.IGNORECASE,
)
_ABSENT = re.compile(r"command not found|no such file or directory", re.IGNORECASE)


def with_controller(argv: tuple[str, ...], controller_ip: str) -> tuple[str, ...]:
    """The command line with the controller's address filled in; ValueError when it is not an IP address."""
    address = str(ipaddress.ip_address(controller_ip))
    return tuple(word.replace(CONTROLLER, address) for word in argv)


def sudoers_file(user: str, controller_ip: str = CONTROLLER) -> str:
    """A file for /etc/sudoers.d: one entry per command; `,`, `:`, `=`, `\\` in arguments escaped as sudoers(5) asks."""
    if controller_ip != CONTROLLER:
        controller_ip = str(ipaddress.ip_address(controller_ip))
    lines = []
    for grant in GRANTS:
        program, *arguments = (word.replace(CONTROLLER, controller_ip) for word in grant.argv)
        escaped = " ".join(_ESCAPED.sub(r"\\\g<0>", word) for word in arguments)
        # A command without arguments would allow any; "" allows none.
        lines.append(f"# {grant.purpose.en}\n{user} ALL=(root) NOPASSWD: {program} {escaped or chr(34) * 2}\n")
    return "".join(lines)


def granted(key: str, argv: tuple[str, ...], *, timeout: float = 10.0, limit: int = 262_144) -> Op:
    """The operation for one of the commands above."""
    return run(key, *argv, timeout=timeout, root=True, limit=limit)


def privileged(raw: Raw, key: str) -> Answer | Missing:
    """What a command that needs root printed when it exited 0; otherwise Missing with what was in the way.

    Missing(permission) names the command to grant, Missing(tool-missing) is a command that is not installed, any other
    failure is Missing(cannot-tell) with the first line of the complaint.
    """
    found = command(raw, key)
    if isinstance(found, Missing) or found.exit == 0:
        return found
    complaint = found.error or found.output
    first = next((line.strip() for line in complaint.splitlines() if line.strip()), "")
    if _DENIED.search(complaint):
        return Missing(Reason.PERMISSION, f"grant: {found.source}")
    if _ABSENT.search(complaint):
        return Missing(Reason.TOOL_MISSING, f"{found.source}: {first}")
    return Missing(Reason.CANNOT_TELL, f"{found.source}: exit {found.exit}" + (f", {first}" if first else ""))
