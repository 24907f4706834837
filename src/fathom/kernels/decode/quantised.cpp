// Quantised weights: rows brought to bfloat16, and the product of a few rows with them as they are read.

#include "matrix.h"
#include "steps.h"

namespace {

// Two times sixteen numbers as 32 bfloat16, ready to be multiplied.
inline StepBF16::Part narrow(v16 low, v16 high) {
#if defined(WIDE) && defined(__AVX512BF16__)
    return (__m512i)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low);
#else
    StepBF16::Part part;
    store16(part.number, low);
    store16(part.number + LANES, high);
    return part;
#endif
}

// Sixteen bytes, with or without sign, as 32-bit integers.
inline i16 widen(const int8_t* p) {
#ifdef WIDE
    return (i16)_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p));
#else
    i16 wide;
    for (int i = 0; i < LANES; i++) wide[i] = p[i];
    return wide;
#endif
}
inline i16 widen(const uint8_t* p) {
#ifdef WIDE
    return (i16)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)p));
#else
    i16 wide;
    for (int i = 0; i < LANES; i++) wide[i] = p[i];
    return wide;
#endif
}

inline v16 to_float(i16 x) { return __builtin_convertvector(x, v16); }

// A group of 32 numbers of 8 bits, times their scale.
struct Eight {
    typedef int8_t Byte;
    static const int64_t BYTES = 32;
    static inline StepBF16::Part group(const int8_t* q, float scale) {
        return narrow(to_float(widen(q)) * scale, to_float(widen(q + 16)) * scale);
    }
};

// What four bits stand for; `fathom.kernels.quantise` says why.
const float LEVELS[16] = {-127, -103, -80, -62, -47, -34, -21, -10, 1, 12, 24, 36, 49, 64, 80, 101};

// A group of 32 levels of 4 bits, times their scale: byte i holds numbers i and i + 16.
struct Four {
    typedef uint8_t Byte;
    static const int64_t BYTES = 16;
    static inline StepBF16::Part group(const uint8_t* q, float scale) {
#ifdef WIDE
        i16 both = widen(q);
        __m512i table = (__m512i)(load16(LEVELS) * scale);
        v16 low = (v16)_mm512_permutexvar_epi32((__m512i)both, table);
        v16 high = (v16)_mm512_permutexvar_epi32((__m512i)(both >> 4), table);
#else
        v16 low, high;
        for (int i = 0; i < LANES; i++) low[i] = LEVELS[q[i] & 15] * scale, high[i] = LEVELS[q[i] >> 4] * scale;
#endif
        return narrow(low, high);
    }
};

template <class Format>
struct Row {
    const typename Format::Byte* data;
    const bf16* scales;
    Row() = default;
    Row(const Matrix& w, int64_t row)
        : data(static_cast<const typename Format::Byte*>(w.data) + row * w.row_bytes()),
          scales(static_cast<const bf16*>(w.scales) + row * (w.columns / GROUP)) {}
    inline StepBF16::Part group(int64_t g) const { return Format::group(data + g * Format::BYTES, load(scales + g)); }
};

template <class Format>
void dequantise_row(const Matrix& w, int64_t row, bf16* out) {
    Row<Format> from(w, row);
    for (int64_t g = 0, n = w.columns / GROUP; g < n; g++) {
        __builtin_prefetch(from.data + g * Format::BYTES + AHEAD, 0, 3);
        StepBF16::Part part = from.group(g);
        std::memcpy(out + g * GROUP, &part, GROUP * sizeof(bf16));
    }
}

// M rows with four columns at a time: the same steps in the same order as `dots` of the dequantised columns.
template <class Format, int M>
void dots_rows(const bf16* const* x, const Matrix& w, int64_t first, int64_t count, float* out, int64_t stride) {
    const int64_t groups = w.columns / GROUP;
    for (int64_t n = 0; n < count; n += 4) {
        Row<Format> rows[4];
        v16 total[M][4];
#pragma GCC unroll 8
        for (int i = 0; i < 4; i++) {
            rows[i] = Row<Format>(w, first + std::min(n + i, count - 1));
#pragma GCC unroll 8
            for (int m = 0; m < M; m++) total[m][i] = zeros();
        }
        for (int64_t g = 0; g < groups; g++) {
            StepBF16::Part parts[M];
#pragma GCC unroll 8
            for (int m = 0; m < M; m++) parts[m] = StepBF16::part(x[m] + g * GROUP);
#pragma GCC unroll 8
            for (int i = 0; i < 4; i++) {
                __builtin_prefetch(rows[i].data + g * Format::BYTES + AHEAD, 0, 3);
                StepBF16::Part column = rows[i].group(g);
#pragma GCC unroll 8
                for (int m = 0; m < M; m++) total[m][i] = StepBF16::add(total[m][i], parts[m], column);
            }
        }
#pragma GCC unroll 8
        for (int m = 0; m < M; m++) sums(total[m][0], total[m][1], total[m][2], total[m][3], out + m * stride + n);
    }
}

template <class Format>
void dots_few(const bf16* const* x, int64_t M, const Matrix& w, int64_t first, int64_t count, float* out, int64_t stride) {
    switch (M) {
        case 1: return dots_rows<Format, 1>(x, w, first, count, out, stride);
        case 2: return dots_rows<Format, 2>(x, w, first, count, out, stride);
        case 3: return dots_rows<Format, 3>(x, w, first, count, out, stride);
        case 4: return dots_rows<Format, 4>(x, w, first, count, out, stride);
        case 5: return dots_rows<Format, 5>(x, w, first, count, out, stride);
        case 6: return dots_rows<Format, 6>(x, w, first, count, out, stride);
    }
}

}  // namespace

void fathom::dequantise(const Matrix& w, int64_t row, void* out) {
    if (w.kind == INT8)
        dequantise_row<Eight>(w, row, static_cast<bf16*>(out));
    else
        dequantise_row<Four>(w, row, static_cast<bf16*>(out));
}

void fathom::dots_quantised(const void* const* x, int64_t M, const Matrix& w, int64_t first, int64_t count, float* out, int64_t stride) {
    if (w.kind == INT8)
        dots_few<Eight>((const bf16* const*)x, M, w, first, count, out, stride);
    else
        dots_few<Four>((const bf16* const*)x, M, w, first, count, out, stride);
}
