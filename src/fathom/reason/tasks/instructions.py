"""Small instructions in English and Chinese that need no thinking: what R1's later stages call general data.

    User: Say the last of: cat, red, cup.
    Assistant: <think>
    </think>
    <answer>cup</answer>

The rule knows what was asked for, so no reward model is needed. Held-out instructions put known words together in ways
that no training has shown.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from fathom.reason.language import language_share
from fathom.reason.response import prompt_of, read_response, response_of
from fathom.reason.task import Language, Problem, Score

WORDS: dict[Language, tuple[tuple[str, ...], ...]] = {
    "en": (
        ("cat", "dog", "bird", "fish", "horse"),
        ("tree", "flower", "grass", "rice", "leaf"),
        ("red", "blue", "green", "white", "black"),
        ("door", "cup", "book", "lamp", "table"),
    ),
    "zh": (
        ("猫", "狗", "鸟", "鱼", "马"),
        ("树", "花", "草", "米", "叶"),
        ("红", "蓝", "绿", "白", "黑"),
        ("门", "杯", "书", "灯", "桌"),
    ),
}
"""Four sorts of five words, the same in both languages."""
SORTS: dict[Language, tuple[str, ...]] = {
    "en": ("an animal", "a plant", "a colour", "a thing"),
    "zh": ("动物", "植物", "颜色", "东西"),
}
COMMA: dict[Language, str] = {"en": ", ", "zh": "，"}
FACTS = 8
"""Lines of a document of facts."""
KEPT, WRONG = 0.4, 0.3
"""Shares of a base's careless replies that are right all the same, and wrong; the others lack the form."""


@dataclass(frozen=True)
class Asked:
    """One instruction, in numbers: words are places in `WORDS`."""

    kind: str
    sort: int
    words: tuple[tuple[int, int], ...]
    times: int = 1


Texts = dict[Language, str]
KINDS: dict[str, tuple[Texts, Callable[[list[str], Asked], list[str]]]] = {
    "repeat": ({"en": "Say {words} {times} times.", "zh": "把{words}说{times}遍。"}, lambda w, a: w * a.times),
    "first": ({"en": "Say the first of: {words}.", "zh": "说出第一个：{words}。"}, lambda w, a: w[:1]),
    "last": ({"en": "Say the last of: {words}.", "zh": "说出最后一个：{words}。"}, lambda w, a: w[-1:]),
    "reverse": ({"en": "Say in reverse: {words}.", "zh": "倒过来说：{words}。"}, lambda w, a: w[::-1]),
    "sort": (
        {"en": "Which is {sort}: {words}?", "zh": "哪个是{sort}：{words}？"},
        lambda w, a: [word for word, (sort, _) in zip(w, a.words, strict=True) if sort == a.sort],
    ),
}
LENGTHS = {"repeat": 1, "first": 3, "last": 3, "reverse": 2, "sort": 3}
"""Words of each kind of instruction."""


@dataclass(frozen=True)
class Instructions:
    """Instructions of five kinds, in one language or both."""

    languages: tuple[Language, ...] = ("en", "zh")
    name: str = "instructions"

    def sample(self, rng: random.Random) -> Problem:
        """An instruction; the split goes by its kind and words, whatever the language."""
        language = rng.choice(self.languages)
        kind = rng.choice(tuple(KINDS))
        sorts = rng.sample(range(4), LENGTHS[kind])
        words = tuple((sort, rng.randrange(5)) for sort in sorts)
        asked = Asked(kind, rng.choice(sorts), words, rng.randint(2, 5) if kind == "repeat" else 1)
        shown = [WORDS[language][sort][place] for sort, place in words]
        texts, answer = KINDS[kind]
        sort = SORTS[language][asked.sort]
        question = texts[language].format(words=COMMA[language].join(shown), times=asked.times, sort=sort)
        return Problem(
            prompt=prompt_of(question),
            answer=" ".join(answer(shown, asked)),
            key=f"{self.name} {asked}",
            language=language,
            data={"words": shown},
        )

    def score(self, problem: Problem, text: str, finished: bool = True) -> Score:
        """Right if the answer is what was asked for and nothing else; the language is that of the whole reply."""
        response = read_response(text)
        right = response.answer is not None and finished and response.answer.split() == problem.answer.split()
        said = response.thinking + (response.answer or "")
        return Score(float(right), float(response.has_form and finished), language_share(said, problem.language))

    def readable(self, text: str, language: Language) -> str | None:
        """The reply without thinking, which an instruction does not need."""
        response = read_response(text)
        return response_of("", response.answer) if response.answer is not None else None

    # -- what a base reads

    def direct(self, problem: Problem, rng: random.Random) -> str:
        """A careless reply: right, or some of the words, or without the form."""
        lot = rng.random()
        if lot < KEPT:
            return self.searching(problem, rng)
        said = " ".join(rng.choices(problem.data["words"], k=rng.randint(1, 3)))
        return response_of("", said) if lot < KEPT + WRONG else f"{said}\n"

    def searching(self, problem: Problem, rng: random.Random) -> str:
        """A helpful reply; there is nothing to search for."""
        return response_of("", problem.answer)

    def facts(self, rng: random.Random) -> str:
        """Which words are of which sort."""
        lines = []
        for _ in range(FACTS):
            language, sort = rng.choice(self.languages), rng.randrange(4)
            lines.append(f"{SORTS[language][sort]}: {rng.choice(WORDS[language][sort])}\n")
        return "".join(lines)
