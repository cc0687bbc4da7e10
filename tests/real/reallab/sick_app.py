"""Runs on the head under Ray's Python: deploys an application whose replicas fail their health checks, and ends.

`sick_app.py ADDRESS`
"""

from __future__ import annotations

import sys
import time

import ray
from ray import serve

APPLICATION, DEPLOYMENT = "sick", "Patient"
WELL_SECONDS = 3.0


@serve.deployment(
    name=DEPLOYMENT, health_check_period_s=1, health_check_timeout_s=1, ray_actor_options={"num_cpus": 0.1}
)
class Patient:
    def __init__(self) -> None:
        self.began = time.monotonic()

    def check_health(self) -> None:
        if time.monotonic() - self.began > WELL_SECONDS:
            raise RuntimeError("the engine is dead")

    async def __call__(self) -> str:
        return "fine"


def main() -> None:
    ray.init(address=sys.argv[1], log_to_driver=False, logging_level="warning")
    serve.run(Patient.bind(), name=APPLICATION, route_prefix="/sick")


if __name__ == "__main__":
    main()
