"""The operating system of a host: release, units, processes, sshd, firewall, exporters, logs."""

from __future__ import annotations

from collections.abc import Mapping

from dstui.demo import gpus, nginx, processes, storage
from dstui.demo.cast import Character
from dstui.demo.commands import Ran, Tool, choosing
from dstui.demo.life import Work
from dstui.demo.network import DATA_NET, MGMT_NET
from dstui.demo.nginx import Proxy
from dstui.demo.tree import LOGIN_UID, Entries, Entry, folder

LOGIN = "dstui"
HOME = f"/home/{LOGIN}"
KERNEL = "6.8.0-60-generic"
_UPTIME_SECONDS = 1_209_600.37
_STARTED_US = 41_000_000
_EXPORTERS = {"node_exporter": "1.8.2", "dcgm-exporter": "4.2.3-4.1.3"}


def files(host: Character, authorized_key: str) -> Entries:
    release = (
        'PRETTY_NAME="Ubuntu 24.04.2 LTS"\nNAME="Ubuntu"\nVERSION_ID="24.04"\n'
        'VERSION="24.04.2 LTS (Noble Numbat)"\nVERSION_CODENAME=noble\nID=ubuntu\nID_LIKE=debian\n'
    )
    dmi = {
        "sys_vendor": "NVIDIA", "product_name": "DGXH100", "product_version": "V2.0", "board_vendor": "NVIDIA",
        "bios_vendor": "NVIDIA", "bios_version": "1.06.07", "chassis_asset_tag": f"DC2-{host.number:03d}",
    }  # fmt: skip
    entries: dict[str, Entry | str] = {
        "/etc/os-release": release,
        "/usr/lib/os-release": release,
        "/proc/uptime": f"{_UPTIME_SECONDS} 9999999.99\n",
        **{f"/sys/class/dmi/id/{name}": f"{value}\n" for name, value in dmi.items()},
        **{f"/proc/{pid}/comm": f"{name[:15]}\n" for pid, name in _processes(host)},
        "/etc/default/ufw": 'IPV6=yes\nDEFAULT_INPUT_POLICY="DROP"\n',
    }
    return entries | _sshd(host, authorized_key) | _logs()


def _processes(host: Character) -> list[tuple[int, str]]:
    names = [
        "systemd", "systemd-journal", "chronyd", "rsyslogd", "sshd", "containerd", "dockerd", "nvidia-persistenced",
        "nv-fabricmanager", *_EXPORTERS, *_log_shippers(host),
    ]  # fmt: skip
    return [(1 if n == 0 else 1_300 + 31 * n, name) for n, name in enumerate(names)]


def _log_shippers(host: Character) -> tuple[str, ...]:
    return ("promtail",) if host.traits.log_shipper else ()


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _sshd(host: Character, authorized_key: str) -> dict[str, Entry | str]:
    passwords = _yes(host.traits.passwords)
    hardening = (
        f"PermitRootLogin {'prohibit-password' if host.traits.root_login else 'no'}\n"
        f"PasswordAuthentication {passwords}\nKbdInteractiveAuthentication no\nPermitEmptyPasswords no\n"
    )
    return {
        "/etc/ssh/sshd_config": "Include /etc/ssh/sshd_config.d/*.conf\nUsePAM yes\nX11Forwarding no\nPrintMotd no\n"
        "AcceptEnv LANG LC_*\nSubsystem sftp /usr/lib/openssh/sftp-server\n",
        "/etc/ssh/sshd_config.d/60-hardening.conf": hardening,
        HOME: folder(0o750, LOGIN_UID, LOGIN_UID),
        f"{HOME}/.ssh": folder(0o700, LOGIN_UID, LOGIN_UID),
        f"{HOME}/.ssh/authorized_keys": Entry(authorized_key, None, 0o100600, LOGIN_UID, LOGIN_UID),
    }


def _logs() -> dict[str, Entry | str]:
    return {
        "/var/log/journal": folder(0o755),
        "/etc/systemd/journald.conf": "[Journal]\nSystemMaxUse=4G\n",
        "/etc/rsyslog.conf": 'module(load="imuxsock")\n*.info /var/log/syslog\n',
        "/etc/logrotate.conf": "weekly\nrotate 4\ninclude /etc/logrotate.d\n",
        "/etc/logrotate.d/rsyslog": "/var/log/syslog\n/var/log/auth.log\n{\n\trotate 4\n\tweekly\n\tcompress\n}\n",
    }


def _units(host: Character, work: Work, proxy: Proxy | None) -> dict[str, dict[str, str]]:
    running = ("docker", *_EXPORTERS, "rsyslog", *_log_shippers(host))
    started = {
        f"{name}.service": {
            "ActiveState": "active",
            "SubState": "running",
            "UnitFileState": "enabled",
            "NRestarts": "0",
            "ActiveEnterTimestampMonotonic": str(_STARTED_US),
        }
        for name in running
    }
    state = "active" if host.traits.firewall else "inactive"
    ufw = {"ActiveState": state, "SubState": "exited", "UnitFileState": "enabled"}
    balancing = {} if proxy is None else nginx.units()
    return {**started, "ufw.service": ufw, **storage.units(host), **processes.units(host, work), **balancing}


def _systemctl(units: Mapping[str, Mapping[str, str]]) -> Tool:
    """`show -p NAMES UNIT…` and `is-active UNIT`; a unit that does not exist has empty properties."""
    absent = {"ActiveState": "inactive", "SubState": "dead", "UnitFileState": "", "FragmentPath": "", "NRestarts": "0",
              "ActiveEnterTimestampMonotonic": "0"}  # fmt: skip

    def tool(arguments: tuple[str, ...]) -> Ran:
        words = [word for word in arguments if word not in ("--no-pager", "--")]
        if words[:1] == ["is-active"]:
            state = units.get(f"{words[-1].removesuffix('.service')}.service", absent)["ActiveState"]
            return Ran(f"{state}\n", exit=0 if state == "active" else 3)
        if words[:2] != ["show", "-p"] or len(words) < 4:
            return Ran(error="Unknown command verb.\n", exit=1)
        asked = words[2].split(",")
        blocks = []
        for name in words[3:]:
            found = "loaded" if name in units else "not-found"
            told = {**absent, **units.get(name, {}), "Id": name, "LoadState": found}
            blocks.append("".join(f"{key}={told[key]}\n" for key in asked if key in told))
        return Ran("\n".join(blocks), seconds=0.04)

    return tool


def _iptables(host: Character, *, six: bool) -> str:
    prefix = "ufw6" if six else "ufw"
    allowed = "" if six else "".join(f"-A ufw-user-input -s {net} -j ACCEPT\n" for net in (DATA_NET, MGMT_NET))
    ufw = (
        f"*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n:{prefix}-before-input - [0:0]\n"
        f":{prefix}-user-input - [0:0]\n-A INPUT -j {prefix}-before-input\n-A {prefix}-before-input -i lo -j ACCEPT\n"
        f"-A {prefix}-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n"
        f"-A {prefix}-before-input -m conntrack --ctstate INVALID -j DROP\n"
        f"-A {prefix}-before-input -j {prefix}-user-input\n"
        f"-A {prefix}-user-input -p tcp -m tcp --dport 22 -j ACCEPT\n{allowed}COMMIT\n"
    )
    wide_open = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n"
    docker = (
        "*nat\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n"
        ":DOCKER - [0:0]\n-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n"
        "-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE\n-A DOCKER -i docker0 -j RETURN\nCOMMIT\n"
    )
    name = "ip6tables-save" if six else "iptables-save"
    filters = ufw if host.traits.firewall else wide_open
    return f"# Generated by {name} v1.8.10 (nf_tables)\n{filters}{'' if six else docker}"


def _ufw(host: Character) -> str:
    if not host.traits.firewall:
        return "Status: inactive\n"
    rules = "".join(f"Anywhere                   ALLOW IN    {net}\n" for net in (DATA_NET, MGMT_NET))
    return (
        "Status: active\nLogging: on (low)\nDefault: deny (incoming), allow (outgoing), deny (routed)\n\n"
        "To                         Action      From\n--                         ------      ----\n"
        f"22/tcp                     ALLOW IN    Anywhere\n{rules}"
        "22/tcp (v6)                ALLOW IN    Anywhere (v6)\n"
    )


def _sshd_effective(host: Character) -> str:
    values = {
        "port": "22", "usepam": "yes", "maxauthtries": "6",
        "permitrootlogin": "without-password" if host.traits.root_login else "no", "pubkeyauthentication": "yes",
        "passwordauthentication": _yes(host.traits.passwords), "kbdinteractiveauthentication": "no",
        "x11forwarding": "no", "strictmodes": "yes", "permitemptypasswords": "no", "usedns": "no",
        "authorizedkeysfile": ".ssh/authorized_keys .ssh/authorized_keys2", "authenticationmethods": "any",
    }  # fmt: skip
    return "".join(f"{name} {value}\n" for name, value in values.items())


def tools(host: Character, work: Work, proxy: Proxy | None) -> dict[str, Tool]:
    disk_use = Ran(
        "2816420\t/var/log\n",
        "du: cannot access '/tmp/ray/session_latest/logs': No such file or directory\n",
        exit=1,
        seconds=0.09,
    )
    return {
        "systemctl": _systemctl(_units(host, work, proxy)),
        "sshd": choosing({"-T": Ran(_sshd_effective(host), seconds=0.03)}),
        "ufw": choosing({"status verbose": Ran(_ufw(host), seconds=0.24)}),
        "iptables-save": choosing({"": Ran(_iptables(host, six=False))}),
        "ip6tables-save": choosing({"": Ran(_iptables(host, six=True))}),
        "du": choosing({"-sxk": disk_use}),
    }


def metrics(host: Character, port: int) -> str | None:
    """What the exporter on a port of 127.0.0.1 answers; None when nothing listens there."""
    if port == 9100:
        return _node_metrics(host)
    return _gpu_metrics(host) if port == 9400 else None


def _node_metrics(host: Character) -> str:
    total = float(host.traits.memory_gib * (1 << 30))
    return (
        "# HELP node_exporter_build_info A metric with a constant '1' value labeled by version.\n"
        "# TYPE node_exporter_build_info gauge\n"
        f'node_exporter_build_info{{branch="HEAD",goversion="go1.22.5",version="{_EXPORTERS["node_exporter"]}"}} 1\n'
        "# TYPE node_load1 gauge\nnode_load1 1.42\n"
        f"# TYPE node_memory_MemTotal_bytes gauge\nnode_memory_MemTotal_bytes {total:e}\n"
        f"# TYPE node_memory_MemAvailable_bytes gauge\nnode_memory_MemAvailable_bytes {total * 0.95:e}\n"
        "# TYPE node_timex_sync_status gauge\nnode_timex_sync_status 1\n"
        f'node_uname_info{{machine="x86_64",nodename="{host.name}",release="{KERNEL}",sysname="Linux"}} 1\n'
    )


def _gpu_metrics(host: Character) -> str:
    lines = []
    for family, value in (("SM_CLOCK", 345), ("GPU_TEMP", 31), ("POWER_USAGE", 71), ("GPU_UTIL", 0), ("FB_USED", 523)):
        lines.append(f"# TYPE DCGM_FI_DEV_{family} gauge\n")
        lines += [
            f'DCGM_FI_DEV_{family}{{gpu="{n}",UUID="{gpus.serial(host, n)}",device="nvidia{n}",'
            f'modelName="{gpus.NAME}",Hostname="{host.name}"}} {value}\n'
            for n in range(host.traits.gpus_answering)
        ]
    return "".join(lines)
