// Weights as operands: addresses of rows where they can be read as they are, rows brought to bfloat16 where they cannot.

#pragma once

#include "plan.h"
#include "products.h"

namespace fathom {

// Row `row` of a quantised matrix, as bfloat16.
void dequantise(const Matrix& w, int64_t row, void* out);

// out[m * stride + n] = <x[m], row first + n of w> for M rows of bfloat16, 1 to FEW, and `count` rows of a quantised matrix;
// the bits that `dots` gives for the rows dequantised. `out` needs room for a multiple of 4 in each row.
void dots_quantised(const void* const* x, int64_t M, const Matrix& w, int64_t first, int64_t count, float* out, int64_t stride);

}  // namespace fathom

namespace {

using fathom::BF16;
using fathom::Buffer;
using fathom::F32;
using fathom::GROUP;
using fathom::INT4;
using fathom::INT8;
using fathom::Matrix;
using fathom::Node;
using fathom::Plan;
using fathom::Scratch;
using fathom::Step;

inline int64_t pieces(int64_t total, int64_t piece) { return (total + piece - 1) / piece; }

// Some rows of a matrix, as operands of type T.
template <class T>
struct Columns {
    const T* const* rows;  // null: quantised rows for a few tokens, to be multiplied as they are
    const Matrix* matrix;
    int64_t first, count;
    int64_t ahead;  // bytes to look ahead in memory while reading them
};

const int64_t AHEAD = 1 << 13;
const int64_t THEMSELVES = INT64_MAX;  // "tokens" of columns that are wanted themselves
// Tokens that quantised columns are dequantised for in registers: as many as there are registers for their sums.
#ifdef WIDE
const int64_t FEW = 6;
#else
const int64_t FEW = 1;
#endif

// `tokens` is the number of rows that they will be multiplied with, or more, or THEMSELVES.
template <class T>
inline Columns<T> operand_rows(const Matrix& w, int64_t first, int64_t count, int64_t tokens, Scratch& scratch) {
    const T** rows = scratch.take<const T*>(count);
    for (int64_t i = 0; i < count; i++) rows[i] = static_cast<const T*>(w.data) + (first + i) * w.columns;
    return {rows, &w, first, count, AHEAD};
}

template <>
inline Columns<bf16> operand_rows<bf16>(const Matrix& w, int64_t first, int64_t count, int64_t tokens, Scratch& scratch) {
    if (w.scales && tokens <= FEW) return {nullptr, &w, first, count, 0};
    const bf16** rows = scratch.take<const bf16*>(count);
    bf16* made = w.kind == BF16 ? nullptr : scratch.take<bf16>(count * w.columns);
    for (int64_t i = 0; i < count; i++) {
        rows[i] = made ? made + i * w.columns : static_cast<const bf16*>(w.data) + (first + i) * w.columns;
        if (made) fathom::dequantise(w, first + i, made + i * w.columns);
    }
    return {rows, &w, first, count, made ? 0 : AHEAD};
}

// Begin to fetch the first bytes of the rows from `first` on.
inline void fetch_rows(const Matrix& w, int64_t first) {
    const char* at = static_cast<const char*>(w.data) + first * w.row_bytes();
    for (int64_t i = 0; i < AHEAD; i += 64) __builtin_prefetch(at + i, 0, 2);
}

template <class T>
inline void dots(const T* const* x, int64_t M, const Columns<T>& w, int64_t K, float* out, int64_t stride) {
    if (w.rows)
        dots(x, M, w.rows, w.count, K, out, stride, w.ahead);
    else
        fathom::dots_quantised((const void* const*)x, M, *w.matrix, w.first, w.count, out, stride);
}

// Addresses of rows of activations.
template <class T>
inline const T** token_rows(const T* first, int64_t stride, int64_t count, Scratch& scratch) {
    const T** rows = scratch.take<const T*>(count);
    for (int64_t i = 0; i < count; i++) rows[i] = first + i * stride;
    return rows;
}

// One row in FP32.
inline void float_row(const Matrix& w, int64_t row, float* out, Scratch& scratch) {
    int64_t n = w.columns;
    if (w.kind == F32) {
        std::memcpy(out, static_cast<const float*>(w.data) + row * n, n * sizeof(float));
        return;
    }
    const bf16* from = operand_rows<bf16>(w, row, 1, THEMSELVES, scratch).rows[0];
    for (int64_t i = 0; i < n; i++) out[i] = load(from + i);
}

}  // namespace
