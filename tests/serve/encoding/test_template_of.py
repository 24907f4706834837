import json
import shutil

import pytest

from fathom.corpus.bpe import chat_template
from fathom.corpus.tokenizer import Tokenizer
from fathom.errors import UsageError
from fathom.serve.encoding import Channel, Message, Tool, ToolStyle, encode, template_of

CHATML = """{%- if tools %}tools: <tool_call></tool_call>{{ tools | tojson }}{% endif -%}
{%- for message in messages -%}
<|{{ message.role }}|>{{ message.content }}{{ eos_token }}
{%- endfor -%}
{%- if add_generation_prompt %}<|assistant|>{% if enable_thinking %}<think>{% endif %}{% endif %}"""


@pytest.fixture
def speaking(tokenizer, tmp_path):
    """A tokenizer whose folder has a chat template, and some more reserved tokens."""

    def make(source, *reserved):
        description = json.loads(tokenizer.path.read_text(encoding="utf-8"))
        tokens = description["added_tokens"]
        for number, name in enumerate(reserved):
            extra = {"id": tokenizer.vocab_size + number, "content": name, "special": False, "normalized": False}
            tokens.append(tokens[-1] | extra)
        (tmp_path / "tokenizer.json").write_text(json.dumps(description), encoding="utf-8")
        shutil.copy(tokenizer.path.with_name("tokenizer_config.json"), tmp_path)
        config = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
        config["chat_template"] = source
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
        return Tokenizer(tmp_path)

    return make


@pytest.mark.parametrize(
    ("source", "name"),
    [
        (None, "deepseek-v3"),
        (chat_template(), "deepseek-v3"),
        ("{{'<｜User｜>' + x + '<｜tool▁sep｜>'}}{{'<｜Assistant｜><think>\\n'}}", "deepseek-r1"),
        ("{% if not thinking is defined %}{% endif %}{{'<｜tool▁sep｜><｜Assistant｜></think>'}}", "deepseek-v3.1"),
        (CHATML, "jinja"),
    ],
)
def test_a_folder_says_which_format_it_speaks(speaking, source, name):
    assert template_of(speaking(source)).name == name


def test_a_foreign_template_is_asked_to_think_and_to_offer_tools(speaking):
    tokenizer = speaking(CHATML, "<|user|>", "<|assistant|>", "<tool_call>", "</tool_call>")
    template = template_of(tokenizer)
    messages = [Message("user", "Hi <|assistant|>")]
    at_once = encode(messages, tokenizer=tokenizer, template=template)
    assert at_once.tokens[-1] == tokenizer.reserved["<|assistant|>"]
    assert at_once.tokens.count(tokenizer.reserved["<|assistant|>"]) == 1
    assert at_once.state.channel is Channel.CONTENT
    thinking = encode(messages, tokenizer=tokenizer, template=template, thinking=True, tools=[Tool("f")])
    assert thinking.state.channel is Channel.REASONING
    assert thinking.state.tool_style is ToolStyle.TAGGED


def test_a_foreign_template_without_tools_says_so(speaking):
    tokenizer = speaking("{{ messages[0].content }}")
    with pytest.raises(UsageError, match="no place for tools"):
        encode([Message("user", "Hi")], tokenizer=tokenizer, template=template_of(tokenizer), tools=[Tool("f")])


@pytest.mark.parametrize("thinking", [False, True])
def test_an_answer_that_was_begun_is_gone_on_with_in_a_foreign_template(speaking, thinking):
    tokenizer = speaking(CHATML, "<|user|>", "<|assistant|>", "<think>", "</think>")
    asked = Message("user", "Hi")
    begun = Message("assistant", "The sea", reasoning="Deep?" if thinking else "", prefix=True)
    prompt = encode([asked, begun], tokenizer=tokenizer, template=template_of(tokenizer), thinking=thinking)
    question = encode([asked], tokenizer=tokenizer, template=template_of(tokenizer), thinking=thinking).tokens
    assert prompt.tokens[: len(question)] == question
    thoughts = "Deep?\n\n\n" if thinking else ""
    written = tokenizer.decode(prompt.tokens[len(question) :])
    assert written.replace("</think>", "") == thoughts + "The sea"
    assert prompt.tokens.count(tokenizer.reserved["</think>"]) == thinking
    assert (prompt.state.channel, prompt.state.fresh) == (Channel.CONTENT, False)


def test_thoughts_that_were_begun_are_gone_on_with_in_a_foreign_template(speaking):
    tokenizer = speaking(CHATML, "<|user|>", "<|assistant|>", "<think>", "</think>")
    template, begun = template_of(tokenizer), Message("assistant", "", reasoning="Deep? ", prefix=True)
    prompt = encode([Message("user", "Hi"), begun], tokenizer=tokenizer, template=template, thinking=True)
    assert (prompt.state.channel, prompt.state.fresh) == (Channel.REASONING, False)
    assert prompt.tokens.count(tokenizer.reserved["<think>"]) == 1
