"""Processes as jobs: who is chosen, who belongs together, when a job ends, and that arguments stay here."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman.drivers.host.jobs import JobPicture, JobTracker
from steersman.drivers.host.options import JobRule
from steersman.drivers.host.patterns import SUBJECT_MAX_CHARS, compile_pattern, found
from steersman.drivers.host.processes import Processes, ProcessReading, ProcessTable, parse_stat
from steersman.kernel.quantity import Duration

BOOTED = datetime(2026, 1, 1, tzinfo=UTC)


def process(
    pid: int, *, parent: int = 1, start: int = 1000, rules: tuple[int, ...] = (), **more: object
) -> ProcessReading:
    values: dict[str, object] = {"program": "train", "state": "S", "cpu_s": 1.0, "memory_bytes": 100, **more}
    return ProcessReading(pid, start, parent, rules=frozenset(rules), **values)  # type: ignore[arg-type]


def table(uptime_s: float, *processes: ProcessReading) -> ProcessTable:
    return ProcessTable(uptime_s, "boot", {p.pid: p for p in processes}, {p.pid: 4 for p in processes})


def follow(rule: JobRule, *tables: ProcessTable) -> list[JobPicture]:
    tracker = JobTracker([rule], "n1")
    return [tracker.picture(one, BOOTED) for one in tables]


def test_children_belong_to_their_root() -> None:
    rule = JobRule("t", process="train")
    (seen,) = follow(
        rule,
        table(
            100,
            process(10, rules=(0,)),
            process(11, parent=10, rules=(0,)),
            process(12, parent=11),
            process(99),
        ),
    )
    (job,) = seen.jobs
    assert job.fields["process_count"] == 3
    assert job.fields["memory_used"] == 300
    assert job.fields["started_at"] == datetime(2026, 1, 1, 0, 0, 10, tzinfo=UTC)
    assert job.fields["runtime_seconds"] == 90.0
    assert seen.by_pid == {10: job.entity_id, 11: job.entity_id, 12: job.entity_id}


def test_without_children_each_match_is_its_own_job() -> None:
    rule = JobRule("t", process="train", children=False)
    (seen,) = follow(
        rule, table(100, process(10, rules=(0,)), process(11, parent=10, rules=(0,)), process(12, parent=11))
    )
    assert [job.fields["process_count"] for job in seen.jobs] == [1, 1]


def test_a_rule_may_be_one_job() -> None:
    rule = JobRule("t", process="train", per="rule")
    (seen,) = follow(rule, table(100, process(10, rules=(0,)), process(20, rules=(0,))))
    (job,) = seen.jobs
    assert job.entity_id == "n1/t"
    assert job.fields["process_count"] == 2


def test_cpu_is_of_the_cores_it_may_use_since_the_last_look() -> None:
    rule = JobRule("t", process="train")
    seen = follow(
        rule,
        table(100, process(10, rules=(0,), cpu_s=50.0)),
        table(110, process(10, rules=(0,), cpu_s=60.0), process(11, parent=10, start=10_500, cpu_s=4.0)),
    )
    assert seen[0].jobs[0].fields["cpu_utilization"] is None
    assert seen[1].jobs[0].fields["cpu_utilization"] == pytest.approx((10 + 4) / 10 / 4)


def test_a_job_that_ends_is_completed_and_later_gone() -> None:
    rule = JobRule("t", process="train", keep_ended=Duration(25))
    alive = process(10, rules=(0,))
    seen = follow(rule, table(100, alive), table(110), table(120), table(140), table(150))
    states = [[job.fields["job_state"] for job in picture.jobs] for picture in seen]
    assert states == [["running"], ["completed"], ["completed"], [], []]
    assert [picture.gone for picture in seen] == [[], [], [], [seen[0].jobs[0].entity_id], []]
    assert seen[2].jobs[0].fields["process_count"] == 0


def test_a_pid_that_is_given_again_is_another_job() -> None:
    rule = JobRule("t", process="train")
    seen = follow(
        rule,
        table(100, process(10, rules=(0,))),
        table(110, process(10, start=10_500, rules=(0,), cpu_s=9.0)),
    )
    first, second = seen[0].jobs[0].entity_id, seen[1].jobs[0].entity_id
    assert first != second
    assert {job.entity_id: job.fields["job_state"] for job in seen[1].jobs} == {
        first: "completed",
        second: "running",
    }


def test_how_it_ended_is_told_where_the_kernel_showed_it() -> None:
    rule = JobRule("t", process="train")
    for status, code in ((9, 137), (3 << 8, 3)):
        seen = follow(rule, table(100, process(10, rules=(0,), state="Z", exit_status=status)), table(110))
        assert seen[0].jobs[0].fields["job_state"] == "completing"
        assert seen[1].jobs[0].fields["job_state"] == "failed"
        assert seen[1].jobs[0].fields["exit_code"] == code


def test_a_stopped_job_is_suspended() -> None:
    (seen,) = follow(JobRule("t", process="train"), table(100, process(10, rules=(0,), state="T")))
    assert seen.jobs[0].fields["job_state"] == "suspended"


def test_a_loop_of_parents_ends() -> None:
    """Two readings of a changing table can show one; it must not be followed for ever."""
    rule = JobRule("t", process="train")
    (seen,) = follow(
        rule, table(100, process(10, parent=11, rules=(0,)), process(11, parent=10), process(12, parent=12))
    )
    assert len(seen.jobs) == 1


def test_too_many_matches_are_cut_and_said() -> None:
    many = [process(pid, rules=(0,)) for pid in range(10, 400)]
    (seen,) = follow(JobRule("t", process="train"), table(100, *many))
    assert len(seen.jobs) == 256
    assert "390 matches" in seen.warnings[0]


@given(st.binary(max_size=200))
def test_any_stat_line_is_read_or_refused(line: bytes) -> None:
    try:
        parse_stat(line)
    except (ValueError, IndexError):
        pass


def test_a_program_name_may_hold_parentheses() -> None:
    line = b"42 (a) (b) c) S 1 " + b"0 " * 17 + b"777 0 5 " + b"0 " * 30
    read = parse_stat(line)
    assert (read.pid, read.program, read.parent, read.start_ticks) == (42, "a) (b) c", 1, 777)


def run(*arguments: str) -> subprocess.Popen[bytes]:
    program = "import signal, sys; print(flush=True); signal.pause()"
    child = subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    child.stdout.close()
    return child


def test_a_real_process_is_chosen_by_each_condition(tmp_path: Path) -> None:
    """Command line, pid file, user and name, on a process of our own; its arguments are nowhere."""
    child = run("--mark=steersman-test", "--password=hunter2")
    try:
        (tmp_path / "pid").write_text(f"{child.pid}\n")
        rules = [
            JobRule("cmdline", cmdline="mark=steersman-test"),
            JobRule("pidfile", pid_file=str(tmp_path / "pid")),
            JobRule(
                "all",
                process="python",
                user="root" if os.getuid() == 0 else None,
                cmdline="steersman-test$|hunter2$",
            ),
            JobRule("nobody", cmdline="mark=steersman-test", user="nobody"),
            JobRule("no-user", process="python", user="no-such-user-here"),
        ]
        processes = Processes(rules)
        seen = processes.read(time.time())
        chosen = {
            at
            for at in range(len(rules))
            if child.pid in [p.pid for p in seen.processes.values() if at in p.rules]
        }
        assert chosen == {0, 1, 2}
        assert seen.warnings == ["job no-user: there is no user 'no-such-user-here'"]
        picture = JobTracker(rules, "n1").picture(seen, BOOTED)
        told = msgspec.json.encode([seen, picture]).decode()
        assert "hunter2" not in told
        assert "steersman-test" not in told
        child.send_signal(signal.SIGSTOP)
    finally:
        child.kill()
        child.wait()
    assert child.pid not in processes.read(time.time()).processes


def test_a_pid_file_that_is_older_than_the_process_names_another(tmp_path: Path) -> None:
    """The daemon died, and its number was given to somebody else."""
    child = run()
    try:
        file = tmp_path / "pid"
        file.write_text(str(child.pid))
        os.utime(file, (time.time() - 3600, time.time() - 3600))
        read = Processes([JobRule("d", pid_file=str(file))]).read(time.time())
        assert not read.processes[child.pid].rules
    finally:
        child.kill()
        child.wait()


def test_a_pid_file_without_a_pid_is_a_warning_and_a_missing_one_is_not(tmp_path: Path) -> None:
    (tmp_path / "bad").write_text("what\n")
    os.mkfifo(tmp_path / "pipe")
    rules = [JobRule(name, pid_file=str(tmp_path / name)) for name in ("bad", "off", "pipe")]
    assert Processes(rules).read(time.time()).warnings == [
        f"job bad: pid file {tmp_path / 'bad'} can't be read: no process id in it",
        f"job pipe: pid file {tmp_path / 'pipe'} can't be read: not a regular file",
    ]


@pytest.mark.parametrize(
    "pattern", ["(a+)+", "(a|b)*", "(a?){9}", "a.*b.*c.*", r"(a)\1", "(?=a)b", "(?<!a)b", "((a?b)c)*"]
)
def test_patterns_that_may_take_for_ever_are_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="unbounded time"):
        compile_pattern(pattern)


@pytest.mark.parametrize("pattern", ["[", "(", "*a", "a)", "(?P<a>b"])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"not a regular expression|unbounded|group"):
        compile_pattern(pattern)


@pytest.mark.parametrize(
    "pattern",
    ["train", "^python3?$", "(?i)torchrun.*train", "(train|serve)", r"a\(+", "[+*]{1,3}x", "(?:ab)+"],
)
def test_useful_patterns_are_accepted(pattern: str) -> None:
    compile_pattern(pattern)


@given(st.text(alphabet="ab.*+?()[]{}|\\^$1,", max_size=30))
def test_any_pattern_is_accepted_or_refused_with_a_reason(pattern: str) -> None:
    try:
        compiled = compile_pattern(pattern)
    except ValueError:
        return
    found(compiled, "a" * 200)  # ends, or the test's time-out says so
    assert compiled.pattern == re.compile(pattern).pattern


def test_only_the_beginning_of_a_command_line_is_searched() -> None:
    assert not found(compile_pattern("end"), "x" * SUBJECT_MAX_CHARS + "end")


def test_a_rule_without_a_condition_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        JobRule("all")


def test_a_table_that_was_only_kept_gives_the_first_picture_its_cpu_use() -> None:
    tracker = JobTracker([JobRule("t", process="train")], "n1")
    tracker.begin(table(100.0, process(10, rules=(0,), cpu_s=1.0)))
    seen = tracker.picture(table(100.5, process(10, rules=(0,), cpu_s=2.0)), BOOTED)
    assert [job.fields["cpu_utilization"] for job in seen.jobs] == [0.5]


def test_a_job_that_runs_again_has_no_exit_code_of_its_last_run() -> None:
    rule = JobRule("t", process="train", per="rule")
    zombie = process(10, rules=(0,), state="Z", exit_status=3 << 8)
    _, failed, again = follow(
        rule, table(100, zombie), table(101), table(102, process(20, rules=(0,), start=10_150))
    )
    assert (failed.jobs[0].fields["exit_code"], failed.jobs[0].clear) == (3, ())
    assert again.jobs[0].fields["job_state"] == "running"
    assert again.jobs[0].clear == ("exit_code",)
