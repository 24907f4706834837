// Muon's orthogonalisation of many small matrices: a thread takes a matrix through all its steps without leaving the
// cache, where a library's products would write and read every intermediate of every matrix.

#include "matrix_product.h"

#ifdef FATHOM_MATRIX_PRODUCT

namespace {

float norm_of(const bf16* x, int64_t n) {
    __m512 sum = _mm512_setzero_ps();
    for (int64_t i = 0; i < n; i += 16) {
        __m512 v = load_16(x + i);
        sum = _mm512_fmadd_ps(v, v, sum);
    }
    return std::sqrt(_mm512_reduce_add_ps(sum));
}

// to = scale * x + factor * y
void combine(bf16* to, float scale, const bf16* x, float factor, const float* y, int64_t n) {
    for (int64_t i = 0; i < n; i += 16) {
        __m512 scaled = _mm512_mul_ps(constant(scale), load_16(x + i));
        store_16(to + i, _mm512_fmadd_ps(constant(factor), load_16(y + i), scaled));
    }
}

}  // namespace

extern "C" {

// matrices (N, R, C), R <= C, both multiples of 32, in place: x <- a x + (b g + c g g) x with g = x x^T, `steps` times,
// from x of norm 1.
void newton_schulz_bf16(bf16* matrices, int64_t N, int64_t R, int64_t C, int64_t steps, float a, float b, float c) {
#pragma omp parallel
    {
        std::vector<pair> panels(R * C / 2);
        std::vector<float> wide(R * C);
        std::vector<bf16> gram(R * R), polynomial(R * R);
#pragma omp for schedule(dynamic)
        for (int64_t n = 0; n < N; n++) {
            bf16* x = matrices + n * R * C;
            float scale = 1.0f / (norm_of(x, R * C) + 1e-7f);
            for (int64_t i = 0; i < R * C; i += 16) store_16(x + i, _mm512_mul_ps(load_16(x + i), constant(scale)));
            for (int64_t step = 0; step < steps; step++) {
                pack_transposed(x, R, C, panels.data());
                product(x, panels.data(), wide.data(), R, C, R);
                round_to(wide.data(), gram.data(), R * R);
                pack(gram.data(), R, R, panels.data());
                product(gram.data(), panels.data(), wide.data(), R, R, R);
                combine(polynomial.data(), b, gram.data(), c, wide.data(), R * R);
                pack(x, R, C, panels.data());
                product(polynomial.data(), panels.data(), wide.data(), R, R, C);
                combine(x, a, x, 1.0f, wide.data(), R * C);
            }
        }
    }
}
}

#endif
