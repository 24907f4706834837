"""What a scripted model says in the journeys through the chat page and in its pictures."""

from fathom.serve.page.access import LOCAL
from fathom.serve.page.answerer import Said
from fathom.serve.store.records import Role

THOUGHT = (
    "The question is how pressure grows with depth. Sea water is nearly incompressible, so the hydrostatic equation "
    "with constant density will do.\n\n$p = p_0 + \\rho g h$ with $\\rho \\approx 1025\\ \\mathrm{kg/m^3}$. I should "
    "give the formula, a small table and a few lines of code."
)
ANSWER = r"""Pressure grows almost **linearly** with depth, because water barely compresses [citation:1]:

$$
p(h) = p_0 + \rho g h, \qquad \rho \approx 1025\ \mathrm{kg/m^3}
$$

| Place | Depth | Pressure |
|:--|--:|--:|
| Scuba limit | 40 m | 5 bar |
| Mean sea floor | 3,700 m | 373 bar |
| Mariana Trench | 10,935 m | 1,100 bar [citation:2] |

So at depth \(h\) in metres it is about \(1 + h/10\) bar. In code:

```python
def pressure(depth: float, density: float = 1025.0) -> float:
    "Pressure in bar at `depth` metres."
    return 1.0 + density * 9.81 * depth / 1e5
```

1. Every ten metres add one atmosphere.
2. At the bottom of the trench, \(\boxed{1.1 \times 10^8\ \text{Pa}}\) rest on everything.
"""
CHINESE_THOUGHT = "用户想知道海水压强随深度的变化。海水近似不可压缩，用流体静力学公式 $p = p_0 + \\rho g h$ 即可。"
CHINESE_ANSWER = r"""海水几乎不可压缩，所以压强随深度**近似线性**增大 [citation:1]：

$$
p(h) = p_0 + \rho g h
$$

- 每下潜十米，约增加一个大气压；
- 在马里亚纳海沟底部（10,935 米），约为 \(1.1 \times 10^8\) 帕 [citation:2]。

```python
def 压强(深度: float) -> float:
    return 1.0 + 1025 * 9.81 * 深度 / 1e5  # 单位：巴
```
"""
PRESSURE = """# Pressure

Sea water is nearly incompressible, so its pressure grows linearly with depth.

海水几乎不可压缩，压强随深度线性增大。
"""
TRENCH = """# Mariana Trench

The Challenger Deep lies 10,935 m below the sea. The pressure there is about 1,100 bar.

马里亚纳海沟深 10,935 米，底部压强约 1100 巴。
"""
SHIPS = "A fathom is six feet: what a sailor measures with outstretched arms.\n"
DOCUMENTS = {"oceans/pressure.md": PRESSURE, "oceans/mariana-trench.md": TRENCH, "ships.txt": SHIPS}


def words(text):
    """A text in pieces of about a word, as a model writes it."""
    piece = ""
    for character in text:
        piece += character
        if character in " \n，。" or len(piece) > 12:
            yield piece
            piece = ""
    if piece:
        yield piece


def speak(messages, thinking):
    """Think, then answer, in the language of the question."""
    question = messages[-1].content
    chinese = question.rstrip().endswith("？")
    if thinking:
        for piece in words(CHINESE_THOUGHT if chinese else THOUGHT):
            yield Said(reasoning=piece)
    if "Summarise our conversation" in question:
        answer = "You asked how pressure grows with depth; about one bar every ten metres."
    elif "pressure" in question.lower() or "压强" in question:
        answer = CHINESE_ANSWER if chinese else ANSWER
    else:
        answer = f"About that I know little: {question.splitlines()[-1]}"
    for piece in words(answer):
        yield Said(content=piece)


def write_documents(folder):
    """A folder of documents to search in."""
    for name, text in DOCUMENTS.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def fill_history(store, chats, turns=5):
    """Chats as a year of use leaves them; the first is the oldest. Only one of them speaks of a narwhal."""
    for number in range(chats):
        chat = store.chats.create(LOCAL, f"Question {number} about the sea and its depth").id
        parent = None
        for turn in range(turns):
            text = f"What about turn {turn} of question {number}?" + (" A narwhal!" if number == turn == 3 else "")
            parent = store.messages.append(LOCAL, chat, parent, Role.USER, text).id
            parent = store.messages.append(LOCAL, chat, parent, Role.ASSISTANT, ANSWER).id
