// Fused element-wise passes for a CPU. Matrix products stay with PyTorch; each function here does in one pass over memory
// what takes PyTorch three to eight. Plain C++ that compilers vectorise: no intrinsics, no dependencies, a C interface.
// Results do not depend on the number of threads.

#include "common.h"

namespace {

// With `weights` (rows), the gradient of sum(weights * nll) takes the place of the logits.
template <class T>
void cross_entropy(T* logits, const int64_t* targets, const float* weights, float* nll, int64_t rows, int64_t V) {
#pragma omp parallel if (rows * V > SMALL)
    {
        std::vector<float> kept(V);
        float* e = kept.data();
#pragma omp for schedule(static)
        for (int64_t r = 0; r < rows; r++) {
            T* z = logits + r * V;
            float at_target = load(z + targets[r]), top = maximum(z, V, 1.0f), sum = 0;
#pragma omp simd reduction(+ : sum)
            for (int64_t i = 0; i < V; i++) sum += e[i] = exponential(load(z + i) - top);
            nll[r] = top + std::log(sum) - at_target;
            if (!weights) continue;
            float scale = weights[r] / sum;
#pragma omp simd
            for (int64_t i = 0; i < V; i++) store(z + i, e[i] * scale);
            store(z + targets[r], e[targets[r]] * scale - weights[r]);
        }
    }
}

template <class T>
void rms_norm_forward(const T* x, const float* weight, T* y, float* inverse, int64_t rows, int64_t D, float eps) {
#pragma omp parallel for schedule(static) if (rows * D > SMALL)
    for (int64_t r = 0; r < rows; r++) {
        const T* a = x + r * D;
        T* b = y + r * D;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < D; i++) {
            float v = load(a + i);
            sum += v * v;
        }
        float scale = 1.0f / std::sqrt(sum / D + eps);
        inverse[r] = scale;
#pragma omp simd
        for (int64_t i = 0; i < D; i++) store(b + i, load(a + i) * scale * weight[i]);
    }
}

// The weight's gradient is summed in parts of as many rows whatever the number of threads, so that it never depends on it.
template <class T>
void rms_norm_backward(const T* x, const float* weight, const float* inverse, const T* grad, T* grad_x,
                       float* grad_weight, int64_t rows, int64_t D) {
    const int64_t part = 256, parts = (rows + part - 1) / part;
    std::vector<float> partial(size_t(parts) * D, 0.0f);
#pragma omp parallel for schedule(static) if (rows * D > SMALL)
    for (int64_t p = 0; p < parts; p++) {
        float* mine = partial.data() + p * D;
        for (int64_t r = p * part; r < std::min(rows, (p + 1) * part); r++) {
            const T *a = x + r * D, *g = grad + r * D;
            T* out = grad_x + r * D;
            float scale = inverse[r], dot = 0;
#pragma omp simd reduction(+ : dot)
            for (int64_t i = 0; i < D; i++) dot += load(g + i) * weight[i] * load(a + i);
            dot *= scale * scale / D;
#pragma omp simd
            for (int64_t i = 0; i < D; i++) {
                float v = load(a + i), u = load(g + i);
                mine[i] += u * v * scale;
                store(out + i, scale * (u * weight[i] - v * dot));
            }
        }
    }
    std::memset(grad_weight, 0, D * sizeof(float));
    for (int64_t p = 0; p < parts; p++)
        for (int64_t i = 0; i < D; i++) grad_weight[i] += partial[size_t(p) * D + i];
}

template <class T>
void swiglu_forward(const T* both, T* hidden, int64_t rows, int64_t I) {
#pragma omp parallel for schedule(static) if (rows * I > SMALL)
    for (int64_t r = 0; r < rows; r++) {
        const T *gate = both + r * 2 * I, *up = gate + I;
        T* out = hidden + r * I;
#pragma omp simd
        for (int64_t i = 0; i < I; i++) {
            float g = load(gate + i);
            store(out + i, g * sigmoid(g) * load(up + i));
        }
    }
}

// `row_weight`, `weighted` and `row_grad` are null for a dense layer. For experts, `grad` is the gradient before the gate's
// weight w: hidden * w goes to `weighted`, <grad, hidden> to `row_grad`, and the result is multiplied by w.
template <class T>
void swiglu_backward(const T* grad, const T* both, const T* row_weight, T* grad_both, T* weighted, float* row_grad,
                     int64_t rows, int64_t I) {
#pragma omp parallel for schedule(static) if (rows * I > SMALL)
    for (int64_t r = 0; r < rows; r++) {
        const T *gate = both + r * 2 * I, *up = gate + I, *g = grad + r * I;
        T *grad_gate = grad_both + r * 2 * I, *grad_up = grad_gate + I;
        float w = row_weight ? load(row_weight + r) : 1.0f, dot = 0;
        if (row_weight) {
            T* out = weighted + r * I;
#pragma omp simd reduction(+ : dot)
            for (int64_t i = 0; i < I; i++) {
                float a = load(gate + i), u = load(up + i), d = load(g + i), s = sigmoid(a);
                float hidden = a * s * u, wd = w * d;
                dot += d * hidden;
                store(out + i, hidden * w);
                store(grad_up + i, wd * a * s);
                store(grad_gate + i, wd * u * s * (1.0f + a * (1.0f - s)));
            }
            row_grad[r] = dot;
        } else {
#pragma omp simd
            for (int64_t i = 0; i < I; i++) {
                float a = load(gate + i), u = load(up + i), d = load(g + i), s = sigmoid(a);
                store(grad_up + i, d * a * s);
                store(grad_gate + i, d * u * s * (1.0f + a * (1.0f - s)));
            }
        }
    }
}

// Rows are queries first, first + 1, ... of `n` matrices (rows, columns); query i sees columns up to `seen` + i.
template <class T>
void causal_softmax_forward(T* scores, int64_t n, int64_t rows, int64_t columns, int64_t seen, float scale) {
#pragma omp parallel if (n * rows * columns > SMALL)
    {
        std::vector<float> kept(columns);
        float* e = kept.data();
#pragma omp for schedule(static)
        for (int64_t r = 0; r < n * rows; r++) {
            T* z = scores + r * columns;
            int64_t visible = seen + r % rows + 1;
            float top = maximum(z, visible, scale), sum = 0;
#pragma omp simd reduction(+ : sum)
            for (int64_t i = 0; i < visible; i++) sum += e[i] = exponential(load(z + i) * scale - top);
            float share = 1.0f / sum;
#pragma omp simd
            for (int64_t i = 0; i < visible; i++) store(z + i, e[i] * share);
            std::memset(z + visible, 0, (columns - visible) * sizeof(T));
        }
    }
}

template <class T>
void causal_softmax_backward(const T* probabilities, T* grad, int64_t n, int64_t rows, int64_t columns, int64_t seen,
                             float scale) {
#pragma omp parallel for schedule(static) if (n * rows * columns > SMALL)
    for (int64_t r = 0; r < n * rows; r++) {
        const T* p = probabilities + r * columns;
        T* g = grad + r * columns;
        int64_t visible = seen + r % rows + 1;
        float dot = 0;
#pragma omp simd reduction(+ : dot)
        for (int64_t i = 0; i < visible; i++) dot += load(p + i) * load(g + i);
#pragma omp simd
        for (int64_t i = 0; i < visible; i++) store(g + i, load(p + i) * (load(g + i) - dot) * scale);
        std::memset(g + visible, 0, (columns - visible) * sizeof(T));
    }
}

inline void rotate(float a, float b, float c, float s, float& x, float& y) {
    x = a * c - b * s;
    y = a * s + b * c;
}

// From projections laid out by token to queries, keys and values laid out by head, with the rotary part turned.
// q (B, S, H, N + R), kv (B, S, H, N + U), k_rope (B, S, ...) with rows `rope_stride` apart; cos, sin (S or B * S, R / 2).
template <class T>
void heads_forward(const T* q, const T* kv, const T* k_rope, const float* cos, const float* sin, T* q_out, T* k_out,
                   T* v_out, int64_t B, int64_t S, int64_t H, int64_t N, int64_t R, int64_t U, int64_t rope_stride,
                   int64_t per_sequence) {
#pragma omp parallel for schedule(static) if (B * S * H * (N + R) > SMALL)
    for (int64_t t = 0; t < B * S; t++) {
        int64_t b = t / S, s = t % S;
        const float *c = cos + (per_sequence ? t : s) * (R / 2), *d = sin + (per_sequence ? t : s) * (R / 2);
        const T* shared = k_rope + t * rope_stride;
        for (int64_t h = 0; h < H; h++) {
            const T *from = q + (t * H + h) * (N + R), *pair = kv + (t * H + h) * (N + U);
            int64_t row = (b * H + h) * S + s;
            T *to = q_out + row * (N + R), *key = k_out + row * (N + R);
            std::memcpy(to, from, N * sizeof(T));
            std::memcpy(key, pair, N * sizeof(T));
            std::memcpy(v_out + row * U, pair + N, U * sizeof(T));
            for (int64_t i = 0; i < R / 2; i++) {
                float x, y;
                rotate(load(from + N + 2 * i), load(from + N + 2 * i + 1), c[i], d[i], x, y);
                store(to + N + 2 * i, x);
                store(to + N + 2 * i + 1, y);
                rotate(load(shared + 2 * i), load(shared + 2 * i + 1), c[i], d[i], x, y);
                store(key + N + 2 * i, x);
                store(key + N + 2 * i + 1, y);
            }
        }
    }
}

// The gradient of `heads_forward`: rotations turn back, the shared rotary key's gradient is the sum over heads.
template <class T>
void heads_backward(const T* grad_q, const T* grad_k, const T* grad_v, const float* cos, const float* sin, T* q_out,
                    T* kv_out, T* rope_out, int64_t B, int64_t S, int64_t H, int64_t N, int64_t R, int64_t U,
                    int64_t per_sequence) {
#pragma omp parallel for schedule(static) if (B * S * H * (N + R) > SMALL)
    for (int64_t t = 0; t < B * S; t++) {
        int64_t b = t / S, s = t % S;
        const float *c = cos + (per_sequence ? t : s) * (R / 2), *d = sin + (per_sequence ? t : s) * (R / 2);
        for (int64_t h = 0; h < H; h++) {
            int64_t row = (b * H + h) * S + s;
            const T *from = grad_q + row * (N + R), *key = grad_k + row * (N + R);
            T *to = q_out + (t * H + h) * (N + R), *pair = kv_out + (t * H + h) * (N + U);
            std::memcpy(to, from, N * sizeof(T));
            std::memcpy(pair, key, N * sizeof(T));
            std::memcpy(pair + N, grad_v + row * U, U * sizeof(T));
            for (int64_t i = 0; i < R / 2; i++) {
                float x, y;
                rotate(load(from + N + 2 * i), load(from + N + 2 * i + 1), c[i], -d[i], x, y);
                store(to + N + 2 * i, x);
                store(to + N + 2 * i + 1, y);
            }
        }
        for (int64_t i = 0; i < R / 2; i++) {
            float a = 0, e = 0, x, y;
            for (int64_t h = 0; h < H; h++) {
                const T* key = grad_k + ((b * H + h) * S + s) * (N + R) + N + 2 * i;
                a += load(key);
                e += load(key + 1);
            }
            rotate(a, e, c[i], -d[i], x, y);
            store(rope_out + t * R + 2 * i, x);
            store(rope_out + t * R + 2 * i + 1, y);
        }
    }
}

}  // namespace

#define FOR_EACH_STORAGE(DEFINE) DEFINE(float, f32) DEFINE(bf16, bf16)

#define DEFINE(T, NAME)                                                                                                \
    void cross_entropy_##NAME(T* logits, const int64_t* targets, const float* weights, float* nll, int64_t rows,          \
                              int64_t V) {                                                                             \
        cross_entropy(logits, targets, weights, nll, rows, V);                                                         \
    }                                                                                                                  \
    void rms_norm_forward_##NAME(const T* x, const float* weight, T* y, float* inverse, int64_t rows, int64_t D,       \
                                 float eps) {                                                                          \
        rms_norm_forward(x, weight, y, inverse, rows, D, eps);                                                         \
    }                                                                                                                  \
    void rms_norm_backward_##NAME(const T* x, const float* weight, const float* inverse, const T* grad, T* grad_x,     \
                                  float* grad_weight, int64_t rows, int64_t D) {                                       \
        rms_norm_backward(x, weight, inverse, grad, grad_x, grad_weight, rows, D);                                     \
    }                                                                                                                  \
    void swiglu_forward_##NAME(const T* both, T* hidden, int64_t rows, int64_t I) {                                    \
        swiglu_forward(both, hidden, rows, I);                                                                         \
    }                                                                                                                  \
    void swiglu_backward_##NAME(const T* grad, const T* both, const T* row_weight, T* grad_both, T* weighted,          \
                                float* row_grad, int64_t rows, int64_t I) {                                            \
        swiglu_backward(grad, both, row_weight, grad_both, weighted, row_grad, rows, I);                               \
    }                                                                                                                  \
    void causal_softmax_forward_##NAME(T* scores, int64_t n, int64_t rows, int64_t columns, int64_t seen,              \
                                       float scale) {                                                                  \
        causal_softmax_forward(scores, n, rows, columns, seen, scale);                                                 \
    }                                                                                                                  \
    void causal_softmax_backward_##NAME(const T* probabilities, T* grad, int64_t n, int64_t rows, int64_t columns,     \
                                        int64_t seen, float scale) {                                                   \
        causal_softmax_backward(probabilities, grad, n, rows, columns, seen, scale);                                   \
    }                                                                                                                  \
    void heads_forward_##NAME(const T* q, const T* kv, const T* k_rope, const float* cos, const float* sin, T* q_out,  \
                              T* k_out, T* v_out, int64_t B, int64_t S, int64_t H, int64_t N, int64_t R, int64_t U,    \
                              int64_t rope_stride, int64_t per_sequence) {                                                 \
        heads_forward(q, kv, k_rope, cos, sin, q_out, k_out, v_out, B, S, H, N, R, U, rope_stride, per_sequence);      \
    }                                                                                                                  \
    void heads_backward_##NAME(const T* grad_q, const T* grad_k, const T* grad_v, const float* cos, const float* sin,  \
                               T* q_out, T* kv_out, T* rope_out, int64_t B, int64_t S, int64_t H, int64_t N,           \
                               int64_t R, int64_t U, int64_t per_sequence) {                                               \
        heads_backward(grad_q, grad_k, grad_v, cos, sin, q_out, kv_out, rope_out, B, S, H, N, R, U, per_sequence);     \
    }

extern "C" {
FOR_EACH_STORAGE(DEFINE)
}
