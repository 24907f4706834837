// Sixteen FP32 lanes, written with the compiler's vector extension so that any processor runs them; AVX-512 where an
// instruction has no plain spelling.
//
// Everything here keeps one rule: an element's arithmetic does not depend on which elements are computed beside it.
// The tiles of `products.h` build on it: a row of a product is the same bits whatever batch it stands in.

#pragma once

#include <algorithm>
#include <functional>

#include "../common.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#include <immintrin.h>
#define WIDE 1
#endif

namespace {

typedef float v16 __attribute__((vector_size(64)));
typedef int32_t i16 __attribute__((vector_size(64)));
typedef uint16_t h16 __attribute__((vector_size(32)));

const int64_t LANES = 16;

inline v16 zeros() { return v16{}; }
inline v16 all(float x) { return x - v16{}; }

inline v16 load16(const float* p) {
    v16 v;
    std::memcpy(&v, p, sizeof v);
    return v;
}

inline v16 load16(const bf16* p) {
#ifdef WIDE
    return (v16)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)), 16);
#else
    h16 h;
    std::memcpy(&h, p, sizeof h);
    return (v16)(__builtin_convertvector(h, i16) << 16);
#endif
}

inline void store16(float* p, v16 v) { std::memcpy(p, &v, sizeof v); }

// Rounded to the nearest bfloat16, ties to even, and still 32 bits wide.
inline i16 round16(v16 v) {
    i16 u = (i16)v;
    return (u + 0x7fff + ((u >> 16) & 1)) & int32_t(0xffff0000);
}

inline void store16(bf16* p, v16 v) {
#ifdef WIDE
    _mm256_storeu_si256((__m256i*)p, _mm512_cvtepi32_epi16(_mm512_srli_epi32((__m512i)round16(v), 16)));
#else
    h16 h = __builtin_convertvector(round16(v) >> 16, h16);
    std::memcpy(p, &h, sizeof h);
#endif
}

// Stores numbers and returns what is kept of them. With bfloat16, numbers below 1e-38 may become 0.
inline v16 keep16(float* p, v16 v) {
    store16(p, v);
    return v;
}
inline v16 keep16(bf16* p, v16 v) {
#if defined(WIDE) && defined(__AVX512BF16__)
    __m256i h = (__m256i)_mm512_cvtneps_pbh((__m512)v);
    _mm256_storeu_si256((__m256i*)p, h);
    return (v16)_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16);
#else
    store16(p, v);
    return (v16)round16(v);
#endif
}

// The first n < 16 elements, zeros after them.
template <class T>
inline v16 load_some(const T* p, int64_t n) {
    T part[LANES] = {};
    for (int64_t i = 0; i < n; i++) part[i] = p[i];
    return load16(part);
}

template <class T>
inline void store_some(T* p, v16 v, int64_t n) {
    T part[LANES];
    store16(part, v);
    for (int64_t i = 0; i < n; i++) p[i] = part[i];
}

// Sums of four vectors' lanes, each by the same tree.
inline void sums(const v16& a, const v16& b, const v16& c, const v16& d, float* out) {
#ifdef WIDE
    __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps((__m512)a, (__m512)b), _mm512_unpackhi_ps((__m512)a, (__m512)b));
    __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps((__m512)c, (__m512)d), _mm512_unpackhi_ps((__m512)c, (__m512)d));
    __m512d x = (__m512d)ab, y = (__m512d)cd;
    __m512 four = _mm512_add_ps((__m512)_mm512_unpacklo_pd(x, y), (__m512)_mm512_unpackhi_pd(x, y));
    __m256 two = _mm256_add_ps(_mm512_castps512_ps256(four), _mm512_extractf32x8_ps(four, 1));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(two), _mm256_extractf128_ps(two, 1)));
#else
    const v16* each[4] = {&a, &b, &c, &d};
    for (int i = 0; i < 4; i++) {
        const v16& v = *each[i];
        float lane[4];
        for (int j = 0; j < 4; j++) lane[j] = (v[4 * j] + v[4 * j + 2]) + (v[4 * j + 1] + v[4 * j + 3]);
        out[i] = (lane[0] + lane[2]) + (lane[1] + lane[3]);
    }
#endif
}

inline float sum(const v16& v) {
    float out[4];
    sums(v, v, v, v, out);
    return out[0];
}

inline v16 larger16(v16 a, v16 b) {
#ifdef WIDE
    return (v16)_mm512_max_ps((__m512)a, (__m512)b);
#else
    return a > b ? a : b;
#endif
}

inline v16 select(i16 mask, v16 yes, v16 no) { return (v16)((mask & (i16)yes) | (~mask & (i16)no)); }

// `exponential` of common.h on sixteen lanes.
inline v16 exponential16(v16 x) {
    x = select((i16)(x < -87.0f), all(-87.0f), x);
    x = select((i16)(x > 88.0f), all(88.0f), x);
    // Adding and taking away 1.5 * 2^23 rounds to the nearest whole number; the low bits of the sum are that number.
    const float shift = 12582912.0f;
    v16 shifted = x * 1.44269504f + shift;
    v16 n = shifted - shift;
    v16 f = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    v16 p = all(1.0f / 720);
    p = p * f + 1.0f / 120;
    p = p * f + 1.0f / 24;
    p = p * f + 1.0f / 6;
    p = p * f + 0.5f;
    p = p * f + 1.0f;
    p = p * f + 1.0f;
    i16 e = (((i16)shifted - 0x4b400000) + 127) << 23;
    return p * (v16)e;
}

// e to the power of x for x <= 0; 0 where that is below 1e-37.
inline v16 exponential16_below(v16 x) {
    const float shift = 12582912.0f;
    v16 shifted = x * 1.44269504f + shift;
    v16 n = shifted - shift;
    v16 f = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    v16 p = all(1.0f / 720);
    p = p * f + 1.0f / 120;
    p = p * f + 1.0f / 24;
    p = p * f + 1.0f / 6;
    p = p * f + 0.5f;
    p = p * f + 1.0f;
    p = p * f + 1.0f;
#ifdef WIDE
    return (v16)_mm512_maskz_scalef_ps(_mm512_cmp_ps_mask((__m512)x, _mm512_set1_ps(-85.0f), _CMP_GE_OQ), (__m512)p, (__m512)n);
#else
    v16 power = (v16)((((i16)shifted - 0x4b400000) + 127) << 23);
    return select((i16)(x < -85.0f), zeros(), p * power);
#endif
}

inline float largest(v16 v) {
#ifdef WIDE
    return _mm512_reduce_max_ps((__m512)v);
#else
    float top = v[0];
    for (int i = 1; i < LANES; i++) top = v[i] > top ? v[i] : top;
    return top;
#endif
}

inline v16 silu16(v16 x) { return x / (1.0f + exponential16(-x)); }

}  // namespace
