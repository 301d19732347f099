"""The built-in phase engine: a DAG of steps, durable over the resource's own progress."""

from steersman.act.engines.pipeline.definition import PipelineInvalid, Plan, Step, read_plan
from steersman.act.engines.pipeline.engine import PipelineEngine
from steersman.act.engines.pipeline.progress import Progress, StepProgress, read_progress
from steersman.act.engines.pipeline.sheet import Journal
from steersman.act.engines.pipeline.waiting import WaitingStep, waiting_steps

__all__ = [
    "Journal",
    "PipelineEngine",
    "PipelineInvalid",
    "Plan",
    "Progress",
    "Step",
    "StepProgress",
    "WaitingStep",
    "read_plan",
    "read_progress",
    "waiting_steps",
]
