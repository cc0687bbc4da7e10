"""The four checks of the Ray cluster: its head, its workers, its dashboard, what it counts."""

from __future__ import annotations

from dstui.judge.ray_dashboard import JUDGE as DASHBOARD
from dstui.judge.ray_head import JUDGE as HEAD
from dstui.judge.ray_resources import JUDGE as RESOURCES
from dstui.judge.ray_workers import JUDGE as WORKERS

JUDGES = (HEAD, WORKERS, DASHBOARD, RESOURCES)
