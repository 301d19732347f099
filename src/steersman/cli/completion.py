"""`steersman completion`: a script for the shell, made from the commands themselves.

It holds every word, so completing starts no process and asks no server.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from steersman.cli.exits import DONE
from steersman.cli.program import COMMANDS, load
from steersman.cli.spec import Command, Option, options_of

SHELLS = ("bash", "zsh", "fish")

BASH = """\
# bash completion for steersman. Load it with: source <(steersman completion bash)
_steersman() {{
  local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} path= word
  COMPREPLY=()
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    case "$word" in -*) break ;; *) path="${{path:+$path }}$word" ;; esac
  done
  case "$path" in
{paths}
    *) path="${{path%% *}}" ;;
  esac
  case "$path:$prev" in
{values}
  esac
  case "$path:$cur" in
{words}
  esac
}}
complete -F _steersman steersman
"""

ZSH = """\
#compdef steersman
# zsh completion for steersman. Load it with: source <(steersman completion zsh)
autoload -Uz compinit bashcompinit && compinit -u && bashcompinit
"""


def run(arguments: argparse.Namespace) -> int:
    """Print the script."""
    print(script(arguments.SHELL), end="")
    return DONE


def script(shell: str) -> str:
    """The script for a shell."""
    if shell == "fish":
        return "\n".join(_fish()) + "\n"
    bash = BASH.format(
        paths="\n".join(_bash_paths()), values="\n".join(_bash_values()), words="\n".join(_bash_words())
    )
    return bash if shell == "bash" else ZSH + bash


def _paths() -> Iterator[tuple[str, Command]]:
    for name in COMMANDS:
        command = load(name)
        if command.actions:
            yield from ((f"{name} {action.name}", action) for action in command.actions)
        else:
            yield name, command


def _kinds() -> str:
    from steersman.kinds.entity import EntityType
    from steersman.kinds.names import plural

    return " ".join(plural(kind) for kind in EntityType)


def _takes_kind(command: Command) -> bool:
    return any(option.flags == ("KIND",) for option in command.options)


def _flags(command: Command) -> list[Option]:
    return [option for option in options_of(command) if not option.positional]


def _bash_paths() -> Iterator[str]:
    """What of the typed words names a command: two of them where the first has actions."""
    for name in COMMANDS:
        actions = load(name).actions
        if actions:
            words = [f"{name} {action.name}" for action in actions]
            yield "    " + " ".join(f'"{word}"*) path="{word}" ;;' for word in words)
            yield f'    {name}*) path="{name}" ;;'


def _bash_values() -> Iterator[str]:
    """What may follow an option: its choices, else a file name."""
    for path, command in _paths():
        for option in _flags(command):
            if option.switch:
                continue
            case = "|".join(f'"{path}:{flag}"' for flag in option.flags)
            what = f'-W "{" ".join(option.choices)}"' if option.choices else "-f"
            yield f'    {case}) COMPREPLY=($(compgen {what} -- "$cur")); return ;;'


def _bash_words() -> Iterator[str]:
    """What may stand at a place: options behind a dash, else kinds, choices or a file name."""
    yield f'    ":"*) COMPREPLY=($(compgen -W "{" ".join(COMMANDS)}" -- "$cur")) ;;'
    for name in COMMANDS:
        actions = load(name).actions
        if actions:
            words = " ".join(action.name for action in actions)
            yield f'    "{name}:"*) COMPREPLY=($(compgen -W "{words}" -- "$cur")) ;;'
    for path, command in _paths():
        flags = " ".join(flag for option in _flags(command) for flag in option.flags)
        yield f'    "{path}:-"*) COMPREPLY=($(compgen -W "{flags} --help" -- "$cur")) ;;'
        yield f'    "{path}:"*) COMPREPLY=($(compgen {_places(command)} -- "$cur")) ;;'


def _places(command: Command) -> str:
    if _takes_kind(command):
        return f'-W "{_kinds()}"'
    for option in command.options:
        if option.positional and option.choices:
            return f'-W "{" ".join(option.choices)}"'
    return "-f"


def _fish() -> Iterator[str]:
    yield "# fish completion for steersman. Load it with: steersman completion fish | source"
    for name, entry in COMMANDS.items():
        yield f"complete -c steersman -n __fish_use_subcommand -f -a {name} -d '{_quoted(entry.summary)}'"
    for path, command in _paths():
        name, _, action = path.partition(" ")
        seen = f"'__fish_seen_subcommand_from {action or name}'"
        if action:
            yield f"complete -c steersman -n '__fish_seen_subcommand_from {name}' -f -a {action}"
        if _takes_kind(command):
            yield f"complete -c steersman -n {seen} -f -a '{_kinds()}'"
        for option in _flags(command):
            short = "".join(f" -s {flag[1:]}" for flag in option.flags if not flag.startswith("--"))
            long = "".join(f" -l {flag[2:]}" for flag in option.flags if flag.startswith("--"))
            value = (
                "" if option.switch else f" -x -a '{' '.join(option.choices)}'" if option.choices else " -r"
            )
            yield f"complete -c steersman -n {seen}{short}{long}{value} -d '{_quoted(option.help)}'"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")


COMMAND = Command(
    name="completion",
    summary="Print a shell's completion script",
    options=(Option(("SHELL",), "the shell that will read it", choices=SHELLS),),
    run=run,
    examples=("steersman completion bash", "steersman completion fish"),
    talks=False,
)
