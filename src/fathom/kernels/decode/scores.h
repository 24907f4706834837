// Queries against keys scattered over a cache. Keys are turned first, so that each lane of a register holds a key: `dots`
// would add up sixteen lanes for every score, which for rows as short as a head's costs as much as multiplying them.
//
// A score is one chain of additions in the order of its elements (of bfloat16, pairs of them), whatever else is computed
// beside it.

#pragma once

#include "products.h"

namespace fathom {

// Keys that are turned and multiplied together.
const int64_t KEYS = 32;

// 32-bit words of room that turned keys of K elements need.
template <class T>
inline int64_t turned_words(int64_t K) {
    return (K * int64_t(sizeof(T)) + 31) / 32 * 8 * KEYS;
}

void scores_f32(const void* const* x, int64_t M, const void* const* keys, int64_t N, int64_t K, float* out, int64_t stride, int32_t* room, const Fetch& fetch);
void scores_bf16(const void* const* x, int64_t M, const void* const* keys, int64_t N, int64_t K, float* out, int64_t stride, int32_t* room, const Fetch& fetch);

}  // namespace fathom

namespace {

// out[m * stride + n] = <x[m], keys[n]> over K elements, for M queries and N keys, with FP32 sums; `room` as above. `out`
// needs room for N rounded up to a multiple of KEYS in each row; what stands there beyond N is of no meaning.
// Row n of `fetch` is fetched beside key n.
inline void scores(const float* const* x, int64_t M, const float* const* keys, int64_t N, int64_t K, float* out, int64_t stride, int32_t* room, const fathom::Fetch& fetch) {
    fathom::scores_f32((const void* const*)x, M, (const void* const*)keys, N, K, out, stride, room, fetch);
}
inline void scores(const bf16* const* x, int64_t M, const bf16* const* keys, int64_t N, int64_t K, float* out, int64_t stride, int32_t* room, const fathom::Fetch& fetch) {
    fathom::scores_bf16((const void* const*)x, M, (const void* const*)keys, N, K, out, stride, room, fetch);
}

}  // namespace
