"""What is asked of W&B's GraphQL API, and what is read of its answers: every key may be missing."""

from __future__ import annotations

from datetime import datetime

from msgspec import Raw, Struct, field

from steersman.kernel.clock import TimeOutOfRange, as_utc

LIVE = frozenset({"running", "pending", "preempting"})
ENDED = frozenset({"finished", "failed", "crashed", "killed", "preempted"})
"""The words for a run's state."""

VIEWER = "query Viewer { viewer { entity } }"
PROJECTS = """query Projects($entity: String!, $cursor: String, $first: Int!) {
  models(entityName: $entity, after: $cursor, first: $first) {
    edges { node { name } }
    pageInfo { endCursor hasNextPage }
  }
}"""
RUNS = """query Runs($entity: String!, $project: String!, $cursor: String, $first: Int!, $order: String!,
  $filters: JSONString!, $config: Boolean!) {
  project(name: $project, entityName: $entity) {
    runs(filters: $filters, after: $cursor, first: $first, order: $order) {
      edges { node {
        name displayName state group jobType sweepName createdAt heartbeatAt summaryMetrics
        config @include(if: $config)
        user { username }
      } }
      pageInfo { endCursor hasNextPage }
    }
  }
}"""


class PageInfo(Struct, rename="camel"):
    """Where a page ends."""

    end_cursor: str | None = None
    has_next_page: bool = False


class Edge(Struct):
    """One item of a page."""

    node: Raw = Raw()


class Page(Struct, rename="camel"):
    """One page of anything."""

    edges: list[Edge] = field(default_factory=list[Edge])
    page_info: PageInfo = field(default_factory=PageInfo)


class Viewer(Struct):
    """Whose key it is."""

    entity: str | None = None


class Project(Struct):
    """A project, with a page of its runs."""

    runs: Page | None = None


class Data(Struct):
    """What the queries above are answered with."""

    viewer: Viewer | None = None
    models: Page | None = None
    project: Project | None = None


class Problem(Struct):
    """What GraphQL says of an error."""

    message: str = ""


class Reply(Struct):
    """One answer. Both may be there: what could be had, and why the rest could not."""

    data: Data | None = None
    errors: list[Problem] | None = None


class ProjectName(Struct):
    """A project by name."""

    name: str = ""


class User(Struct):
    """Who started a run."""

    username: str | None = None


class Run(Struct, rename="camel"):
    """One run. `summary_metrics` and `config` are JSON within the JSON."""

    name: str = ""
    display_name: str | None = None
    state: str | None = None
    group: str | None = None
    job_type: str | None = None
    sweep_name: str | None = None
    created_at: str | None = None
    heartbeat_at: str | None = None
    summary_metrics: str | None = None
    config: str | None = None
    user: User | None = None


def time_of(text: str | None) -> datetime | None:
    """A time; it is UTC where it does not say. None for none, and for what is no time."""
    try:
        return as_utc(datetime.fromisoformat(text)) if text else None
    except (ValueError, TimeOutOfRange):
        return None
