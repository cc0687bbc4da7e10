"""model.*: the model's files, their bytes, the memory that they need, and what it must be able to answer."""

from __future__ import annotations

from dstui.judge import model_cases, model_integrity, model_load, model_memory, model_present

JUDGES = (
    model_present.JUDGE,
    model_integrity.JUDGE,
    model_load.JUDGE,
    model_cases.JUDGE,
    model_memory.JUDGE,
)
