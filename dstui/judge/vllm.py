"""The checks of vLLM: what is installed, one GPU, the application, its settings, requests at once."""

from __future__ import annotations

from dstui.judge.vllm_app import JUDGE as APP
from dstui.judge.vllm_concurrency import JUDGE as CONCURRENCY
from dstui.judge.vllm_config import JUDGE as CONFIG
from dstui.judge.vllm_install import JUDGE as INSTALL
from dstui.judge.vllm_load import JUDGE as LOAD

JUDGES = (INSTALL, LOAD, APP, CONFIG, CONCURRENCY)
