"""Shared storage: every host writes a nonce, every host reads all of them back (CATALOGUE 019)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dstui.facts.case import HostSite, Site
from dstui.facts.choreography import NonceMatrix, NonceRead, NonceWrite
from dstui.facts.raw import Missing
from dstui.gather.company import Company, cleaned
from dstui.gather.link import HostLink
from dstui.gather.wording import clean
from dstui.model import Reason

_WRITE_SECONDS = 25.0


async def nonce_matrix(
    site: Site,
    links: Mapping[str, HostLink],
    missing: Mapping[str, Missing],
    *,
    directory: str,
    run: str,
    as_user: str | None,
    within: float,
) -> NonceMatrix:
    """Every Ray host writes a file in `directory`/`run`, every one reads all of them.

    `run` is 32 random hexadecimal digits; a file that is not visible after `within` seconds is absent. Files are
    removed also when the caller is cancelled, and by the hosts themselves when the connection goes.
    """
    company = Company.of(site, links, missing)
    place = {"dir": directory, "run": run}
    took_part = company.present
    writes: dict[str, NonceWrite] = {}
    digests: dict[str, str] = {}

    async def write(host: HostSite) -> None:
        answer = await company.ask(host.name, "nonce-write", _WRITE_SECONDS, name=host.name, as_user=as_user, **place)
        if answer is None:
            return
        digest = answer.get("sha256")
        written = answer.get("written") is True and isinstance(digest, str)
        writes[host.name] = NonceWrite(
            host.name,
            written,
            "" if written else clean(str(answer.get("error") or "no reason given")),
            clean(str(answer.get("as_user") or "")),
            _seconds(answer.get("ms")),
            int(_seconds(answer.get("leftovers"))),
        )
        if written:
            digests[host.name] = str(digest)

    async def read(host: HostSite) -> list[NonceRead]:
        answer = await company.ask(
            host.name, "nonce-read", within + _WRITE_SECONDS, sha256=digests, within=within, **place
        )
        rows = answer.get("reads") if answer is not None else None
        if answer is not None and not (isinstance(rows, dict) and set(digests) <= set(rows)):
            company.hole(host.name, Reason.PARSE_ERROR, "did not answer for every file it was asked to read")
        return _reads(host.name, digests, rows)

    async def remove(host: HostSite) -> None:
        await company.tidy(host.name, "nonce-clean", name=host.name, **place)

    reads: list[NonceRead] = []
    try:
        await company.each(took_part, write)
        if digests:
            for found in await company.each(company.present, read):
                reads.extend(found)
    finally:
        await cleaned(company.each(took_part, remove))
    return NonceMatrix(
        run=run,
        path=directory,
        writes=tuple(writes[name] for name in sorted(writes)),
        reads=tuple(reads),
        missing=company.missing,
    )


def _reads(reader: str, writers: Iterable[str], rows: object) -> list[NonceRead]:
    found = []
    for writer in sorted(writers):
        row = rows.get(writer) if isinstance(rows, dict) else None
        if isinstance(row, list) and len(row) == 3 and row[0] in ("match", "mismatch", "absent", "error"):
            found.append(NonceRead(reader, writer, row[0], clean(str(row[1] or "")), _seconds(row[2])))
    return found


def _seconds(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
