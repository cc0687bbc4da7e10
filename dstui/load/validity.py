"""Whether a stage was limited by the generator itself, so that it says nothing of the service. Pure.

The limits are those of CATALOGUE's load method: CPU < 80 %, lag p99 < 50 ms, open files for all users and 200 more.
"""

from __future__ import annotations

from dstui.load.result import Generator
from dstui.model import Text

CPU_MAX = 0.8
LAG_P99_MAX_S = 0.05
SPARE_FILES = 200
CLOCK_JUMP_MAX_S = 0.05
"""A clock that moved further than a generator may be late moves every time that was measured as far."""


def limits(generator: Generator, users: int) -> tuple[Text, ...]:
    """Why the generator was, or may have been, the bottleneck with so many users, and what to change; empty: it was
    not. What it did not measure of itself is a reason, too."""
    found: list[Text] = []
    if generator.lost:
        first = " ".join(generator.lost[0].split())[:120]
        count = len(generator.lost)
        found.append(Text(f"{count} workers ended by themselves: {first}", f"{count} 个压测进程自行退出：{first}"))
    elif generator.workers < 1:
        found.append(Text("no worker of the generator reported", "没有压测进程上报"))
    lag = generator.lag.quantile(0.99)
    if generator.cpu is None or lag is None or generator.nofile is None:
        found.append(
            Text(
                "the generator's CPU, lag or limit of open files was not measured: run it again",
                "未测到压测机的 CPU、事件循环延迟或文件数上限：请重新运行",
            )
        )
    if generator.cpu is not None and not generator.cpu < CPU_MAX:
        found.append(
            Text(
                f"the generator's CPU was at {generator.cpu:.0%} (below {CPU_MAX:.0%}): more workers or machines",
                f"压测机 CPU 达 {generator.cpu:.0%}（应低于 {CPU_MAX:.0%}）：增加进程或换机器",
            )
        )
    if lag is not None and not lag < LAG_P99_MAX_S:
        found.append(
            Text(
                f"the generator was {lag * 1000:.0f} ms late at p99 (below {LAG_P99_MAX_S * 1000:.0f}): more workers "
                "or a quieter machine",
                f"压测机 p99 延迟 {lag * 1000:.0f} 毫秒（应低于 {LAG_P99_MAX_S * 1000:.0f}）：增加进程或换空闲机器",
            )
        )
    wanted = users + SPARE_FILES
    if generator.nofile is not None and generator.nofile < wanted:
        found.append(
            Text(
                f"at most {generator.nofile} open files, {users} users need {wanted}: ulimit -n {wanted}",
                f"最多打开 {generator.nofile} 个文件，{users} 用户需要 {wanted}：ulimit -n {wanted}",
            )
        )
    if not abs(generator.clock_jump) <= CLOCK_JUMP_MAX_S:
        jump = abs(generator.clock_jump) * 1000
        found.append(
            Text(
                f"the generator's clock was moved by {jump:.0f} ms: let it settle and run again",
                f"压测机时钟跳变 {jump:.0f} 毫秒：待其稳定后重跑",
            )
        )
    return tuple(found)
