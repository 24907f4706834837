"""Paged attention of few queries a sequence, the keys of each shared out among programs (flash decoding, Dao 2023).

A program reads a part of one token's keys for up to 16 heads, keeps a running softmax (Milakov and Gimelshein 2018),
and leaves its mean of the values with the logarithm of its weights' sum; a second kernel weighs the parts. Rows beyond
a sequence's length are never loaded. Sums are FP32.
"""

import functools

import torch
import triton
import triton.language as tl
from torch import Tensor

from fathom.kernels.gpu.door import agrees, processors
from fathom.kernels.paged_attention import Ragged, grouped_attention_reference, latent_attention_reference

HEADS = 16
"""Heads a program takes: the fewest rows of a tensor core's product."""
KEYS_A_PART = 128
"""So few keys are not shared out further."""
MOST_PARTS = 32
SIZES = ["sequences", "heads", "parts", "table_width"]
"""Numbers that change from step to step: not worth a kernel of their own for being 1 or even."""


@triton.jit(do_not_specialize=SIZES)  # type: ignore[untyped-decorator]
def latent_parts(
    q: tl.tensor, store: tl.tensor, tables: tl.tensor, lengths: tl.tensor, starts: tl.tensor,
    mixed_parts: tl.tensor, log_sums: tl.tensor, scale: tl.tensor,
    sequences: tl.tensor, heads: tl.tensor, parts: tl.tensor, table_width: tl.tensor,
    RANK: tl.constexpr, ROPE: tl.constexpr, BLOCK_SIZE: tl.constexpr, RANK_PADDED: tl.constexpr,
    ROPE_PADDED: tl.constexpr, HEADS: tl.constexpr, KEYS: tl.constexpr, SEQUENCES: tl.constexpr,
    OPERAND: tl.constexpr,
) -> None:  # fmt: skip
    """Absorbed MLA: program (token, group of heads, part); the values are the first RANK numbers of the keys."""
    token, group, part = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    number = tl.arange(0, SEQUENCES)
    begins = tl.load(starts + number, mask=number <= sequences, other=2147483647)
    sequence = tl.sum((begins <= token).to(tl.int32), 0) - 1
    visible = tl.load(lengths + sequence) - (tl.load(starts + sequence + 1) - 1 - token)
    share = ((visible + KEYS - 1) // KEYS + parts - 1) // parts * KEYS
    first = part * share
    last = tl.minimum(first + share, visible)

    WIDTH: tl.constexpr = RANK + ROPE
    head = group * HEADS + tl.arange(0, HEADS)
    is_head = head < heads
    r, p = tl.arange(0, RANK_PADDED), tl.arange(0, ROPE_PADDED)
    at = (token.to(tl.int64) * heads + head) * WIDTH
    q_latent = tl.load(q + at[:, None] + r[None, :], mask=is_head[:, None] & (r < RANK)[None, :], other=0.0)
    q_rope = tl.load(q + at[:, None] + RANK + p[None, :], mask=is_head[:, None] & (p < ROPE)[None, :], other=0.0)
    q_latent, q_rope = q_latent.to(OPERAND), q_rope.to(OPERAND)

    best = tl.full([HEADS], float("-inf"), tl.float32)
    total = tl.full([HEADS], 0.0, tl.float32)
    mixed = tl.full([HEADS, RANK_PADDED], 0.0, tl.float32)
    for start in range(first, last, KEYS):
        key = start + tl.arange(0, KEYS)
        seen = key < last
        block = tl.load(tables + sequence.to(tl.int64) * table_width + key // BLOCK_SIZE, mask=seen, other=0)
        row = (block.to(tl.int64) * BLOCK_SIZE + key % BLOCK_SIZE) * WIDTH
        latent = tl.load(store + row[:, None] + r[None, :], mask=seen[:, None] & (r < RANK)[None, :], other=0.0)
        rope = tl.load(store + row[:, None] + RANK + p[None, :], mask=seen[:, None] & (p < ROPE)[None, :], other=0.0)
        latent, rope = latent.to(OPERAND), rope.to(OPERAND)
        scores = tl.dot(q_latent, tl.trans(latent), input_precision="ieee")
        scores += tl.dot(q_rope, tl.trans(rope), input_precision="ieee")
        scores = tl.where(seen[None, :], scores * scale, float("-inf"))
        highest = tl.maximum(best, tl.max(scores, 1))
        weights, shrunk = tl.exp(scores - highest[:, None]), tl.exp(best - highest)
        total = total * shrunk + tl.sum(weights, 1)
        mixed = mixed * shrunk[:, None] + tl.dot(weights.to(OPERAND), latent, input_precision="ieee")
        best = highest

    place = (token.to(tl.int64) * heads + head) * parts + part
    # A part without keys weighs nothing: the logarithm of its sum stays minus infinity.
    total = tl.where(total == 0, 1.0, total)
    tl.store(log_sums + place, best + tl.log(total), mask=is_head)
    mixed = mixed / total[:, None]
    tl.store(mixed_parts + place[:, None] * RANK + r[None, :], mixed, mask=is_head[:, None] & (r < RANK)[None, :])


@triton.jit(do_not_specialize=[*SIZES, "groups"])  # type: ignore[untyped-decorator]
def grouped_parts(
    q: tl.tensor, keys: tl.tensor, values: tl.tensor, tables: tl.tensor, lengths: tl.tensor, starts: tl.tensor,
    mixed_parts: tl.tensor, log_sums: tl.tensor, scale: tl.tensor,
    sequences: tl.tensor, heads: tl.tensor, parts: tl.tensor, table_width: tl.tensor, groups: tl.tensor,
    WIDTH: tl.constexpr, BLOCK_SIZE: tl.constexpr, WIDTH_PADDED: tl.constexpr, HEADS: tl.constexpr, KEYS: tl.constexpr,
    SEQUENCES: tl.constexpr, OPERAND: tl.constexpr,
) -> None:  # fmt: skip
    """Grouped-query attention: program (token, group and up to HEADS of its heads, part)."""
    token, program, part = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    number = tl.arange(0, SEQUENCES)
    begins = tl.load(starts + number, mask=number <= sequences, other=2147483647)
    sequence = tl.sum((begins <= token).to(tl.int32), 0) - 1
    visible = tl.load(lengths + sequence) - (tl.load(starts + sequence + 1) - 1 - token)
    share = ((visible + KEYS - 1) // KEYS + parts - 1) // parts * KEYS
    first = part * share
    last = tl.minimum(first + share, visible)

    per_group = heads // groups
    slices = (per_group + HEADS - 1) // HEADS
    group = program // slices
    within = program % slices * HEADS + tl.arange(0, HEADS)
    is_head = within < per_group
    head = group * per_group + within
    c = tl.arange(0, WIDTH_PADDED)
    at = (token.to(tl.int64) * heads + head) * WIDTH
    query = tl.load(q + at[:, None] + c[None, :], mask=is_head[:, None] & (c < WIDTH)[None, :], other=0.0).to(OPERAND)

    best = tl.full([HEADS], float("-inf"), tl.float32)
    total = tl.full([HEADS], 0.0, tl.float32)
    mixed = tl.full([HEADS, WIDTH_PADDED], 0.0, tl.float32)
    for start in range(first, last, KEYS):
        position = start + tl.arange(0, KEYS)
        seen = position < last
        block = tl.load(tables + sequence.to(tl.int64) * table_width + position // BLOCK_SIZE, mask=seen, other=0)
        row = ((block.to(tl.int64) * BLOCK_SIZE + position % BLOCK_SIZE) * groups + group) * WIDTH
        wanted = seen[:, None] & (c < WIDTH)[None, :]
        key = tl.load(keys + row[:, None] + c[None, :], mask=wanted, other=0.0).to(OPERAND)
        value = tl.load(values + row[:, None] + c[None, :], mask=wanted, other=0.0).to(OPERAND)
        scores = tl.dot(query, tl.trans(key), input_precision="ieee")
        scores = tl.where(seen[None, :], scores * scale, float("-inf"))
        highest = tl.maximum(best, tl.max(scores, 1))
        weights, shrunk = tl.exp(scores - highest[:, None]), tl.exp(best - highest)
        total = total * shrunk + tl.sum(weights, 1)
        mixed = mixed * shrunk[:, None] + tl.dot(weights.to(OPERAND), value, input_precision="ieee")
        best = highest

    place = (token.to(tl.int64) * heads + head) * parts + part
    total = tl.where(total == 0, 1.0, total)
    tl.store(log_sums + place, best + tl.log(total), mask=is_head)
    mixed = mixed / total[:, None]
    tl.store(mixed_parts + place[:, None] * WIDTH + c[None, :], mixed, mask=is_head[:, None] & (c < WIDTH)[None, :])


@triton.jit(do_not_specialize=["parts"])  # type: ignore[untyped-decorator]
def combine(
    mixed_parts: tl.tensor, log_sums: tl.tensor, out: tl.tensor, parts: tl.tensor,
    WIDTH: tl.constexpr, WIDTH_PADDED: tl.constexpr, PARTS: tl.constexpr,
) -> None:  # fmt: skip
    """Program (token and head): the mean of its parts, each weighing what its keys weigh together."""
    row = tl.program_id(0).to(tl.int64)
    part = tl.arange(0, PARTS)
    top = tl.max(tl.load(log_sums + row * parts + part, mask=part < parts, other=float("-inf")), 0)
    c = tl.arange(0, WIDTH_PADDED)
    total = 0.0
    mixed = tl.full([WIDTH_PADDED], 0.0, tl.float32)
    for number in range(parts):
        weight = tl.exp(tl.load(log_sums + row * parts + number) - top)
        mixed += weight * tl.load(mixed_parts + (row * parts + number) * WIDTH + c, mask=c < WIDTH, other=0.0)
        total += weight
    tl.store(out + row * WIDTH + c, (mixed / total).to(out.dtype.element_ty), mask=c < WIDTH)


def latent_attention(q: Tensor, store: Tensor, ragged: Ragged, scale: float, rank: int) -> Tensor:
    """See `fathom.kernels.paged_attention.latent_attention_reference`; `store` is contiguous and of the type of `q`."""
    T, H, width = q.shape
    groups = -(-H // HEADS)
    launch = _Launch(q, ragged, T * groups, rank)
    latent_parts[(T, groups, launch.parts)](
        q.contiguous(), store, ragged.tables, ragged.lengths, ragged.starts, launch.mixed, launch.log_sums, scale,
        *launch.sizes,
        RANK=rank, ROPE=width - rank, BLOCK_SIZE=store.shape[1], RANK_PADDED=padded(rank),
        ROPE_PADDED=padded(width - rank), HEADS=HEADS, KEYS=16 if q.dtype == torch.float32 else 32,
        SEQUENCES=launch.sequences, OPERAND=operand(q), num_warps=4, num_stages=2,
    )  # fmt: skip
    return launch.combined()


def grouped_attention(q: Tensor, keys: Tensor, values: Tensor, ragged: Ragged, scale: float) -> Tensor:
    """See `fathom.kernels.paged_attention.grouped_attention_reference`; the stores are contiguous, of the type of q."""
    T, H, C = q.shape
    groups = keys.shape[-1] // C
    programs = groups * -(-(H // groups) // HEADS)
    launch = _Launch(q, ragged, T * programs, C)
    grouped_parts[(T, programs, launch.parts)](
        q.contiguous(), keys, values, ragged.tables, ragged.lengths, ragged.starts, launch.mixed, launch.log_sums,
        scale, *launch.sizes, groups,
        WIDTH=C, BLOCK_SIZE=keys.shape[1], WIDTH_PADDED=padded(C), HEADS=HEADS,
        KEYS=32 if q.dtype == torch.float32 else 64, SEQUENCES=launch.sequences, OPERAND=operand(q),
        num_warps=4, num_stages=2,
    )  # fmt: skip
    return launch.combined()


@functools.cache
def latent_stands(device: torch.device, dtype: torch.dtype, heads: int, width: int, rank: int, block_size: int) -> bool:
    """Whether `latent_attention` does here, for these shapes, what its reference does; tried once."""
    ragged, (q, store) = _trial(device, dtype, block_size, heads, width, width)
    return agrees(
        "latent_attention",
        lambda: latent_attention(q, store, ragged, width**-0.5, rank),
        lambda: latent_attention_reference(q, store, ragged, width**-0.5, rank),
    )


@functools.cache
def grouped_stands(
    device: torch.device, dtype: torch.dtype, heads: int, width: int, groups: int, block_size: int
) -> bool:
    """Whether `grouped_attention` does here, for these shapes, what its reference does; tried once."""
    ragged, (q, store) = _trial(device, dtype, block_size, heads, width, groups * width)
    return agrees(
        "grouped_attention",
        lambda: grouped_attention(q, store, store, ragged, width**-0.5),
        lambda: grouped_attention_reference(q, store, store, ragged, width**-0.5),
    )


def _trial(
    device: torch.device, dtype: torch.dtype, block_size: int, heads: int, width: int, row_width: int
) -> tuple[Ragged, tuple[Tensor, Tensor]]:
    """A step of two sequences over three blocks: the two tokens behind a full block, and a token alone."""
    keys, queries = (block_size + 2, 1), (2, 1)
    numbers = {"tables": [[2, 1], [0, 0]], "lengths": keys, "starts": (0, 2, 3)}
    placed = {name: torch.tensor(value, dtype=torch.int32, device=device) for name, value in numbers.items()}
    ragged = Ragged(torch.arange(3, device=device), **placed, queries=queries, keys=keys)
    generator = torch.Generator().manual_seed(0)
    drawn = (torch.randn(*shape, generator=generator) for shape in ((3, heads, width), (3, block_size, row_width)))
    q, store = (tensor.to(device, dtype) for tensor in drawn)
    return ragged, (q, store)


class _Launch:
    """What both kernels need beside their inputs."""

    def __init__(self, q: Tensor, ragged: Ragged, programs: int, width: int) -> None:
        T, H, _ = q.shape
        self.q, self.width = q, width
        self.parts = part_count(programs, max(ragged.keys), processors(q.device))
        self.sizes = (len(ragged.queries), H, self.parts, ragged.tables.stride(0))
        self.sequences = triton.next_power_of_2(len(ragged.queries) + 1)
        self.mixed = torch.empty(T, H, self.parts, width, dtype=torch.float32, device=q.device)
        self.log_sums = torch.empty(T, H, self.parts, dtype=torch.float32, device=q.device)

    def combined(self) -> Tensor:
        """The result (T, H, width) of the parts."""
        T, H, _ = self.q.shape
        out = self.q.new_empty(T, H, self.width)
        sizes = {"WIDTH": self.width, "WIDTH_PADDED": padded(self.width), "PARTS": triton.next_power_of_2(self.parts)}
        combine[(T * H,)](self.mixed, self.log_sums, out, self.parts, **sizes, num_warps=4)
        return out


def operand(like: Tensor) -> tl.dtype:
    """The type of the operands of products: that of `like`, but FP32 in the interpreter, which multiplies no bf16."""
    if like.device.type == "cpu":
        return tl.float32
    return {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}[like.dtype]


def padded(width: int) -> int:
    """The width of a tile that holds so many columns: a power of two that a tensor core takes."""
    return max(16, int(triton.next_power_of_2(width)))


def part_count(programs: int, keys: int, processors: int) -> int:
    """Parts of a token's keys: enough to occupy every multiprocessor twice, none of them too short to be worth it."""
    return max(1, min(-(-2 * processors // programs), -(-keys // KEYS_A_PART), MOST_PARTS))
