"""Judges of 存储准备检查 (storage preparation)."""

from __future__ import annotations

from dstui.judge import stor_directory, stor_nonce, stor_service, stor_space
from dstui.judge.registry import Judge

JUDGES: tuple[Judge, ...] = (
    stor_directory.JUDGE,
    stor_service.JUDGE,
    stor_nonce.JUDGE,
    stor_space.JUDGE,
)
