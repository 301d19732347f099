"""What `steersman.yaml` may say of a `driver: mlflow` source, beside access and the keys of every source."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from steersman.drivers.web.access import WebAccess
from steersman.kernel.quantity import Between, Duration
from steersman.kinds.fragment import SCOPE_LABEL

NAMES_MAX = 64
"""Names or patterns in one list: they are gone through for each run."""
RUNS_MAX = 20_000
"""What one source may follow: a look at as many is some 20 MB of JSON."""
HOUR_S = 3_600
DAY_S = 24 * HOUR_S

Names = Annotated[list[Annotated[str, Meta(min_length=1, max_length=250)]], Meta(max_length=NAMES_MAX)]
"""MLflow's own names of metrics, parameters and tags have at most 250 characters."""
Kept = Annotated[Duration, Between(Duration(0), Duration(30 * DAY_S))]
Window = Annotated[Duration, Between(Duration(60), Duration(3650 * DAY_S))]
Silence = Annotated[Duration, Between(Duration(1), Duration(30 * DAY_S))]
Count = Annotated[int, Meta(ge=1, le=RUNS_MAX)]


class MlflowOptions(WebAccess, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of an `mlflow` source, beside those of access.

    - `experiments`: names or patterns (`*`, `?`, `[...]`) of the experiments that are followed; all of them
      where none is given.
    - `keep_ended`: how long a run that ended is told before it is gone.
    - `started_within`: a run that started longer ago is not followed, whatever is said of it.
    - `silent_after`: a running run that has logged no metric for so long gives no sign of life.
    - `runs_max`, `versions_max`: more are not followed; the newest are.
    - `metrics`: patterns of the metrics that are copied. `params`: names of parameters that are copied; they
      may hold secrets, so by default none is.
    - `job_tags`: tags that name the job that a run is; the first that a run has counts.
    - `models`: whether the model registry is read.
    - `labels`: labels for every entity of this source.
    """

    experiments: Names = field(default_factory=list[str])
    keep_ended: Kept = Duration(HOUR_S)
    started_within: Window = Duration(30 * DAY_S)
    silent_after: Silence = Duration(600)
    runs_max: Count = 2_000
    versions_max: Count = 2_000
    metrics: Names = field(default_factory=lambda: ["*"])
    params: Names = field(default_factory=list[str])
    job_tags: Names = field(default_factory=lambda: ["SLURM_JOB_ID", "slurm_job_id", "slurm.job_id"])
    models: bool = True
    labels: dict[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        super().__post_init__()
        if SCOPE_LABEL in self.labels:
            raise ValueError(f"the label {SCOPE_LABEL} is the scope: give it as scope")
