"""Which GPUs of a machine a lab uses: the key `gpus` of lab.yaml."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator

Gpus = Literal["auto", "required", "none"] | tuple[str, ...]


def _named(value: object) -> object:
    """Return a list of indices or UUIDs as texts, as `CUDA_VISIBLE_DEVICES` has them."""
    if not isinstance(value, (list, tuple)):
        return value
    names = tuple(str(name).strip() for name in value)
    if not names or not all(names) or len(set(names)) < len(names):
        raise ValueError("expected auto, required, none, or a list of different indices or UUIDs such as [0, 1]")
    return names


GpuSetting = Annotated[Gpus, BeforeValidator(_named)]
