"""How steps go to workers on other machines: the block `executor.celery` of lab.yaml."""

from __future__ import annotations

from pydantic import Field

from dlc_assets.lab.yaml_settings import StrictSettings


class CelerySettings(StrictSettings):
    """What the workers of a lab have; where the broker is comes from the environment (`DLC_ASSETS_BROKER_URL`)."""

    gpus: int = Field(1, ge=1, description="GPUs of all workers that take the queue `gpu`: the limit of the pool `gpu`")
