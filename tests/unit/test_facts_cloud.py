import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstui.facts import cloud
from dstui.facts.cloud import Machine
from dstui.facts.raw import Answer, Missing, Raw
from dstui.model import Reason


@pytest.mark.parametrize(
    ("dmi", "machine", "provider"),
    [
        ({"sys_vendor": "Amazon EC2", "product_name": "p5.48xlarge"}, Machine.CLOUD, "aws"),
        ({"sys_vendor": "Xen", "product_name": "HVM domU", "bios_version": "4.11.amazon"}, Machine.CLOUD, "aws"),
        ({"sys_vendor": "Google", "product_name": "Google Compute Engine"}, Machine.CLOUD, "gcp"),
        (
            {
                "sys_vendor": "Microsoft Corporation",
                "product_name": "Virtual Machine",
                "chassis_asset_tag": "7783-7084-3265-9085-8269-3286-77",
            },
            Machine.CLOUD,
            "azure",
        ),
        ({"sys_vendor": "Microsoft Corporation", "product_name": "Virtual Machine"}, Machine.HYPERVISOR, None),
        ({"sys_vendor": "Alibaba Cloud", "product_name": "Alibaba Cloud ECS"}, Machine.CLOUD, "aliyun"),
        ({"sys_vendor": "Tencent Cloud", "product_name": "CVM"}, Machine.CLOUD, "tencent"),
        (
            {
                "sys_vendor": "OpenStack Foundation",
                "product_name": "OpenStack Nova",
                "chassis_asset_tag": "HUAWEICLOUD",
            },
            Machine.CLOUD,
            "huawei",
        ),
        ({"sys_vendor": "OpenStack Foundation", "product_name": "OpenStack Nova"}, Machine.CLOUD, "openstack"),
        ({"sys_vendor": "Huawei", "product_name": "Atlas 800"}, Machine.PHYSICAL, None),
        ({"sys_vendor": "Huawei Technologies Co., Ltd.", "product_name": "G5500 V6"}, Machine.PHYSICAL, None),
        ({"sys_vendor": "Dell Inc.", "product_name": "PowerEdge XE9680"}, Machine.PHYSICAL, None),
        ({"sys_vendor": "Supermicro", "product_name": "SYS-821GE-TNHR"}, Machine.PHYSICAL, None),
        ({"sys_vendor": "NVIDIA", "product_name": "DGXH100"}, Machine.PHYSICAL, None),
        ({"sys_vendor": "QEMU", "product_name": "Standard PC (Q35 + ICH9, 2009)"}, Machine.HYPERVISOR, None),
        ({"sys_vendor": "VMware, Inc.", "product_name": "VMware7,1"}, Machine.HYPERVISOR, None),
        ({"sys_vendor": "Red Hat", "product_name": "KVM"}, Machine.HYPERVISOR, None),
        ({"sys_vendor": "To Be Filled By O.E.M.", "product_name": "X"}, Machine.UNRECOGNISED, None),
    ],
)
def test_what_the_firmware_says(dmi, machine, provider):
    assert cloud.recognise(dmi) == (machine, provider)


def parse(**answer):
    return cloud.parse(Raw({"cloud.dmi": Answer("cloud.dmi", "/sys/class/dmi/id", **answer)}))


def test_files_of_a_host():
    found = parse(value={"/sys/class/dmi/id/sys_vendor": "Dell Inc.\n", "/sys/class/dmi/id/product_name": "R760xa\n"})
    assert (found.machine, found.provider, found.model) == (Machine.PHYSICAL, None, "Dell Inc. R760xa")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"value": {}}, Reason.CANNOT_TELL),
        ({"value": {"/sys/class/dmi/id/sys_vendor": " \n"}}, Reason.CANNOT_TELL),
        ({"value": "text"}, Reason.PARSE_ERROR),
        ({"missing": Missing(Reason.PERMISSION, "EACCES")}, Reason.PERMISSION),
    ],
)
def test_firmware_that_says_nothing_is_not_hardware(answer, reason):
    found = parse(**answer)
    assert isinstance(found.machine, Missing)
    assert found.machine.reason is reason
    assert found.provider is None


@given(st.dictionaries(st.sampled_from(["sys_vendor", "product_name", "chassis_asset_tag", "bios_version"]), st.text()))
def test_any_strings_are_some_machine(dmi):
    machine, provider = cloud.recognise(dmi)
    assert (machine is Machine.CLOUD) is (provider is not None)
