// The gradient of a linear map's weight: grad (T, N) transposed times x (T, K), summed over tokens in one order.
//
// A library cuts the long sum over tokens among its threads, so that the result depends on how many there are. Here
// threads take tiles of the result as they come, and each tile is summed by one of them, chunk after chunk.

#include "matrix_product.h"

#ifdef FATHOM_MATRIX_PRODUCT

namespace {

const int64_t CHUNK = 256;  // tokens: two panels of as many stay in the first-level cache

// Panels of rows [0, rows) of a matrix `width` wide, filled up with zeros to an even row and a whole panel.
void pack_rows(const bf16* matrix, int64_t rows, int64_t width, pair* panels) {
    const int64_t pairs = (rows + 1) / 2;
    for (int64_t p = 0; p < pairs; p++)
        for (int64_t n = 0; n < width; n += PANEL) {
            const __mmask32 inside = width - n >= PANEL ? ~__mmask32(0) : (__mmask32(1) << (width - n)) - 1;
            const bf16* from = matrix + 2 * p * width + n;
            __m512i even = _mm512_maskz_loadu_epi16(inside, from);
            __m512i odd = _mm512_maskz_loadu_epi16(2 * p + 1 < rows ? inside : 0, from + width);
            interleave(even, odd, panels + n * pairs + p * PANEL);
        }
}

}  // namespace

extern "C" {

// out (N, K); N a multiple of 8, K of 32. `packed` has room for as many panels as both matrices fill.
void weight_gradient_bf16(const bf16* grad, const bf16* x, float* out, pair* packed, int64_t T, int64_t N, int64_t K) {
    const int64_t chunks = (T + CHUNK - 1) / CHUNK, wide = (N + PANEL - 1) / PANEL * PANEL;
    const int64_t row_panels = wide / PANEL, tiles = row_panels * (K / PANEL);
#pragma omp parallel if (T * (N + K) > SMALL)
    {
#pragma omp for schedule(dynamic)
        for (int64_t c = 0; c < chunks; c++) {
            int64_t first = c * CHUNK, rows = std::min(CHUNK, T - first);
            pair* of_chunk = packed + first / 2 * (wide + K);
            pack_rows(grad + first * N, rows, N, of_chunk);
            pack_rows(x + first * K, rows, K, of_chunk + (rows + 1) / 2 * wide);
        }
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < tiles; i++) {
            int64_t m = i % row_panels * PANEL, k = i / row_panels * PANEL, height = std::min(PANEL, N - m);
            for (int64_t c = 0; c < chunks; c++) {
                int64_t first = c * CHUNK, pairs = (std::min(CHUNK, T - first) + 1) / 2;
                const pair *a = packed + first / 2 * (wide + K) + m * pairs;
                const pair *b = packed + first / 2 * (wide + K) + pairs * (wide + k);
                if (c == 0)
                    transposed_product<false>(a, b, out + m * K + k, K, height, pairs);
                else
                    transposed_product<true>(a, b, out + m * K + k, K, height, pairs);
            }
        }
    }
}
}

#endif
