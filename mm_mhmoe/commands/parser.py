"""A parser from a function: its signature and docstring are the options of a command."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import ArgumentParser

# What is said about every option that may also be absent, whatever is wrong with it.
_ABOUT_ABSENCE = re.compile(
    r"\n *(Does not validate against any of the Union subtypes|Subtypes: .*|Errors:|- Expected a <class 'NoneType'>"
    r"|Given value type: .*|Given value: NestedArg\(.*\))(?=\n|$)"
)


class Parser(ArgumentParser):
    """No abbreviated options: a typo must be an error, never another option."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        super().error(_ABOUT_ABSENCE.sub("", message) if "'NoneType'" in message else message, ex)

    def format_help(self, *args: Any, **kwargs: Any) -> str:
        return re.sub(r"<class\s+'Path'>", "path", super().format_help(*args, **kwargs))


def command_parser(function: Callable[..., Any], name: str, description: str) -> Parser:
    """A parser of one function's arguments, with --config and --print_config."""
    # The usual list of all options in `usage` would push an error's message out of sight.
    first = " RECORD ..." if "records" in inspect.signature(function).parameters else ""
    usage = f"mm-mhmoe {name}{first} [--config FILE] [OPTION ...]"
    parser = Parser(prog=f"mm-mhmoe {name}", usage=usage, description=description)
    parser.add_argument(
        "--config", action="config", help="YAML file with any of the options below; options win over it."
    )
    parser.add_function_arguments(function, as_group=False, sub_configs=True)
    return parser


def spelt_out(argv: Sequence[str], function: Callable[..., Any]) -> list[str]:
    """Short forms: of a training command --fast_dev_run, --resume VALUE, --eval_tasks VALUE; records come first."""
    parameters = inspect.signature(function).parameters
    if "records" in parameters:
        count = next((i for i, word in enumerate(argv) if word.startswith("-")), len(argv))
        return [*(["--records", json.dumps(list(argv[:count]))] if count else []), *argv[count:]]
    if "run" not in parameters:
        return list(argv)
    short = r"^--(fast_dev_run|resume|eval_tasks|eval_every|eval_data_dir)(?==|$)"
    words = [re.sub(short, r"--run.\1", word) for word in argv]
    return [
        f"{word}=true" if word == "--run.fast_dev_run" and following not in ("true", "false") else word
        for word, following in zip(words, [*words[1:], ""], strict=True)
    ]


def configured(function: Callable[..., Any], config: Path, **changes: Any) -> dict[str, Any]:
    """The arguments of `function` from a YAML file, some of them changed (`{"encoder.ffn": "dense"}` goes inside)."""
    parser = command_parser(function, function.__name__, "")
    argv = [f"--config={config}", *(f"--{name}={value}" for name, value in changes.items())]
    values = parser.instantiate_classes(parser.parse_args(argv))
    return {name: value for name, value in vars(values).items() if name != "config"}
