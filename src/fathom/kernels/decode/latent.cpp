// Multi-head latent attention's queries, latents and values, with the up-projection absorbed on both sides.

#include "attention.h"
#include "positions.h"

namespace {

const int64_t TOKENS_TASK = 4;  // tokens of a task that writes latents
const int64_t MANY = 32;        // tokens of a task that multiplies

struct LatentSizes {
    int64_t heads, nope, rope, value, rank;
    float eps;
};

// MLA: the normed latent and the rotated shared key into the cache (V3 eq. 1 and 3); queries absorbed by the
// up-projection of their head's keys and rotated, (T, H, R + rope).
template <class T>
struct LatentInputs : public Node {
    Buffer *q, *latent, *rotation, *out;
    Matrix up;
    const float* norm;
    LatentSizes sizes;
    int64_t layer;

    LatentInputs(Plan* plan, int64_t q, int64_t latent, int64_t rotation, int64_t out, const Matrix& up, const float* norm,
                 const LatentSizes& sizes, int64_t layer)
        : q(plan->buffer(q)), latent(plan->buffer(latent)), rotation(plan->buffer(rotation)), out(plan->buffer(out)), up(up), norm(norm), sizes(sizes), layer(layer) {}

    int64_t writes(const Step& step) const { return pieces(step.tokens_count, TOKENS_TASK); }
    int64_t tasks(const Step& step) override { return writes(step) + sizes.heads * pieces(step.tokens_count, MANY); }

    void run(const Step& step, int64_t task, Scratch& scratch) override {
        if (task < writes(step))
            for (int64_t t = task * TOKENS_TASK; t < std::min((task + 1) * TOKENS_TASK, step.tokens_count); t++) write(step, t);
        else
            absorb(step, (task - writes(step)) % sizes.heads, (task - writes(step)) / sizes.heads * MANY, scratch);
    }

    void write(const Step& step, int64_t t) const {
        int64_t R = sizes.rank;
        T* to = cached_row<T>(step, sequence_of(step, t), t, layer, 0, R + sizes.rope);
        const float* x = latent->row<float>(t);
        float squares = 0;
        for (int64_t i = 0; i < R; i++) squares += x[i] * x[i];
        float factor = 1.0f / std::sqrt(squares / R + sizes.eps);
        for (int64_t i = 0; i < R; i++) store(to + i, x[i] * factor * norm[i]);
        rotate(x + R, rotation->row<float>(t), sizes.rope / 2, false, to + R);
    }

    void absorb(const Step& step, int64_t h, int64_t begin, Scratch& scratch) const {
        int64_t n = std::min(MANY, step.tokens_count - begin), stride = pieces(sizes.rank, LANES) * LANES;
        int64_t width = sizes.rank + sizes.rope, head = sizes.nope + sizes.rope;
        auto rows = operand_rows<T>(up, h * (sizes.nope + sizes.value), sizes.nope, THEMSELVES, scratch);
        float* made = scratch.take<float>(n * stride);
        T* nope = scratch.take<T>(n * sizes.nope);
        for (int64_t m = 0; m < n; m++)
            for (int64_t i = 0; i < sizes.nope; i++) store(nope + m * sizes.nope + i, q->row<float>(begin + m)[h * head + i]);
        mixes(nope, sizes.nope, n, rows.rows, sizes.nope, sizes.rank, made, stride);
        for (int64_t m = 0; m < n; m++) {
            T* to = out->row<T>(begin + m) + h * width;
            for (int64_t i = 0; i < sizes.rank; i++) store(to + i, made[m * stride + i]);
            rotate(q->row<float>(begin + m) + h * head + sizes.nope, rotation->row<float>(begin + m), sizes.rope / 2, false, to + sizes.rank);
        }
    }
};

// MLA: from each head's mix of latents (T, H, R) to its value (T, H, value).
template <class T>
struct LatentValues : public Node {
    Buffer *from, *to;
    Matrix up;
    LatentSizes sizes;

    LatentValues(Plan* plan, int64_t from, int64_t to, const Matrix& up, const LatentSizes& sizes)
        : from(plan->buffer(from)), to(plan->buffer(to)), up(up), sizes(sizes) {}

    int64_t tasks(const Step& step) override { return sizes.heads * pieces(step.tokens_count, MANY); }

    void run(const Step& step, int64_t task, Scratch& scratch) override {
        int64_t h = task % sizes.heads, begin = task / sizes.heads * MANY, n = std::min(MANY, step.tokens_count - begin);
        int64_t stride = pieces(sizes.value, 4) * 4;
        auto columns = operand_rows<T>(up, h * (sizes.nope + sizes.value) + sizes.nope, sizes.value, n, scratch);
        auto x = token_rows<T>(from->row<T>(begin) + h * sizes.rank, from->width, n, scratch);
        float* made = scratch.take<float>(n * stride);
        dots<T>(x, n, columns, sizes.rank, made, stride);
        for (int64_t m = 0; m < n; m++) {
            T* out = to->row<T>(begin + m) + h * sizes.value;
            for (int64_t i = 0; i < sizes.value; i++) store(out + i, made[m * stride + i]);
        }
    }
};

}  // namespace

extern "C" {

// From queries (T, H (nope + rope)) and compressed latents with their shared key (T, R + rope), both FP32, to each head's
// value (operand type). `up` is the (H (nope + value), R) up-projection; `latent_sizes` heads, nope, rope, value, rank.
void plan_latent_attention(Plan* plan, Node* work, int64_t layer, int64_t q, int64_t latent, int64_t rotation,
                           int64_t absorbed, int64_t mixed, int64_t out, const Matrix* up, const float* norm, float eps,
                           const int64_t* latent_sizes, float scale) {
    LatentSizes latents{latent_sizes[0], latent_sizes[1], latent_sizes[2], latent_sizes[3], latent_sizes[4], eps};
    Sizes sizes{layer, 1, latents.heads, latents.rank + latents.rope, latents.rank, 0, scale};
    ADD_NODE(plan, LatentInputs, q, latent, rotation, absorbed, *up, norm, latents, layer);
    add_attention(plan, absorbed, mixed, sizes, work);
    ADD_NODE(plan, LatentValues, mixed, out, *up, latents);
}
}
