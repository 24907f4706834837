"""DeepSeek's reserved tokens, spelled as in its own tokenizer (bars are U+FF5C, low lines U+2581)."""

BEGIN_OF_SENTENCE = "<｜begin▁of▁sentence｜>"
END_OF_SENTENCE = "<｜end▁of▁sentence｜>"
PAD = "<｜▁pad▁｜>"

THINK_BEGIN = "<think>"
THINK_END = "</think>"
FIM_HOLE = "<｜fim▁hole｜>"
FIM_BEGIN = "<｜fim▁begin｜>"
FIM_END = "<｜fim▁end｜>"
USER = "<｜User｜>"
ASSISTANT = "<｜Assistant｜>"
END_OF_TURN = "<|EOT|>"
TOOL_CALLS_BEGIN = "<｜tool▁calls▁begin｜>"
TOOL_CALLS_END = "<｜tool▁calls▁end｜>"
TOOL_CALL_BEGIN = "<｜tool▁call▁begin｜>"
TOOL_CALL_END = "<｜tool▁call▁end｜>"
TOOL_OUTPUTS_BEGIN = "<｜tool▁outputs▁begin｜>"
TOOL_OUTPUTS_END = "<｜tool▁outputs▁end｜>"
TOOL_OUTPUT_BEGIN = "<｜tool▁output▁begin｜>"
TOOL_OUTPUT_END = "<｜tool▁output▁end｜>"
TOOL_SEPARATOR = "<｜tool▁sep｜>"

FIRST = (BEGIN_OF_SENTENCE, END_OF_SENTENCE, PAD)
"""Ids 0, 1 and 2, as in DeepSeek-V3."""

LAST = (
    THINK_BEGIN,
    THINK_END,
    FIM_HOLE,
    FIM_BEGIN,
    FIM_END,
    USER,
    ASSISTANT,
    END_OF_TURN,
    TOOL_CALLS_BEGIN,
    TOOL_CALLS_END,
    TOOL_CALL_BEGIN,
    TOOL_CALL_END,
    TOOL_OUTPUTS_BEGIN,
    TOOL_OUTPUTS_END,
    TOOL_OUTPUT_BEGIN,
    TOOL_OUTPUT_END,
    TOOL_SEPARATOR,
)
"""The last ids of the vocabulary, in the order of DeepSeek-V3's 128798 to 128814."""

HIDDEN = frozenset((*FIRST, END_OF_TURN))
"""Marked "special", that is left out of decoded text; the others remain visible, as in DeepSeek-V3."""


def placeholder(number: int) -> str:
    """A reserved entry that fills a vocabulary which the text was too short to fill."""
    return f"<｜place▁holder▁no▁{number}｜>"
