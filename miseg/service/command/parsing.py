"""The command line parsed; a mistake is one sentence, with the option as it was typed and the nearest right one."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import tyro

# A hook that tyro calls private: constraints.txt pins the version, and the tests of this file see whether it is there.
from tyro import _errors as tyro_errors

from miseg.nearest_names import ABBREVIATIONS, MOST, either, in_place_of, nearest

_typed: dict[str, str] = {}
"""Abbreviations in the command line that was parsed last, such as "--lr", by the options that they stood for."""

_NUMBER = re.compile(r"invalid literal for int\(\) with base 10: (?P<whole>.*)|could not convert string to float: (.*)")
_SETTING = re.compile(r"[^:=/]+ = ")


class UnknownOptionsError(Exception):
    """Words of a command line that its command does not take."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self.tokens = tokens


def parse(arguments: Any, program: str, description: str, line: list[str]) -> Any:
    """Parse a command line into a dataclass, or a union of them.

    An option's last word alone, or an abbreviation that the field knows, stands for the one option that ends so:
    `--lr` for `--optimiser.learning-rate`. That is said, and changed in `line` and in sys.argv, by which a job knows
    what it was given.

    Args:
        arguments: what tyro makes the options from.
        program: name in the usage line.
        description: text above the options in --help.
        line: the command line without the program's name.

    Raises:
        ValueError: a mistake in the command line, in one sentence.
        SystemExit: after --help, which is printed.
    """
    _typed.clear()
    try:
        return _parsed(arguments, program, description, line)
    except UnknownOptionsError as error:
        options = options_of(arguments, program, line)
        meant = {token: option for token in error.tokens if (option := understood(token, options)) is not None}
        left = [token for token in error.tokens if token.startswith("-") and token not in meant]
        if not meant or left:
            raise ValueError(unknown((left or error.tokens)[0], program, line, options)) from None
        for token, option in meant.items():
            typed, meaning = token.partition("=")[0], option.partition("=")[0]
            _typed[meaning] = typed
            print(f"{typed} is taken as {meaning}", file=sys.stderr)
        line[:] = [meant.get(token, token) for token in line]
        sys.argv[1:] = [meant.get(token, token) for token in sys.argv[1:]]
    try:
        return _parsed(arguments, program, description, line)
    except UnknownOptionsError as error:
        raise ValueError(unknown(error.tokens[0], program, line, options)) from None


def _parsed(arguments: Any, program: str, description: str, line: Sequence[str]) -> Any:
    with tyro_errors.on_parse_error(lambda event: _tell(event, line)):
        try:
            return tyro.cli(arguments, prog=program, description=description, args=line)
        except (SystemExit, BrokenPipeError) as ended:
            _flush()
            if isinstance(ended, SystemExit):
                raise
            sys.exit(0)


def _flush() -> None:
    """Write what is left of the help; a reader that has seen enough, as `head` has, is no error."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would else complain when it closes the pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _tell(event: tyro_errors.ParseErrorEvent, line: Sequence[str]) -> None:
    """Raise what is wrong as one sentence; what is not known here is left to tyro's own message."""
    if isinstance(event, tyro_errors.UnrecognizedArgs):
        raise UnknownOptionsError(event.tokens)
    if isinstance(event, tyro_errors.InvalidChoice):
        # "None" is what an option is where it is left out.
        choices = [choice for choice in event.choices if choice != "None"]
        meant = in_place_of(event.value, choices, f"{event.prog} --help")
        _refuse(f"{_as_typed(event.argument.display_name())} {event.value}: {meant}")
    if isinstance(event, tyro_errors.BadValue) and event.reason == "too_few_values":
        _refuse(
            f"{_as_typed(event.argument.display_name())}: give its value, {event.argument.lowered.metavar}, behind it"
        )
    if isinstance(event, tyro_errors.MissingSubcommand):
        _refuse(f"name what to run behind {event.prog}; {event.prog} --help lists what there is")
    if isinstance(event, tyro_errors.MissingArgs):
        names = ", ".join(argument.arg.display_name() for argument in event.missing_arguments)
        _refuse(f"{names}: missing; {event.prog} --help says what it takes")
    if isinstance(event, tyro_errors.InstantiationFailure):
        if event.argument is None:
            _refuse(with_flag(event.message, line))
        message = event.message
        if (number := _NUMBER.match(message)) is not None:
            message = f"give a {'whole number' if number['whole'] else 'number'}"
        flag = event.argument.display_name()
        value = next((f" {after}" for token, after in itertools.pairwise(line) if _name(token) == _name(flag)), "")
        _refuse(f"{_as_typed(flag)}{value}: {message}")


def _as_typed(option: str) -> str:
    return _typed.get(option, option)


def _refuse(sentence: str) -> NoReturn:
    raise ValueError(sentence)


def with_flag(message: str, line: Sequence[str]) -> str:
    """A message on a setting, `setting = value…`, with the option by which the value was given, where it was.

    The option stands for the setting's name where that is the option's last word, and else before the message.
    """
    head = _SETTING.match(message)
    if head is None:
        return message
    words = f" {re.sub(r'[^a-zα-ω0-9]+', ' ', head[0].lower()).strip()} "
    for token in line:
        last = f" {_name(token).rpartition('.')[2].replace('-', ' ')} "
        if token.startswith("--") and last in words:
            option = _as_typed(token.partition("=")[0])
            return f"{option} {message[head.end() :]}" if last == words else f"{option}: {message}"
    return message


def options_of(arguments: Any, program: str, line: Sequence[str]) -> list[str]:
    """Every option of a command, or of the subcommand that a line begins with, as --help writes them."""
    begin = [line[0]] if line and not line[0].startswith("-") else []
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(SystemExit):
        tyro.cli(arguments, prog=program, args=[*begin, "--help"])
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text.getvalue())
    return list(dict.fromkeys(re.findall(r"(?<=[\s│,])--[a-z][\w.-]*", plain)))


def understood(token: str, options: Sequence[str]) -> str | None:
    """The one option that a token's last word means, with the token's own value behind `=`; None where none or several.

    Args:
        token: of the command line, such as `--lr` or `--lr=0.1`.
        options: every option that there is.
    """
    if not token.startswith("--"):
        return None
    name, equals, value = token.partition("=")
    group, dot, word = _name(name).rpartition(".")
    end = f".{group}{dot}{ABBREVIATIONS.get(word, word)}"
    ends = [option for option in options if f".{option.removeprefix('--')}".endswith(end)]
    return f"{ends[0]}{equals}{value}" if len(ends) == 1 else None


def unknown(token: str, program: str, line: Sequence[str], options: Sequence[str]) -> str:
    """One sentence on a token that a command does not take, with the nearest options."""
    begin = f" {line[0]}" if line and not line[0].startswith("-") and line[0] != token else ""
    if not token.startswith("-"):
        return f"{token}: {program}{begin} takes no such word; {program}{begin} --help shows its options"
    group, dot, word = _name(token).rpartition(".")
    by_name: dict[str, list[str]] = {}
    for option in options:
        for name in dict.fromkeys((option.removeprefix("--"), option.removeprefix("--").rpartition(".")[2])):
            by_name.setdefault(name, []).append(option)
    names = nearest(f"{group}{dot}{ABBREVIATIONS.get(word, word)}", by_name)
    close = list(dict.fromkeys(option for name in names for option in by_name[name]))[:MOST]
    meant = f"did you mean {either(close)}?" if close else f"{program}{begin} --help shows them"
    return f"{token.partition('=')[0]}: {program}{begin} has no such option; {meant}"


def _name(token: str) -> str:
    return token.partition("=")[0].removeprefix("--").replace("_", "-").lower()


Rewriting = Callable[[list[str]], list[str]]
"""A change of the command line before it is parsed."""
