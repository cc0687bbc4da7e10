"""Group `cloud`: what the firmware says this machine is: a cloud's instance, a hypervisor's guest, or hardware."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from dstui.facts.case import Group, HostSite, Site
from dstui.facts.raw import Missing, Op, Raw, glob
from dstui.model import Reason

_DMI = ("sys_vendor", "product_name", "product_version", "bios_vendor", "bios_version", "chassis_asset_tag")
_AZURE_TAG = "7783-7084-3265-9085-8269-3286-77"
"""chassis_asset_tag of every Azure instance; Hyper-V on premises has the same vendor and product without it."""


class Machine(StrEnum):
    """What sort of machine DMI describes."""

    CLOUD = "cloud"
    HYPERVISOR = "hypervisor"
    PHYSICAL = "physical"
    UNRECOGNISED = "unrecognised"


@dataclass(frozen=True, slots=True)
class CloudFacts:
    """`provider` is set for CLOUD: a name of `cloud.provider`, or another cloud's own. `dmi` is what could be read."""

    machine: Machine | Missing
    provider: str | None
    dmi: Mapping[str, str] | Missing

    @property
    def model(self) -> str:
        """Vendor and product as the firmware writes them."""
        if isinstance(self.dmi, Missing):
            return ""
        return " ".join(filter(None, (self.dmi.get("sys_vendor"), self.dmi.get("product_name"))))


_CLOUDS: tuple[tuple[str, str, str], ...] = (
    ("sys_vendor", "amazon ec2", "aws"),
    ("bios_version", "amazon", "aws"),
    ("chassis_asset_tag", "amazon ec2", "aws"),
    ("product_name", "google compute engine", "gcp"),
    ("chassis_asset_tag", _AZURE_TAG, "azure"),
    ("sys_vendor", "alibaba cloud", "aliyun"),
    ("product_name", "alibaba cloud", "aliyun"),
    ("sys_vendor", "tencent cloud", "tencent"),
    ("chassis_asset_tag", "huaweicloud", "huawei"),
    ("sys_vendor", "huawei cloud", "huawei"),
    ("sys_vendor", "huaweicloud", "huawei"),
    ("chassis_asset_tag", "oraclecloud.com", "oracle"),
    ("sys_vendor", "digitalocean", "digitalocean"),
    ("sys_vendor", "hetzner", "hetzner"),
    ("sys_vendor", "vultr", "vultr"),
    ("sys_vendor", "scaleway", "scaleway"),
    ("sys_vendor", "ucloud", "ucloud"),
    ("sys_vendor", "baidu", "baidu"),
    ("sys_vendor", "volcengine", "volcengine"),
    ("sys_vendor", "openstack", "openstack"),
    ("product_name", "openstack", "openstack"),
)
"""DMI field, what it contains (lower case), the provider: as cloud-init's ds-identify and vendors' own pages have it.

A private OpenStack has security groups too and counts as a cloud.
"""
_HYPERVISORS = (
    "qemu", "vmware", "xen", "kvm", "red hat", "ovirt", "innotek", "virtualbox", "parallels", "nutanix", "proxmox",
    "bochs", "bhyve", "smartx", "sangfor", "virtual machine",
)  # fmt: skip
_PHYSICAL = (
    "dell", "supermicro", "hpe", "hewlett", "lenovo", "inspur", "ieit", "huawei", "xfusion", "h3c", "sugon", "nvidia",
    "fujitsu", "cisco", "quanta", "qct", "intel", "asus", "gigabyte", "giga computing", "asrock", "tyan", "mitac",
    "wiwynn", "foxconn", "ibm", "zte", "nettrix", "powerleader", "bull", "atos", "penguin", "ingrasys", "celestica",
)  # fmt: skip


def recognise(dmi: Mapping[str, str]) -> tuple[Machine, str | None]:
    """What the firmware's strings say, and the provider of a cloud."""
    fields = {name: value.strip().lower() for name, value in dmi.items()}
    for name, mark, provider in _CLOUDS:
        if mark in fields.get(name, ""):
            return Machine.CLOUD, provider
    maker = f"{fields.get('sys_vendor', '')} {fields.get('product_name', '')}".strip()
    if any(mark in maker for mark in _HYPERVISORS):
        return Machine.HYPERVISOR, None
    if fields.get("sys_vendor", "").startswith(_PHYSICAL):
        return Machine.PHYSICAL, None
    return Machine.UNRECOGNISED, None


def ops(host: HostSite, site: Site) -> tuple[Op, ...]:
    return (glob("cloud.dmi", *(f"/sys/class/dmi/id/{name}" for name in _DMI), each=256),)


def parse(raw: Raw) -> CloudFacts:
    files = raw.files("cloud.dmi")
    if isinstance(files, Missing):
        return CloudFacts(files, None, files)
    dmi = {path.rsplit("/", 1)[-1]: " ".join(value.split()) for path, value in files.items()}
    if not dmi.get("sys_vendor") and not dmi.get("product_name"):
        # Containers, and firmware without SMBIOS.
        return CloudFacts(Missing(Reason.CANNOT_TELL, "the firmware gives no vendor and no product"), None, dmi)
    machine, provider = recognise(dmi)
    return CloudFacts(machine, provider, dmi)


GROUP = Group("cloud", CloudFacts, ops, parse)
