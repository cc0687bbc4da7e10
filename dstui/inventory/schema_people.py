"""What people keep: backups, update and audit policy, documents, procedures, the team and who may sign."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from dstui.inventory.schema_types import (
    AbsolutePath,
    Argv,
    AtLeastOne,
    Block,
    Count,
    DailyTime,
    Day,
    MonthlyTime,
    Name,
    Person,
    Positive,
    QuarterlyTime,
    TextValue,
    Url,
    UseReference,
    WeeklyTime,
)


class BackupSet(Block):
    """One set of backups: where it lies, how old it may be (hours), how to restore and verify it in a scratch place."""

    name: Name
    path_glob: AbsolutePath | None = None
    list_cmd: Argv | None = None
    max_age_h: Positive | None = None
    verify: Literal["sha256", "sqlite", "json", "yaml", "nginx", "files"] | None = None
    restore_cmd: Argv | None = None


class Backup(Block):
    sets: tuple[BackupSet, ...] = ()
    scratch: AbsolutePath = "/var/tmp/dstui-restore"  # noqa: S108 - the catalogue's default, made by the rehearsal


class Security(Block):
    """The update policy and what logs may hold."""

    update_mechanism: Literal["unattended-upgrades", "landscape", "ansible", "manual-window"] | None = None
    hold: tuple[TextValue, ...] | None = None
    prompt_logging_allowed: bool | None = None
    secret_files: tuple[AbsolutePath, ...] | None = None
    log_globs: tuple[AbsolutePath, ...] | None = None
    advisory_source: TextValue | None = None
    tls_internal_required: bool | None = None


class Audit(Block):
    """The latest audit report and how old it may be (days)."""

    report: TextValue | None = None
    max_age_d: AtLeastOne | None = None
    frameworks: tuple[TextValue, ...] | None = None


class Artefact(Block):
    """A document: a file (relative to the inventory), a git path or a URL, and the person who answers for it."""

    ref: TextValue
    owner: Person
    auth_ref: UseReference | None = None


class Docs(Block):
    architecture: Artefact | None = None
    deployment: Artefact | None = None
    config: Artefact | None = None
    troubleshooting: Artefact | None = None
    api: Artefact | None = None
    raci: Artefact | None = None
    escalation: Artefact | None = None


class Ops(Block):
    maintenance: Artefact | None = None
    upgrade: Artefact | None = None
    backup: Artefact | None = None
    incident: Artefact | None = None
    tuning: Artefact | None = None


class Member(Block):
    """One person of the team; the contact is personal and therefore a reference."""

    id: Person
    contact_ref: UseReference | None = None
    trained_on: Day | None = None
    on_call: bool = False


class TeamRoles(Block):
    """The one accountable person for each."""

    service_owner: Person | None = None
    platform: Person | None = None
    network: Person | None = None
    storage: Person | None = None
    security: Person | None = None
    model: Person | None = None


class Team(Block):
    members: tuple[Member, ...] = ()
    roles: TeamRoles = Field(default_factory=TeamRoles)


class OnCall(Block):
    source: Literal["ics", "pagerduty", "opsgenie", "grafana-oncall", "file"] | None = None
    ref: TextValue | None = None
    token_ref: UseReference | None = None
    coverage_days: AtLeastOne | None = None
    min_people: AtLeastOne | None = None


class VendorContract(Block):
    vendor: TextValue
    id: TextValue
    valid_to: Day | None = None


class Support(Block):
    portal_url: Url | None = None
    email: TextValue | None = None
    hours: TextValue | None = None
    vendor_contracts: tuple[VendorContract, ...] = ()


class EscalationLevel(Block):
    """`who` is a member's id, or `on-call`; `after_min` counts from the alert."""

    level: AtLeastOne
    after_min: Count
    who: Person
    contact_ref: UseReference | None = None


class Sign(Block):
    """Rules for signatures. `second_person` lists checks (`hw.memory`) or sections (`sec`, `sec.*`) that need two."""

    identity_changeable: bool = False
    second_person: tuple[TextValue, ...] = ()


class Schedule(Block):
    """When recurring checks are due, in the cluster's time zone."""

    daily: DailyTime = "08:30"
    weekly: WeeklyTime = "Mon 09:00"
    monthly: MonthlyTime = "1 09:30"
    quarterly: QuarterlyTime = "Q+5 10:00"
