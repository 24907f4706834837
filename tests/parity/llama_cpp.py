"""llama.cpp as a peer: greedy continuations of token prompts, and tokens of texts, from a process of its own.

As a program it reads a request as JSON from standard input: {"model", "prompts", "texts", "tokens", "likeliest",
"precise", "draft"}. In a process of its own, because llama.cpp ends the process where a file does not suit it.
"""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

CONTEXT = 512


class Answer(NamedTuple):
    """What llama.cpp made of a file."""

    continuations: list[list[int]]
    ids: list[list[int]]
    """Tokens of each text."""
    likeliest: list[list[list[tuple[int, float]]]]
    """Of each place of each continuation, the likeliest tokens and their log-probabilities."""
    accepted: list[int]
    """Of each continuation, tokens that the MTP module had drafted."""


def ask(
    model: Path,
    prompts: Sequence[Sequence[int]] = (),
    tokens: int = 24,
    texts: Sequence[str] = (),
    timeout: int = 250,
    *,
    likeliest: int = 0,
    precise: bool = True,
    draft: bool = False,
) -> Answer:
    """Continue each of `prompts` by at most so many tokens, fewer where the model ends; split `texts` into tokens.

    `precise` keeps its cache in FP32 and its plain attention; without, both are as llama.cpp chooses by itself. With
    `draft`, the file's MTP module drafts one token at a time.
    """
    request = {"model": str(model), "prompts": [list(prompt) for prompt in prompts], "texts": texts, "tokens": tokens}
    request |= {"likeliest": likeliest, "precise": precise, "draft": draft}
    result = subprocess.run(
        [sys.executable, __file__],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if result.returncode:
        raise AssertionError(f"llama.cpp cannot run {model.name}:\n{result.stderr[-3000:]}")
    return Answer(*json.loads(result.stdout.splitlines()[-1]))


def _serve(request: dict[str, Any]) -> Answer:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = request["model"]
    params.n_ctx, params.n_parallel, params.port, params.warmup, params.verbosity = CONTEXT, 1, 0, False, -1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    if request["precise"]:
        # Its cache is FP16 unless told otherwise, and its fused attention rounds to it.
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    if request["draft"]:
        params.load_mtp = True
        params.speculative.types = [xllamacpp.common_speculative_type.COMMON_SPECULATIVE_TYPE_DRAFT_MTP]
        params.speculative.draft.n_max, params.speculative.draft.p_min = 1, 0.0
    server = xllamacpp.Server(params)

    def post(path: str, body: dict[str, Any]) -> Any:
        data = json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(server.listening_address + path, data, headers)) as reply:
            return json.loads(reply.read())

    greedy = {"temperature": 0.0, "return_tokens": True, "cache_prompt": False, "n_predict": request["tokens"]}
    if request["likeliest"]:
        greedy["n_probs"] = request["likeliest"]
    written = [post("/completion", greedy | {"prompt": prompt}) for prompt in request["prompts"]]
    likeliest = [
        [
            [(token["id"], token["logprob"]) for token in place["top_logprobs"]]
            for place in each["completion_probabilities"]
        ]
        for each in written
        if request["likeliest"]
    ]
    plain = {"add_special": False, "parse_special": False}
    ids = [post("/tokenize", plain | {"content": text})["tokens"] for text in request["texts"]]
    accepted = [each["timings"].get("draft_n_accepted", 0) for each in written]
    return Answer([each["tokens"] for each in written], ids, likeliest, accepted)


if __name__ == "__main__":
    print(json.dumps(_serve(json.load(sys.stdin))), flush=True)
