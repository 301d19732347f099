"""From words to an exit code, through the real entry point in a process of its own where streams matter."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys

import pytest

from steersman.cli.program import COMMANDS, GROUPS, exit_code_of, help_text, load, run_program, split
from steersman.cli.spec import Command, options_of, parse, parser_of
from steersman.kernel.errors import Refused, SteersmanError

HEAVY = (
    "msgspec",
    "rich",
    "httpx2",
    "litestar",
    "steersman.client",
    "steersman.app",
    "steersman.kinds.entity",
)


def run(
    *words: str, code: str = "from steersman.cli import main; main()"
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False, timeout=60
    )


def test_the_first_help_names_each_command_and_the_exit_codes() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert done.stdout == help_text()
    for name, entry in COMMANDS.items():
        assert f"  {name} " in done.stdout
        assert entry.summary in done.stdout
    assert "0 done, 1 refused or failed, 2 wrong usage, 3 not reachable" in done.stdout


def test_help_imports_nothing_heavy() -> None:
    """The figure for start-up is held by what is not imported, not by a clock."""
    code = (
        "import sys\nfrom steersman.cli.program import run_program\nrun_program(['--help'])\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    assert run(code=code).stderr == "[]\n"


def test_no_words_at_all_is_wrong_usage_with_help() -> None:
    done = run()
    assert (done.returncode, done.stdout) == (2, help_text())


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_what_the_first_help_says(name: str) -> None:
    command = load(name)
    assert command.name == name
    assert command.summary == COMMANDS[name].summary
    assert command.run is not None or command.actions
    for action in command.actions:
        assert action.run is not None


def leaves() -> list[tuple[list[str], Command]]:
    found: list[tuple[list[str], Command]] = []
    for name in COMMANDS:
        command = load(name)
        found += [([name, action.name], action) for action in command.actions] or [([name], command)]
    return found


@pytest.mark.parametrize(
    ("path", "command"), leaves(), ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_help_of_a_command_shows_options_and_examples(path: list[str], command: Command) -> None:
    text = parser_of(command, path).format_help()
    for option in options_of(command):
        assert (option.value_name if option.positional else option.flags[-1]) in text
    assert command.examples
    for example in command.examples:
        assert example.startswith("steersman ") or " | steersman " in example or "=" in example.split()[0]
        assert "--token" not in example, "a token on the command line is seen by every user of the machine"


@pytest.mark.parametrize(
    ("path", "command"), leaves(), ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_examples_can_be_typed(path: list[str], command: Command) -> None:
    for example in command.examples:
        typed = re.split("[#|<>]", example)[0].replace("$(hostname)", "here")
        words = shlex.split(typed)
        words = words[words.index("steersman") + 1 :]
        if words[: len(path)] == path:
            parse(load(path[0]), words[1:])


def test_an_unknown_command_names_the_nearest() -> None:
    done = run("gett", "nodes")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "error: unknown command 'gett'\nhint: did you mean get?\n"


def test_a_wrong_option_is_one_line_and_a_hint() -> None:
    done = run("get", "nodes", "--colour")
    assert done.returncode == 2
    assert done.stderr == "error: unrecognized arguments: --colour\nhint: steersman get --help\n"


def test_a_wrong_choice_says_what_there_is() -> None:
    done = run("get", "nodes", "-o", "xml")
    assert done.returncode == 2
    assert "table" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_shortened_option_is_refused() -> None:
    assert run("get", "nodes", "--serv", "http://127.0.0.1:1").returncode == 2


def test_connection_options_may_come_first() -> None:
    assert split(["--server", "http://h", "--debug", "get", "nodes"]) == (
        "get",
        ["--server", "http://h", "--debug", "nodes"],
    )
    assert split(["--server=http://h", "get"]) == ("get", ["--server=http://h"])
    assert split(["--colour", "get"]) == ("--colour", ["get"])
    assert split([]) == ("", [])


def test_a_strange_option_before_the_command_is_refused() -> None:
    assert run_program(["--colour", "get"]) == 2


def test_an_action_is_needed_and_checked() -> None:
    assert run("token", "--help").returncode == 0
    assert run("token").returncode == 2
    done = run("token", "creat")
    assert done.returncode == 2
    assert "did you mean create?" in done.stderr


@pytest.mark.parametrize(
    ("code", "expected"),
    [("wrong_usage", 2), ("config_invalid", 2), ("not_reachable", 3), ("conflict", 1), ("internal", 1)],
)
def test_exit_codes_follow_error_codes(code: str, expected: int) -> None:
    error = Refused("no")
    error.code = code  # type: ignore[misc]  # what the client does for an error it was sent
    assert exit_code_of(error) == expected


def fail(error: str) -> str:
    """A program whose command raises `error`."""
    return (
        "import sys\nfrom steersman.kernel.errors import *\nimport steersman.cli.version as v\n"
        f"def run(arguments):\n    raise {error}\n"
        "v.COMMAND = v.COMMAND._replace(run=run)\n"
        "from steersman.cli import main; main()"
    )


def test_an_error_is_its_detail_then_what_to_do() -> None:
    done = run("version", code=fail("Refused('no\\nbecause', allowed=['a', 'b'], nearest='c')"))
    assert done.returncode == 1
    assert done.stderr == "error: no\n  because\nhint: did you mean c?\nhint: allowed: a, b\n"


def test_debug_shows_the_traceback() -> None:
    done = run("version", "--debug", code=fail("Refused('no')"))
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_ctrl_c_is_quiet() -> None:
    done = run("version", code=fail("KeyboardInterrupt"))
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_closed_pipe_is_quiet() -> None:
    """The reader is gone before a line is written, as `true` in `steersman --help | true` may be."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "steersman", "--help"],
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
        timeout=60,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_groups_hold_each_command_once() -> None:
    names = [entry.name for _, entries in GROUPS for entry in entries]
    assert len(names) == len(set(names)) == len(COMMANDS)


def test_the_root_of_errors_is_a_failure() -> None:
    assert exit_code_of(SteersmanError("x")) == 1
