"""Logs: structured, redacted, one line an event.

`get_logger(name)` gives a structlog logger whose event names are snake_case and whose facts are keyword
arguments. Off a terminal a line is JSON, on one it is for people. Every line, also those of libraries that
log through the standard library, passes the same chain: time from the injected Clock, then redaction.

structlog takes about 0.2 s to import, nearly all of it for rich's tracebacks, which are not used here; so
it is imported at the first line that is logged. A command that logs nothing never pays for it.

A program that only uses the library and configures nothing sees warnings on stderr, as with the standard
library; a program that has configured structlog for itself keeps its configuration.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, MutableMapping
from typing import Any, TextIO

from steersman.kernel.clock import Clock, SystemClock
from steersman.kernel.redact import MASK, is_secret_key, redact, redact_text, shortened_middle

EventDict = MutableMapping[str, Any]
Processor = Callable[[Any, str, EventDict], Any]

LEVELS = ("debug", "info", "warning", "error")
"""What `log.level` may be."""

FORMATS = ("auto", "json", "console")
"""What `log.format` may be; auto is console on a terminal and JSON elsewhere."""

TEXT_MAX_CHARS = 32_000
"""The longest text of a line, tracebacks included: an error may carry a whole body that could not be read."""

_OWN_KEYS = frozenset(
    {"exc_info", "stack_info", "_record", "_from_structlog", "_logger", "_name", "exception"}
)


class Logger:
    """A structlog logger that is made when it is first used. Facts are keyword arguments."""

    __slots__ = ("_bound", "_context", "_name")

    def __init__(self, name: str, context: dict[str, Any] | None = None) -> None:
        self._name = name
        self._context = context or {}
        self._bound: Any = None

    def bind(self, **facts: Any) -> Logger:
        """The same logger with facts that every line of it carries."""
        return Logger(self._name, {**self._context, **facts})

    def debug(self, event: str, **facts: Any) -> None:
        """For whoever looks into one run."""
        self._logger().debug(event, **facts)

    def info(self, event: str, **facts: Any) -> None:
        """Something that happens rarely and is as it should be."""
        self._logger().info(event, **facts)

    def warning(self, event: str, **facts: Any) -> None:
        """Something is not as it should be, and we go on."""
        self._logger().warning(event, **facts)

    def error(self, event: str, **facts: Any) -> None:
        """Something has failed; `exc_info=error` adds its traceback."""
        self._logger().error(event, **facts)

    def _logger(self) -> Any:
        import structlog  # see the module's docstring

        if not structlog.is_configured():
            # structlog's own default prints tracebacks with local variables: a leak of whatever they hold.
            _configure_structlog(SystemClock(), structlog.processors.KeyValueRenderer(key_order=["event"]))
        if self._bound is None:
            # A lazy proxy: it follows a later configure().
            self._bound = structlog.get_logger(self._name, **self._context)
        return self._bound


def get_logger(name: str) -> Logger:
    """The logger of a room or module, e.g. `observe.intake`. Cheap: nothing is imported yet."""
    return Logger(name if name.startswith("steersman") else f"steersman.{name}")


def configure(
    *, clock: Clock, level: str = "info", fmt: str = "auto", stream: TextIO | None = None
) -> Callable[[], None]:
    """Send all logs of the process to `stream` (stderr) at `level` in `fmt`. Called once, by the program.

    Returns a function that puts the standard library's root logger back as it was.
    """
    import structlog  # see the module's docstring

    if level not in LEVELS or fmt not in FORMATS:
        raise ValueError(f"log level is one of {LEVELS} and format one of {FORMATS}, not {level!r}, {fmt!r}")
    out = stream if stream is not None else sys.stderr
    console = fmt == "console" or (fmt == "auto" and out.isatty())
    chain = _chain(clock)
    formatter = structlog.stdlib.ProcessorFormatter(
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_render(console, out)],
        foreign_pre_chain=[_library_event, *chain],
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    root.handlers = [handler]
    root.setLevel(level.upper())
    _configure_structlog(clock, structlog.stdlib.ProcessorFormatter.wrap_for_formatter)

    def restore() -> None:
        root.setLevel(before[0])
        root.handlers = before[1]
        structlog.reset_defaults()

    return restore


def redact_event(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Mask what must not be read, in keys and in texts. Runs last before rendering."""
    for key in list(event):
        if key in _OWN_KEYS and key != "exception":
            continue
        value = event[key]
        if isinstance(value, str):
            value = shortened_middle(value, TEXT_MAX_CHARS)
        event[key] = MASK if is_secret_key(key) and value is not None else redact(value)
    return event


def _configure_structlog(clock: Clock, last: Processor) -> None:
    import structlog  # see the module's docstring

    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *_chain(clock), last],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def _chain(clock: Clock) -> list[Processor]:
    import structlog  # see the module's docstring

    def add_time(_logger: Any, _method: str, event: EventDict) -> EventDict:
        event["time"] = clock.now().isoformat(timespec="milliseconds")
        return event

    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        add_time,
        structlog.processors.format_exc_info,
        redact_event,
    ]


def _render(console: bool, out: TextIO) -> list[Processor]:
    import structlog  # see the module's docstring

    if not console:
        return [_first_things_first, structlog.processors.JSONRenderer(default=_plain)]
    plain = structlog.dev.plain_traceback
    return [
        structlog.dev.ConsoleRenderer(colors=out.isatty(), timestamp_key="time", exception_formatter=plain)
    ]


def _library_event(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """A line of a library: its free text becomes `message` under one event name."""
    event["message"] = redact_text(str(event.get("event", "")))
    event["event"] = "library_log"
    return event


def _first_things_first(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """What every line has comes first, so that lines can be read one under the other."""
    ordered = {key: event[key] for key in ("time", "level", "logger", "event") if key in event}
    return ordered | {key: value for key, value in event.items() if key not in ordered}


def _plain(value: Any) -> str:
    return redact_text(str(value))
