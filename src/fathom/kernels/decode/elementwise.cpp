// Nodes without products: embeddings and rotary tables, RMSNorm.

#include "matrix.h"

namespace {

const int64_t TOKENS = 8;  // a task's tokens

// The state, (T, D) FP32, and each position's cosines and sines, (T, R / 2 + R / 2).
template <class T>
struct Enter : public Node {
    Buffer *state, *rotation;
    Matrix embedding;
    const float* frequencies;
    float stretch;

    Enter(Plan* plan, int64_t state, int64_t rotation, const Matrix& embedding, const float* frequencies, float stretch)
        : state(plan->buffer(state)), rotation(plan->buffer(rotation)), embedding(embedding), frequencies(frequencies), stretch(stretch) {}

    int64_t tasks(const Step& step) override { return pieces(step.tokens_count, TOKENS); }

    void run(const Step& step, int64_t task, Scratch& scratch) override {
        int64_t pairs = rotation->width / 2;
        for (int64_t t = task * TOKENS; t < std::min((task + 1) * TOKENS, step.tokens_count); t++) {
            float_row(embedding, step.tokens[t], state->row<float>(t), scratch);
            float *cos = rotation->row<float>(t), *sin = cos + pairs;
            for (int64_t i = 0; i < pairs; i++) {
                float angle = float(step.positions[t]) * frequencies[i];
                cos[i] = float(std::cos(double(angle))) * stretch;
                sin[i] = float(std::sin(double(angle))) * stretch;
            }
        }
    }
};

template <class T>
inline void rms_norm(const float* x, const float* weight, float eps, int64_t D, T* out) {
    v16 squares = zeros();
    int64_t i = 0;
    for (; i + LANES <= D; i += LANES) {
        v16 v = load16(x + i);
        squares += v * v;
    }
    if (i < D) {
        v16 v = load_some(x + i, D - i);
        squares += v * v;
    }
    float scale = 1.0f / std::sqrt(sum(squares) / D + eps);
    for (i = 0; i + LANES <= D; i += LANES) {
        v16 y = load16(x + i) * scale * load16(weight + i);
        store16(out + i, y);
    }
    for (; i < D; i++) store(out + i, x[i] * scale * weight[i]);
}

// What an MTP module's `eh_proj` reads, (T, 2D): each token's embedding and the state that came before it (V3 eq. 21, in
// the order of the released weights), each behind a norm of its own; and the rotary tables, as `Enter`.
template <class T>
struct EnterModule : public Node {
    Enter<T> enter;
    Buffer *state, *joined;
    const float *embedding_norm, *state_norm;
    float eps;

    EnterModule(Plan* plan, int64_t state, int64_t rotation, int64_t joined, const Matrix& embedding, const float* frequencies,
                float stretch, const float* embedding_norm, const float* state_norm, float eps)
        : enter(plan, state, rotation, embedding, frequencies, stretch),
          state(plan->buffer(state)),
          joined(plan->buffer(joined)),
          embedding_norm(embedding_norm),
          state_norm(state_norm),
          eps(eps) {}

    int64_t tasks(const Step& step) override { return enter.tasks(step); }

    void run(const Step& step, int64_t task, Scratch& scratch) override {
        enter.run(step, task, scratch);
        int64_t D = state->width;
        for (int64_t t = task * TOKENS; t < std::min((task + 1) * TOKENS, step.tokens_count); t++) {
            rms_norm(state->row<float>(t), embedding_norm, eps, D, joined->row<T>(t));
            rms_norm(step.inputs + t * D, state_norm, eps, D, joined->row<T>(t) + D);
        }
    }
};

// RMSNorm of each token's row, FP32 to operand type.
template <class T>
struct Norm : public Node {
    Buffer *from, *to;
    const float* weight;
    float eps;

    Norm(Plan* plan, int64_t from, int64_t to, const float* weight, float eps)
        : from(plan->buffer(from)), to(plan->buffer(to)), weight(weight), eps(eps) {}

    int64_t tasks(const Step& step) override { return pieces(step.tokens_count, TOKENS); }

    void run(const Step& step, int64_t task, Scratch&) override {
        for (int64_t t = task * TOKENS; t < std::min((task + 1) * TOKENS, step.tokens_count); t++)
            rms_norm(from->row<float>(t), weight, eps, from->width, to->row<T>(t));
    }
};

// The final norm: of the tokens whose logits are wanted for the head, of all tokens for a caller who asks for them.
template <class T>
struct Leave : public Node {
    Buffer *state, *to;
    const float* weight;
    float eps;

    Leave(Plan* plan, int64_t state, int64_t to, const float* weight, float eps)
        : state(plan->buffer(state)), to(plan->buffer(to)), weight(weight), eps(eps) {}

    int64_t all(const Step& step) const { return step.hidden ? pieces(step.tokens_count, TOKENS) : 0; }
    int64_t tasks(const Step& step) override { return all(step) + pieces(step.wanted_count, TOKENS); }

    void run(const Step& step, int64_t task, Scratch&) override {
        int64_t D = state->width;
        if (task < all(step)) {
            for (int64_t t = task * TOKENS; t < std::min((task + 1) * TOKENS, step.tokens_count); t++)
                rms_norm(state->row<float>(t), weight, eps, D, step.hidden + t * D);
            return;
        }
        task -= all(step);
        for (int64_t i = task * TOKENS; i < std::min((task + 1) * TOKENS, step.wanted_count); i++)
            rms_norm(state->row<float>(step.wanted[i]), weight, eps, D, to->row<T>(i));
    }
};

}  // namespace

extern "C" {

void plan_enter(Plan* plan, int64_t state, int64_t rotation, const Matrix* embedding, const float* frequencies, float stretch) {
    ADD_NODE(plan, Enter, state, rotation, *embedding, frequencies, stretch);
}

void plan_enter_module(Plan* plan, int64_t state, int64_t rotation, int64_t joined, const Matrix* embedding, const float* frequencies,
                       float stretch, const float* embedding_norm, const float* state_norm, float eps) {
    ADD_NODE(plan, EnterModule, state, rotation, joined, *embedding, frequencies, stretch, embedding_norm, state_norm, eps);
}

void plan_norm(Plan* plan, int64_t from, int64_t to, const float* weight, float eps) {
    ADD_NODE(plan, Norm, from, to, weight, eps);
}

void plan_leave(Plan* plan, int64_t state, int64_t to, const float* weight, float eps) {
    ADD_NODE(plan, Leave, state, to, weight, eps);
}
}
