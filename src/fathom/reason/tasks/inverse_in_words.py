"""The task `inverse` with its thinking in words of two languages, so that languages can be mixed, and kept apart.

    User: 从x开始，依次+3，*7，+2（只取个位）：结果是4。
    Assistant: <think>
    试 x=5:8,6,8-4=4 错
    try x=9:2,4,6-4=2 no
    试 x=7:0,0,2-4=8 错
    ...

What is tried and checked is the same in both; the word before an attempt and the verdict after a check are in one of
them. A base reads replies of which some change language from line to line, as text that was gathered widely does.
"""

import random
import re
from dataclasses import dataclass, replace

from fathom.reason.language import language_share
from fathom.reason.response import read_response, response_of
from fathom.reason.task import Language, Problem, Score
from fathom.reason.tasks.inverse import BASE, Inverse, attempt, checked_attempt, results

TRY: dict[Language, str] = {"en": "try", "zh": "试"}
FITS: dict[Language, str] = {"en": "yes", "zh": "对"}
FAILS: dict[Language, str] = {"en": "no", "zh": "错"}
SO: dict[Language, str] = {"en": "so", "zh": "得"}
"""What a conclusion begins with. A base never reads it: it belongs to the readable form alone."""
LINE = re.compile(r"(?:try|试) (x=\d:\d(?:,\d)*(?:-\d=(\d))?)(?: (yes|no|对|错))?", re.ASCII)
CONCLUSION = re.compile(r"(?:so|得) (x=\d)", re.ASCII)


@dataclass(frozen=True)
class InverseInWords(Inverse):
    """Chains of `steps` operations in English and Chinese."""

    languages: tuple[Language, ...] = ("en", "zh")
    mixing: float = 0.5
    """Share of a base's replies that take a language anew at each line."""
    name: str = "inverse_in_words"

    def score(self, problem: Problem, text: str, finished: bool = True) -> Score:
        """As `inverse`, with the share of words in the problem's language; `readable` counts texts in that form."""
        response = read_response(text)
        plain = super().score(problem, text, finished)
        found = super().score(problem, f"{_without_words(response.thinking)}</think>", finished).counts
        readable = finished and text == self.readable(text, problem.language)
        language = language_share(response.thinking, problem.language)
        return replace(plain, language=language, counts={**found, "readable": int(readable)})

    # -- what a base reads

    def direct(self, problem: Problem, rng: random.Random) -> str:
        """One attempt, kept as the answer."""
        start = rng.randrange(BASE)
        (language,) = self._languages(problem, rng, 1)
        return response_of(f"{TRY[language]} {attempt(problem, start)}\n", f"x={start}")

    def searching(self, problem: Problem, rng: random.Random) -> str:
        """Attempts in a random order, each checked, until one leaves nothing."""
        starts = rng.sample(range(BASE), BASE)
        lines = []
        for start, language in zip(starts, self._languages(problem, rng, BASE), strict=True):
            lines.append(_line(checked_attempt(problem, start), language))
            if results(problem.data["chain"], start)[-1] == problem.data["end"]:
                break
        return response_of("".join(lines), f"x={start}")

    def forced(self, problem: Problem, rng: random.Random) -> str:
        """A first attempt that failed, with its check, in the problem's language."""
        return _line(super().forced(problem, rng).strip(), problem.language)

    def _languages(self, problem: Problem, rng: random.Random, lines: int) -> list[Language]:
        """The language of each line."""
        if rng.random() >= self.mixing:
            return [problem.language] * lines
        return [rng.choice(self.languages) for _ in range(lines)]

    # -- the readable form

    def readable(self, text: str, language: Language) -> str | None:
        """The reply in readable form: all lines in `language`, no attempt twice, a conclusion before the answer.

        None for a text that holds anything but attempts with checks and, where it has one, the conclusion at its end,
        or whose answer is not the start that was found last.
        """
        response = read_response(text)
        *lines, end = response.thinking.split("\n")
        if end or response.answer is None or not lines:
            return None
        if CONCLUSION.fullmatch(lines[-1]):
            lines.pop()
        cores: list[str] = []
        for line in lines:
            matched = LINE.fullmatch(line)
            if matched is None or matched[2] is None:
                return None
            if matched[1] not in cores:
                cores.append(matched[1])
        if not cores or not cores[-1].startswith(f"{response.answer}:"):
            return None
        written = "".join(_line(core, language) for core in cores)
        return response_of(f"{written}{SO[language]} {response.answer}\n", response.answer)


def _line(core: str, language: Language) -> str:
    verdict = FITS if core.endswith("=0") else FAILS
    return f"{TRY[language]} {core} {verdict[language]}\n"


def _without_words(thinking: str) -> str:
    """The attempts as `inverse` writes them, without a conclusion at the end; other lines stay and are no attempts."""
    lines = [line for line in thinking.split("\n") if line]
    if lines and CONCLUSION.fullmatch(lines[-1]):
        lines.pop()
    return "\n".join(matched[1] if (matched := LINE.fullmatch(line)) else f"{line} " for line in lines)
