"""A conversation in the terminal: with a base model each line is a text to continue, with a chat model a turn."""

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import typer

from fathom.corpus.special_tokens import THINK_END
from fathom.errors import FathomError, GenerationError

if TYPE_CHECKING:
    from fathom.engine.engine import Engine, Stream
    from fathom.engine.sampling import SamplingParams
    from fathom.serve.encoding import Message

HELP = """/help   this list
/reset  forget what was said
/exit   leave (or Ctrl-D)
Ctrl-C while the model writes ends the text; at an empty line it leaves."""


class Partner(Protocol):
    """Someone to talk to."""

    greeting: str

    def reply(self, line: str) -> Iterator[str]:
        """Answer a line, piece by piece."""

    def reset(self) -> None:
        """Forget the conversation."""


class Completer:
    """A base model: continues each line as a text of its own."""

    greeting = "This is a base model: it continues what you write. Begin a text; /help lists the commands."

    def __init__(self, engine: "Engine", params: "SamplingParams") -> None:
        self._engine, self._params = engine, params

    def reply(self, line: str) -> Iterator[str]:
        """Repeat the line and continue it."""
        stream = self._engine.stream(line, self._params)
        yield line
        yield from stream

    def reset(self) -> None:
        """There is nothing to forget."""


class Chatter:
    """A chat model: remembers the turns, and forgets the oldest when the context is full."""

    greeting = "Say something; /help lists the commands."

    def __init__(self, engine: "Engine", params: "SamplingParams", system: str = "") -> None:
        self._engine, self._params, self._system = engine, params, system
        self._turns: list[Message] = []

    def reply(self, line: str) -> Iterator[str]:
        """Answer a turn and remember it, whole or as far as it was heard, without its thoughts."""
        from fathom.serve.encoding import Message

        self._turns.append(Message("user", line))
        try:
            stream = self._stream()
        except FathomError:
            self._turns.pop()
            raise
        try:
            yield from stream
        finally:
            self._turns.append(Message("assistant", stream.completion.text.rpartition(THINK_END)[2].lstrip("\n")))

    def reset(self) -> None:
        """Forget all turns."""
        self._turns.clear()

    def _stream(self) -> "Stream":
        from fathom.serve.encoding import Message

        system = [Message("system", self._system)] if self._system else []
        context = self._engine.model.config.max_position_embeddings
        while True:
            prompt = turns_of(self._engine, [*system, *self._turns])
            if len(prompt) + min(self._params.max_tokens, context // 2) <= context or len(self._turns) < 3:
                return self._engine.stream(prompt, self._params)
            del self._turns[:2]


def turns_of(engine: "Engine", messages: list["Message"]) -> tuple[int, ...]:
    """Messages in the model's own format, as the server writes it; a model that can answer at once does."""
    from fathom.serve.encoding import encode, template_of

    tokenizer = engine.tokenizer
    if tokenizer is None:
        raise GenerationError("A chat needs a tokenizer: give the engine one.")
    template = template_of(tokenizer)
    return encode(messages, tokenizer=tokenizer, template=template, thinking=not template.can_answer_at_once).tokens


def talk(partner: Partner, *, person: bool) -> None:
    """Read lines and answer them until the end of input; greet and prompt only if there is a person."""
    if person:
        _line_editing()
        typer.echo(partner.greeting)
    while (line := _read("\n> " if person else "")) is not None:
        command = line.strip()
        if command == "/exit":
            return
        if command == "/help":
            typer.echo(HELP)
        elif command == "/reset":
            partner.reset()
        elif command.startswith("/") and command[1:].isalpha():
            typer.echo(f"There is no command {command}.\n{HELP}")
        elif command:
            _say(partner, line)


def _say(partner: Partner, line: str) -> None:
    pieces = partner.reply(line)
    try:
        for piece in pieces:
            typer.echo(piece, nl=False)
            sys.stdout.flush()
    except KeyboardInterrupt:
        pass
    except FathomError as error:
        typer.echo(str(error), err=True)
    finally:
        if hasattr(pieces, "close"):
            pieces.close()
    typer.echo()


def _read(prompt: str) -> str | None:
    try:
        return input(prompt)
    except (EOFError, KeyboardInterrupt):
        if prompt:
            typer.echo()
        return None


def _line_editing() -> None:
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  (importing it gives `input` its line editing and history)
