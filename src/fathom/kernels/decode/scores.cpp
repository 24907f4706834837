// The tiles of `scores.h`: turned keys times a few queries in registers.

#include "scores.h"

namespace {

#ifdef WIDE
const int TILE_QUERIES = 8;
#else
const int TILE_QUERIES = 2;
#endif

// Sixteen keys' 32-bit word against one of a query: a float, or two neighbouring bfloat16.
struct WordF32 {
    typedef float Stored;
    static inline v16 add(v16 total, i16 x, i16 key) { return total + (v16)x * (v16)key; }
};

struct WordBF16 {
    typedef bf16 Stored;
    static inline v16 add(v16 total, i16 x, i16 key) {
#if defined(WIDE) && defined(__AVX512BF16__)
        return (v16)_mm512_dpbf16_ps((__m512)total, (__m512bh)x, (__m512bh)key);
#else
        total = total + (v16)(x << 16) * (v16)(key << 16);
        return total + (v16)(x & int32_t(0xffff0000)) * (v16)(key & int32_t(0xffff0000));
#endif
    }
};

#ifdef WIDE
// Eight words of sixteen keys from word d on, of which `halves` 16-bit halves are there and the rest is 0.
inline void turn_block(const char* const* keys, int64_t d, int64_t halves, int32_t* to) {
    const __mmask16 mask = halves < 16 ? (__mmask16)((1u << halves) - 1) : (__mmask16)-1;
    __m512i row[8], four[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        const int k = i < 4 ? i : i + 4;
        auto at = [&](int key) {
            const __m256i* from = (const __m256i*)(keys[key] + 4 * d);
            return halves < 16 ? _mm256_maskz_loadu_epi16(mask, from) : _mm256_loadu_si256(from);
        };
        row[i] = _mm512_inserti64x4(_mm512_castsi256_si512(at(k)), at(k + 4), 1);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {
        __m512i a = _mm512_unpacklo_epi32(row[i], row[i + 1]), b = _mm512_unpackhi_epi32(row[i], row[i + 1]);
        __m512i c = _mm512_unpacklo_epi32(row[i + 2], row[i + 3]), e = _mm512_unpackhi_epi32(row[i + 2], row[i + 3]);
        four[i] = _mm512_unpacklo_epi64(a, c), four[i + 1] = _mm512_unpackhi_epi64(a, c);
        four[i + 2] = _mm512_unpacklo_epi64(b, e), four[i + 3] = _mm512_unpackhi_epi64(b, e);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        _mm512_store_si512(to + LANES * i, _mm512_shuffle_i32x4(four[i], four[i + 4], 0x88));
        _mm512_store_si512(to + LANES * (i + 4), _mm512_shuffle_i32x4(four[i], four[i + 4], 0xdd));
    }
}
#else
inline void turn_block(const char* const* keys, int64_t d, int64_t halves, int32_t* to) {
    for (int k = 0; k < LANES; k++) {
        int32_t words[8] = {};
        std::memcpy(words, keys[k] + 4 * d, std::min<int64_t>(halves, 16) * 2);
        for (int i = 0; i < 8; i++) to[LANES * i + k] = words[i];
    }
}
#endif

// to[d * LANES + i]: word d of key i, of sixteen keys of so many bytes.
inline void turn(const char* const* keys, int64_t bytes, int32_t* to) {
    for (int64_t d = 0; 4 * d < bytes; d += 8) turn_block(keys, d, (bytes - 4 * d) / 2, to + d * LANES);
}

// M queries against KEYS turned keys, sixteen of them after the others.
template <class Word, int M>
void scores_tile(const char* const* x, const int32_t* keys, const int32_t* others, int64_t bytes, float* out, int64_t stride) {
    v16 first[M], second[M];
#pragma GCC unroll 8
    for (int m = 0; m < M; m++) first[m] = second[m] = zeros();
    auto step = [&](int64_t d, int64_t there) {
        i16 a, b;
        std::memcpy(&a, keys + d * LANES, sizeof a);
        std::memcpy(&b, others + d * LANES, sizeof b);
#pragma GCC unroll 8
        for (int m = 0; m < M; m++) {
            int32_t word = 0;
            std::memcpy(&word, x[m] + 4 * d, there);
            const i16 row = word - i16{};
            first[m] = Word::add(first[m], row, a);
            second[m] = Word::add(second[m], row, b);
        }
    };
    int64_t d = 0;
    for (; 4 * (d + 1) <= bytes; d++) step(d, 4);
    if (4 * d < bytes) step(d, 2);
#pragma GCC unroll 8
    for (int m = 0; m < M; m++) {
        store16(out + m * stride, first[m]);
        store16(out + m * stride + LANES, second[m]);
    }
}

template <class Word>
void scores_of(const char* const* x, int64_t M, const char* const* keys, int64_t N, int64_t K, float* out, int64_t stride,
               int32_t* room, const fathom::Fetch& fetch) {
    const int64_t bytes = K * sizeof(typename Word::Stored);
    int32_t* second = room + (bytes + 31) / 32 * 8 * LANES;
    for (int64_t n = 0; n < N; n += fathom::KEYS, out += fathom::KEYS) {
        const char* last[fathom::KEYS];
        const char* const* now = keys + n;
        if (n + fathom::KEYS > N) {
            for (int64_t i = 0; i < fathom::KEYS; i++) last[i] = keys[std::min(n + i, N - 1)];
            now = last;
        }
        for (int64_t i = n; i < n + LANES; i++) fetch.row(i);
        turn(now, bytes, room);
        for (int64_t i = n + LANES; i < n + fathom::KEYS; i++) fetch.row(i);
        turn(now + LANES, bytes, second);
        for (int64_t m = 0; m < M; m += TILE_QUERIES) {
            const char* const* rows = x + m;
            float* to = out + m * stride;
            switch (std::min<int64_t>(M - m, TILE_QUERIES)) {
                case 8: scores_tile<Word, 8>(rows, room, second, bytes, to, stride); break;
                case 7: scores_tile<Word, 7>(rows, room, second, bytes, to, stride); break;
                case 6: scores_tile<Word, 6>(rows, room, second, bytes, to, stride); break;
                case 5: scores_tile<Word, 5>(rows, room, second, bytes, to, stride); break;
                case 4: scores_tile<Word, 4>(rows, room, second, bytes, to, stride); break;
                case 3: scores_tile<Word, 3>(rows, room, second, bytes, to, stride); break;
                case 2: scores_tile<Word, 2>(rows, room, second, bytes, to, stride); break;
                case 1: scores_tile<Word, 1>(rows, room, second, bytes, to, stride); break;
            }
        }
    }
}

}  // namespace

namespace fathom {

void scores_f32(const void* const* x, int64_t M, const void* const* keys, int64_t N, int64_t K, float* out, int64_t stride,
                int32_t* room, const Fetch& fetch) {
    scores_of<WordF32>((const char* const*)x, M, (const char* const*)keys, N, K, out, stride, room, fetch);
}
void scores_bf16(const void* const* x, int64_t M, const void* const* keys, int64_t N, int64_t K, float* out, int64_t stride,
                 int32_t* room, const Fetch& fetch) {
    scores_of<WordBF16>((const char* const*)x, M, (const char* const*)keys, N, K, out, stride, room, fetch);
}

}  // namespace fathom
