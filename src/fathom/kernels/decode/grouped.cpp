// Grouped-query attention's queries, keys and values.

#include "attention.h"
#include "positions.h"

namespace {

const int64_t TOKENS_TASK = 4;  // tokens of a task that makes queries or writes keys

// Grouped-query attention: rotated queries, and rotated keys and values into the cache.
template <class T>
struct GroupedInputs : public Node {
    Buffer *q, *k, *v, *rotation, *out;
    Sizes sizes;

    GroupedInputs(Plan* plan, int64_t q, int64_t k, int64_t v, int64_t rotation, int64_t out, const Sizes& sizes)
        : q(plan->buffer(q)), k(plan->buffer(k)), v(plan->buffer(v)), rotation(plan->buffer(rotation)), out(plan->buffer(out)), sizes(sizes) {}

    int64_t tasks(const Step& step) override { return pieces(step.tokens_count, TOKENS_TASK); }

    void run(const Step& step, int64_t task, Scratch&) override {
        int64_t C = sizes.key_width, width = sizes.groups * C, pairs = rotation->width / 2;
        for (int64_t t = task * TOKENS_TASK; t < std::min((task + 1) * TOKENS_TASK, step.tokens_count); t++) {
            int64_t s = sequence_of(step, t);
            const float* cos = rotation->row<float>(t);
            T *keys = cached_row<T>(step, s, t, sizes.layer, 0, width), *values = cached_row<T>(step, s, t, sizes.layer, 1, width);
            for (int64_t h = 0; h < q->width / C; h++) rotate(q->row<float>(t) + h * C, cos, pairs, true, out->row<T>(t) + h * C);
            for (int64_t g = 0; g < sizes.groups; g++) rotate(k->row<float>(t) + g * C, cos, pairs, true, keys + g * C);
            for (int64_t i = 0; i < width; i++) store(values + i, v->row<float>(t)[i]);
        }
    }
};

}  // namespace

extern "C" {

// From projections q, k, v (FP32, by token) to each head's mix of values (operand type); `width` is a head's.
void plan_grouped_attention(Plan* plan, Node* work, int64_t layer, int64_t q, int64_t k, int64_t v, int64_t rotation,
                            int64_t rotated, int64_t out, int64_t groups, int64_t heads, int64_t width, float scale) {
    Sizes sizes{layer, groups, heads / groups, width, width, 1, scale};
    ADD_NODE(plan, GroupedInputs, q, k, v, rotation, rotated, sizes);
    add_attention(plan, rotated, out, sizes, work);
}
}
