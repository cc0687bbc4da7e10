"""model.test-cases: has the team written down what the model must be able to answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from dstui.facts.case import FleetCase
from dstui.facts.model_cases import ModelCases
from dstui.facts.raw import Missing
from dstui.judge.fleet import listed
from dstui.judge.registry import FleetJudge
from dstui.judge.rulings import Causes, quoted, unknown
from dstui.model import Ruling, Target, TargetKind, Text, same

DOMAIN = "domain"
_SHOWN_FAULTS = 8
_PASSED = Text("every category has a case, and the team wrote its own", "每类都有用例，且有团队自写的用例")


def judge(case: FleetCase) -> Sequence[Ruling]:
    least = case.params.count("min_cases")
    expected = Text(f"at least {least} cases in every category wanted", f"至少 {least} 个用例，覆盖所有必需类别")
    target = Target(TargetKind.CONTROLLER, case.site.name)
    found = case.get(ModelCases)
    if isinstance(found, Missing):
        return [unknown(target, found, expected)]
    causes = Causes(target, expected)
    if found.missing is not None:
        causes.missing(found.missing, same(quoted(found.pattern, 100)))
    for file in found.files:
        if file.missing is not None:
            causes.missing(file.missing, same(quoted(file.name, 100)))
    _weigh_faults(found, causes)
    cases = found.cases
    # What was not read may hold whatever the rest lacks.
    whole = found.missing is None and all(file.missing is None for file in found.files)
    if not cases and whole:
        place = quoted(found.place, 200)
        causes.fail(Text(f"no cases in {place} (model.test_cases)", f"{place} 里没有用例（model.test_cases）"))
    elif cases:
        _weigh_cases(case, found, whole, causes)
    counts = Counter(each.category for each in cases)
    told = ", ".join(f"{quoted(name, 30)} {count}" for name, count in counts.most_common(12)) or "-"
    observed = Text(
        f"{len(cases)} cases in {len(found.files)} files: {told}",
        f"{len(found.files)} 个文件共 {len(cases)} 个用例：{told}",
    )
    material = {"files": [[file.name, file.sha256] for file in found.files]}
    return [causes.ruling(observed, _PASSED, material=material)]


def _weigh_faults(found: ModelCases, causes: Causes) -> None:
    faults = [fault for file in found.files for fault in file.faults]
    for fault in faults[:_SHOWN_FAULTS]:
        place = quoted(fault.place, 200)
        causes.fail(Text(f"{place}: {quoted(fault.text.en)}", f"{place}：{quoted(fault.text.zh)}"))
    if len(faults) > _SHOWN_FAULTS:
        more = len(faults) - _SHOWN_FAULTS
        causes.fail(Text(f"and {more} more faults", f"还有 {more} 处错误"))
    seen: dict[str, str] = {}
    for each in found.cases:
        if each.id in seen:
            causes.fail(
                Text(
                    f"{quoted(each.place, 200)}: id {each.id} is taken, first at {quoted(seen[each.id], 200)}",
                    f"{quoted(each.place, 200)}：id {each.id} 重复，首次出现在 {quoted(seen[each.id], 200)}",
                )
            )
        seen.setdefault(each.id, each.place)


def _weigh_cases(case: FleetCase, found: ModelCases, whole: bool, causes: Causes) -> None:
    cases, least = found.cases, case.params.count("min_cases")
    if whole and len(cases) < least:
        causes.fail(Text(f"{len(cases)} cases, {least} are wanted", f"只有 {len(cases)} 个用例，需要 {least} 个"))
    wanted = case.params.texts("categories_required")
    empty = [name for name in wanted if not any(each.category == name for each in cases)]
    if whole and empty:
        causes.fail(Text(f"no case in: {listed(empty)}", f"缺少类别：{listed(empty)}"))
    own = [each for each in cases if not each.built_in]
    if not own:
        causes.warn(Text("only dstui's built-in cases", "只有 dstui 自带用例"))
    elif not any(each.category == DOMAIN for each in own) and DOMAIN not in empty:
        causes.warn(Text("the team has written no domain case of its own", "团队没有自写的业务（domain）用例"))
    blind = [each.place for each in cases if not each.expects]
    if blind:
        places = quoted(listed(blind), 200)
        causes.warn(Text(f"{len(blind)} cases expect nothing: {places}", f"{len(blind)} 个用例没有期望：{places}"))


JUDGE = FleetJudge("model.test-cases", (), (), judge, ("model-cases",))
