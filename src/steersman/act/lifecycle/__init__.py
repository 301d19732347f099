"""Lifecycle tables of an installation: loaded, linted, drawn, kept by version, put in force."""

from steersman.act.lifecycle.drawing import dot, mermaid
from steersman.act.lifecycle.lint import Finding, Place, lint
from steersman.act.lifecycle.loading import Loaded, Refusal, lint_text, load_file, load_text, shipped
from steersman.act.lifecycle.registry import LifecycleInfo, Lifecycles, LoadReport

__all__ = [
    "Finding",
    "LifecycleInfo",
    "Lifecycles",
    "LoadReport",
    "Loaded",
    "Place",
    "Refusal",
    "dot",
    "lint",
    "lint_text",
    "load_file",
    "load_text",
    "mermaid",
    "shipped",
]
