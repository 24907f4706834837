// Where a token stands: its place in the paged cache, and its rotation.

#pragma once

#include "matrix.h"

namespace {

// Where token t's row of a layer stands in a store.
template <class T>
inline T* cached_row(const Step& step, int64_t s, int64_t t, int64_t layer, int64_t store, int64_t width) {
    int64_t position = step.lengths[s] - step.query_start[s + 1] + t;
    int64_t block = step.table[s * step.table_width + position / step.block_size];
    return static_cast<T*>(step.storage[store]) + ((layer * step.blocks + block) * step.block_size + position % step.block_size) * width;
}

inline int64_t sequence_of(const Step& step, int64_t t) {
    return std::upper_bound(step.query_start + 1, step.query_start + step.sequences, int32_t(t)) - (step.query_start + 1);
}

// Rotary embedding of `x` (2 pairs,), on neighbours or on halves.
template <class T>
inline void rotate(const float* x, const float* cos, int64_t pairs, bool halves, T* to) {
    const float* sin = cos + pairs;
    for (int64_t i = 0; i < pairs; i++) {
        int64_t a = halves ? i : 2 * i, b = halves ? i + pairs : 2 * i + 1;
        float first = x[a] * cos[i] - x[b] * sin[i], second = x[a] * sin[i] + x[b] * cos[i];
        store(to + a, first);
        store(to + b, second);
    }
}

}  // namespace
