// The tiles of `products.h`: a few rows times a few columns in registers.

#include "products.h"
#include "steps.h"

namespace {

using fathom::Fetch;

#ifdef WIDE
const int TILE_ROWS = 6, MIX_ROWS = 4;
#else
const int TILE_ROWS = 2, MIX_ROWS = 2;
#endif

// Holds a row in a register, where the compiler would read it from memory again for each column.
template <class Part>
inline void keep(Part&) {}
#ifdef WIDE
inline void keep(v16& row) { asm("" : "+v"(row)); }
inline void keep(__m512i& row) { asm("" : "+v"(row)); }
#endif

template <class T>
struct StepOf;
template <>
struct StepOf<float> {
    typedef StepF32 Type;
};
template <>
struct StepOf<bf16> {
    typedef StepBF16 Type;
};

// What lies `ahead` bytes behind the first FETCH rows of `next` is fetched meanwhile: a tile's arithmetic does not leave
// the processor enough room to look that far itself.
template <int M, int N, int FETCH, class T>
void dots_tile(const T* const* x, const T* const* w, int64_t K, float* out, int64_t stride, const T* const* next, int64_t ahead) {
    typedef typename StepOf<T>::Type Step;
    v16 total[M][N];
#pragma GCC unroll 8
    for (int m = 0; m < M; m++)
#pragma GCC unroll 8
        for (int n = 0; n < N; n++) total[m][n] = zeros();
    int64_t k = 0;
    for (; k + Step::WIDTH <= K; k += Step::WIDTH) {
        typename Step::Part column[N];
#pragma GCC unroll 8
        for (int n = 0; n < FETCH; n++) __builtin_prefetch(reinterpret_cast<const char*>(next[n] + k) + ahead, 0, 3);
#pragma GCC unroll 8
        for (int n = 0; n < N; n++) column[n] = Step::part(w[n] + k);
#pragma GCC unroll 8
        for (int m = 0; m < M; m++) {
            typename Step::Part row = Step::part(x[m] + k);
            keep(row);
#pragma GCC unroll 8
            for (int n = 0; n < N; n++) total[m][n] = Step::add(total[m][n], row, column[n]);
        }
    }
    if (k < K) {
        typename Step::Part column[N];
#pragma GCC unroll 8
        for (int n = 0; n < N; n++) column[n] = Step::some(w[n] + k, K - k);
#pragma GCC unroll 8
        for (int m = 0; m < M; m++) {
            typename Step::Part row = Step::some(x[m] + k, K - k);
#pragma GCC unroll 8
            for (int n = 0; n < N; n++) total[m][n] = Step::add(total[m][n], row, column[n]);
        }
    }
#pragma GCC unroll 8
    for (int m = 0; m < M; m++)
#pragma GCC unroll 8
        for (int n = 0; n < N; n += 4) sums(total[m][n], total[m][n + 1], total[m][n + 2], total[m][n + 3], out + m * stride + n);
}

// out[m * stride + n] = <x[m], w[n]> over K elements, for M rows and N columns, with FP32 sums.
// `out` needs room for N rounded up to a multiple of 4 in each row; what stands there beyond N is of no meaning.
template <int N, int FETCH, class T>
void dots_rows(const T* const* x, int64_t M, const T* const* w, int64_t K, float* out, int64_t stride, const T* const* next,
               int64_t ahead) {
    switch (M) {
        case 6: dots_tile<6, N, FETCH>(x, w, K, out, stride, next, ahead); break;
        case 5: dots_tile<5, N, FETCH>(x, w, K, out, stride, next, ahead); break;
        case 4: dots_tile<4, N, FETCH>(x, w, K, out, stride, next, ahead); break;
        case 3: dots_tile<3, N, FETCH>(x, w, K, out, stride, next, ahead); break;
        case 2: dots_tile<2, N, FETCH>(x, w, K, out, stride, next, ahead); break;
        case 1: dots_tile<1, N, FETCH>(x, w, K, out, stride, next, ahead); break;
    }
}

// Rows that a core's first cache holds beside some columns: no more are taken at once where there are many.
const int64_t ROWS_BYTES = 28 << 10;

template <class T>
void dots_panel(const T* const* x, int64_t M, const T* const* w, int64_t N, int64_t K, float* out, int64_t stride, int64_t ahead) {
    for (int64_t n = 0; n < N;) {
        const T* last[8];
        const T* const* columns = w + n;
        // Few rows: more columns at once, so that enough sums are under way.
        int64_t taken = M < 3 && N - n >= 8 ? 8 : 4;
        if (n + taken > N) {
            for (int64_t i = 0; i < taken; i++) last[i] = w[n + i < N ? n + i : N - 1];
            columns = last;
        }
        if (taken == 8 && M == 1)
            dots_tile<1, 8, 0>(x, columns, K, out + n, stride, columns, 0);
        else if (taken == 8)
            dots_tile<2, 8, 0>(x, columns, K, out + n, stride, columns, 0);
        else
            for (int64_t m = 0; m < M; m += TILE_ROWS) {
                int64_t rows = M - m < TILE_ROWS ? M - m : TILE_ROWS;
                float* to = out + m * stride + n;
                // Fetching is shared out between the first two tiles, so that it goes on beside more arithmetic.
                if (ahead && M <= TILE_ROWS)
                    dots_rows<4, 4>(x, rows, columns, K, to, stride, columns, ahead);
                else if (ahead && m <= TILE_ROWS)
                    dots_rows<4, 2>(x + m, rows, columns, K, to, stride, columns + (m ? 2 : 0), ahead);
                else
                    dots_rows<4, 0>(x + m, rows, columns, K, to, stride, columns, 0);
            }
        n += taken;
    }
}

template <class T>
void dots_of(const T* const* x, int64_t M, const T* const* w, int64_t N, int64_t K, float* out, int64_t stride, int64_t ahead) {
    int64_t most = std::max<int64_t>(ROWS_BYTES / (K * sizeof(T)) / TILE_ROWS, 1) * TILE_ROWS;
    for (int64_t m = 0; m < M; m += most)
        dots_panel(x + m, std::min(most, M - m), w, N, K, out + m * stride, stride, m ? 0 : ahead);
}

// A step of a weighted sum of rows: two rows at a time, 16 columns of each.
struct MixF32 {
    typedef float Stored;
    struct Rows {
        v16 first, second;
    };
    struct Weights {
        float first, second;
    };
    static inline Rows rows(const float* p, const float* q) { return {load16(p), load16(q)}; }
    static inline Rows some(const float* p, const float* q, int64_t n) { return {load_some(p, n), load_some(q, n)}; }
    static inline Weights weights(const float* a) { return {a[0], a[1]}; }
    static inline Weights weight(const float* a) { return {a[0], 0}; }
    static inline v16 add(v16 total, const Weights& a, const Rows& v) { return total + a.first * v.first + a.second * v.second; }
};

struct MixBF16 {
    typedef bf16 Stored;
#if defined(WIDE) && defined(__AVX512BF16__)
    typedef __m512i Rows;  // the two rows' numbers of a column side by side
    typedef __m512i Weights;
    static inline Rows zip(__m256i p, __m256i q) {
        return _mm512_or_si512(_mm512_cvtepu16_epi32(p), _mm512_slli_epi32(_mm512_cvtepu16_epi32(q), 16));
    }
    static inline Rows rows(const bf16* p, const bf16* q) {
        return zip(_mm256_loadu_si256((const __m256i*)p), _mm256_loadu_si256((const __m256i*)q));
    }
    static inline Rows some(const bf16* p, const bf16* q, int64_t n) {
        __mmask16 mask = (__mmask16)((1u << n) - 1);
        return zip(_mm256_maskz_loadu_epi16(mask, p), _mm256_maskz_loadu_epi16(mask, q));
    }
    static inline Weights weights(const bf16* a) {
        int32_t both;
        std::memcpy(&both, a, sizeof both);
        return _mm512_set1_epi32(both);
    }
    static inline Weights weight(const bf16* a) { return _mm512_set1_epi32(a->bits); }
    static inline v16 add(v16 total, const Weights& a, const Rows& v) {
        return (v16)_mm512_dpbf16_ps((__m512)total, (__m512bh)a, (__m512bh)v);
    }
#else
    typedef MixF32::Rows Rows;
    typedef MixF32::Weights Weights;
    static inline Rows rows(const bf16* p, const bf16* q) { return {load16(p), load16(q)}; }
    static inline Rows some(const bf16* p, const bf16* q, int64_t n) { return {load_some(p, n), load_some(q, n)}; }
    static inline Weights weights(const bf16* a) { return {load(a), load(a + 1)}; }
    static inline Weights weight(const bf16* a) { return {load(a), 0}; }
    static inline v16 add(v16 total, const Weights& a, const Rows& v) { return MixF32::add(total, a, v); }
#endif
};

template <class T>
struct MixOf;
template <>
struct MixOf<float> {
    typedef MixF32 Type;
};
template <>
struct MixOf<bf16> {
    typedef MixBF16 Type;
};

template <int M, int N, bool WHOLE, class T>
void mixes_tile(const T* a, int64_t a_stride, const T* const* v, int64_t T_, int64_t from, int64_t width, float* out,
                int64_t stride, const Fetch* fetch) {
    typedef typename MixOf<T>::Type Mix;
    v16 total[M][N];
#pragma GCC unroll 8
    for (int m = 0; m < M; m++)
#pragma GCC unroll 8
        for (int n = 0; n < N; n++) total[m][n] = zeros();
    for (int64_t t = 0; t < T_; t += 2) {
        const bool pair = t + 1 < T_;  // an odd last row stands alone: its partner is no number, but its weight 0
        const T *first = v[t] + from, *second = pair ? v[t + 1] + from : first;
        if (fetch) {
            fetch->row(t);
            fetch->row(t + 1);
        }
        typename Mix::Rows rows[N];
#pragma GCC unroll 8
        for (int n = 0; n < N; n++)
            rows[n] = WHOLE ? Mix::rows(first + n * LANES, second + n * LANES) : Mix::some(first, second, width);
#pragma GCC unroll 8
        for (int m = 0; m < M; m++) {
            const T* at = a + m * a_stride + t;
            typename Mix::Weights weights = pair ? Mix::weights(at) : Mix::weight(at);
#pragma GCC unroll 8
            for (int n = 0; n < N; n++) total[m][n] = Mix::add(total[m][n], weights, rows[n]);
        }
    }
    for (int m = 0; m < M; m++)
        for (int n = 0; n < N; n++) {
            float* to = out + m * stride + from + n * LANES;
            if (WHOLE)
                store16(to, total[m][n]);
            else
                store_some(to, total[m][n], width);
        }
}

template <int N, bool WHOLE, class T>
void mixes_columns(const T* a, int64_t a_stride, int64_t M, const T* const* v, int64_t T_, int64_t from, int64_t width,
                   float* out, int64_t stride, const Fetch* fetch) {
    for (int64_t m = 0; m < M; m += MIX_ROWS, fetch = nullptr) {
        const T* rows = a + m * a_stride;
        float* to = out + m * stride;
        switch (M - m < MIX_ROWS ? M - m : MIX_ROWS) {
            case 4: mixes_tile<4, N, WHOLE>(rows, a_stride, v, T_, from, width, to, stride, fetch); break;
            case 3: mixes_tile<3, N, WHOLE>(rows, a_stride, v, T_, from, width, to, stride, fetch); break;
            case 2: mixes_tile<2, N, WHOLE>(rows, a_stride, v, T_, from, width, to, stride, fetch); break;
            case 1: mixes_tile<1, N, WHOLE>(rows, a_stride, v, T_, from, width, to, stride, fetch); break;
        }
    }
}

template <class T>
void mixes_of(const T* a, int64_t a_stride, int64_t M, const T* const* v, int64_t T_, int64_t U, float* out, int64_t stride,
              const Fetch* fetch) {
    int64_t u = 0;
    for (; u + 4 * LANES <= U; u += 4 * LANES, fetch = nullptr)
        mixes_columns<4, true>(a, a_stride, M, v, T_, u, 4 * LANES, out, stride, fetch);
    for (; u + LANES <= U; u += LANES, fetch = nullptr)
        mixes_columns<1, true>(a, a_stride, M, v, T_, u, LANES, out, stride, fetch);
    if (u < U) mixes_columns<1, false>(a, a_stride, M, v, T_, u, U - u, out, stride, fetch);
}

}  // namespace

namespace fathom {

void dots_f32(const void* const* x, int64_t M, const void* const* w, int64_t N, int64_t K, float* out, int64_t stride, int64_t ahead) {
    dots_of((const float* const*)x, M, (const float* const*)w, N, K, out, stride, ahead);
}
void dots_bf16(const void* const* x, int64_t M, const void* const* w, int64_t N, int64_t K, float* out, int64_t stride, int64_t ahead) {
    dots_of((const bf16* const*)x, M, (const bf16* const*)w, N, K, out, stride, ahead);
}
void mixes_f32(const void* a, int64_t a_stride, int64_t M, const void* const* v, int64_t T, int64_t U, float* out,
               int64_t stride, const Fetch* fetch) {
    mixes_of((const float*)a, a_stride, M, (const float* const*)v, T, U, out, stride, fetch);
}
void mixes_bf16(const void* a, int64_t a_stride, int64_t M, const void* const* v, int64_t T, int64_t U, float* out,
                int64_t stride, const Fetch* fetch) {
    mixes_of((const bf16*)a, a_stride, M, (const bf16* const*)v, T, U, out, stride, fetch);
}

}  // namespace fathom
