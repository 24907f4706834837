// SwiGLU layers, dense and routed. Of the routed ones only the experts that some token has chosen are read.

#include "routing.h"

namespace {

const int64_t UNITS = 32;    // inner units, or columns of the result, of a task
const int64_t PANEL = 48;    // rows multiplied before their results are put away
const int64_t TOKENS = 192;  // rows of a task, where there are many

// h[m] = silu(gate x[m]) * (up x[m]) for inner units [first, first + count), M rows given by address.
template <class T>
inline void gated_units(const T* const* x, int64_t M, const Matrix& gate, const Matrix& up, int64_t first, int64_t count,
                        T* const* h, Scratch& scratch) {
    auto gate_rows = operand_rows<T>(gate, first, count, M, scratch), up_rows = operand_rows<T>(up, first, count, M, scratch);
    float *g = scratch.take<float>(PANEL * UNITS), *u = scratch.take<float>(PANEL * UNITS);
    for (int64_t begin = 0; begin < M; begin += PANEL) {
        int64_t n = std::min(PANEL, M - begin);
        dots<T>(x + begin, n, gate_rows, gate.columns, g, UNITS);
        dots<T>(x + begin, n, up_rows, gate.columns, u, UNITS);
        for (int64_t m = 0; m < n; m++) {
            T* to = h[begin + m] + first;
            for (int64_t i = 0; i < count; i += LANES) {
                v16 y = silu16(load16(g + m * UNITS + i)) * load16(u + m * UNITS + i);
                if (i + LANES <= count)
                    store16(to + i, y);
                else
                    store_some(to + i, y, count - i);
            }
        }
    }
}

template <class T>
struct Gated : public Node {
    Buffer *x, *h;
    Matrix gate, up;

    Gated(Plan* plan, int64_t x, int64_t h, const Matrix& gate, const Matrix& up)
        : x(plan->buffer(x)), h(plan->buffer(h)), gate(gate), up(up) {}

    int64_t tasks(const Step& step) override { return pieces(gate.rows, UNITS) * pieces(step.tokens_count, TOKENS); }

    void run(const Step& step, int64_t task, Scratch& scratch) override {
        int64_t chunks = pieces(gate.rows, UNITS), first = task % chunks * UNITS, begin = task / chunks * TOKENS;
        int64_t n = std::min(TOKENS, step.tokens_count - begin);
        auto from = token_rows<T>(x->row<T>(begin), x->width, n, scratch);
        T** to = scratch.take<T*>(n);
        for (int64_t m = 0; m < n; m++) to[m] = h->row<T>(begin + m);
        gated_units<T>(from, n, gate, up, first, std::min(UNITS, gate.rows - first), to, scratch);
    }
};

// The layer's weights: all experts' gate and up rows (E 2I, D), all down rows (E D, I), the shared expert's three.
struct ExpertWeights {
    Matrix gate_up, down, shared_gate, shared_up, shared_down;  // a shared matrix without rows: no shared expert
    int64_t experts, inner, width;

    Matrix gate(int64_t e) const { return gate_up.slice(e * 2 * inner, inner); }
    Matrix up(int64_t e) const { return gate_up.slice(e * 2 * inner + inner, inner); }
    Matrix down_of(int64_t e) const { return down.slice(e * width, width); }
};

template <class T>
struct ExpertsUp : public Node {
    Buffer *x, *h, *shared_h;
    ExpertWeights weights;
    Routing* routing;

    ExpertsUp(Plan* plan, int64_t x, int64_t h, int64_t shared_h, const ExpertWeights& weights, Routing* routing)
        : x(plan->buffer(x)), h(plan->buffer(h)), shared_h(plan->buffer(shared_h)), weights(weights), routing(routing) {}

    int64_t chunks() const { return pieces(weights.inner, UNITS); }
    int64_t shared_chunks() const { return pieces(weights.shared_gate.rows, UNITS); }

    int64_t tasks(const Step& step) override {
        return int64_t(routing->active.size()) * chunks() + shared_chunks() * pieces(step.tokens_count, TOKENS);
    }

    void run(const Step& step, int64_t task, Scratch& scratch) override {
        int64_t routed = int64_t(routing->active.size()) * chunks();
        if (task >= routed) return run_shared(step, task - routed, scratch);
        int64_t e = routing->active[task / chunks()], first = task % chunks() * UNITS;
        int64_t begin = routing->start[e], n = routing->start[e + 1] - begin;
        const T** from = scratch.take<const T*>(n);
        T** to = scratch.take<T*>(n);
        for (int64_t m = 0; m < n; m++) {
            from[m] = x->row<T>(routing->token[begin + m]);
            to[m] = h->row<T>(begin + m);
        }
        gated_units<T>(from, n, weights.gate(e), weights.up(e), first, std::min(UNITS, weights.inner - first), to, scratch);
    }

    void fetch(const Step&, int64_t task) override {
        if (task >= int64_t(routing->active.size()) * chunks()) return;
        int64_t e = routing->active[task / chunks()], first = task % chunks() * UNITS;
        fetch_rows(weights.gate(e), first);
        fetch_rows(weights.up(e), first);
    }

    void run_shared(const Step& step, int64_t task, Scratch& scratch) {
        int64_t first = task % shared_chunks() * UNITS, begin = task / shared_chunks() * TOKENS;
        int64_t n = std::min(TOKENS, step.tokens_count - begin), inner = weights.shared_gate.rows;
        auto from = token_rows<T>(x->row<T>(begin), x->width, n, scratch);
        T** to = scratch.take<T*>(n);
        for (int64_t m = 0; m < n; m++) to[m] = shared_h->row<T>(begin + m);
        gated_units<T>(from, n, weights.shared_gate, weights.shared_up, first, std::min(UNITS, inner - first), to, scratch);
    }
};

// Each expert's results, a row for each of its tokens; the shared expert's go to the state at once.
template <class T>
struct ExpertsDown : public Node {
    Buffer *h, *shared_h, *made, *state;
    ExpertWeights weights;
    Routing* routing;

    ExpertsDown(Plan* plan, int64_t h, int64_t shared_h, int64_t made, int64_t state, const ExpertWeights& weights, Routing* routing)
        : h(plan->buffer(h)), shared_h(plan->buffer(shared_h)), made(plan->buffer(made)), state(plan->buffer(state)), weights(weights), routing(routing) {}

    int64_t chunks() const { return pieces(weights.width, UNITS); }

    int64_t tasks(const Step& step) override {
        int64_t shared = weights.shared_down.rows ? chunks() * pieces(step.tokens_count, TOKENS) : 0;
        return int64_t(routing->active.size()) * chunks() + shared;
    }

    void fetch(const Step&, int64_t task) override {
        if (task < int64_t(routing->active.size()) * chunks())
            fetch_rows(weights.down_of(routing->active[task / chunks()]), task % chunks() * UNITS);
    }

    void run(const Step& step, int64_t task, Scratch& scratch) override {
        int64_t routed = int64_t(routing->active.size()) * chunks();
        bool shared = task >= routed;
        if (shared) task -= routed;
        int64_t first = task % chunks() * UNITS, count = std::min(UNITS, weights.width - first), e = task / chunks();
        int64_t begin = shared ? e * TOKENS : routing->start[routing->active[e]];
        int64_t end = shared ? std::min(begin + TOKENS, step.tokens_count) : routing->start[routing->active[e] + 1];
        Matrix matrix = shared ? weights.shared_down : weights.down_of(routing->active[e]);
        const Buffer *from = shared ? shared_h : h, *to = shared ? state : made;
        auto columns = operand_rows<T>(matrix, first, count, end - begin, scratch);
        float* out = scratch.take<float>(PANEL * UNITS);
        for (int64_t m0 = begin; m0 < end; m0 += PANEL) {
            int64_t rows = std::min(PANEL, end - m0);
            auto x = token_rows<T>(from->row<T>(m0), from->width, rows, scratch);
            dots<T>(x, rows, columns, from->width, out, UNITS);
            for (int64_t m = 0; m < rows; m++) {
                float* y = to->row<float>(m0 + m) + first;
                for (int64_t i = 0; i < count; i++) y[i] = shared ? y[i] + out[m * UNITS + i] : out[m * UNITS + i];
            }
        }
    }
};

// Adds each token's experts' results to the state, weighted, in the order of its choices.
template <class T>
struct Gather : public Node {
    Buffer *made, *state;
    Routing* routing;
    static const int64_t ROWS = 8;

    Gather(Plan* plan, int64_t made, int64_t state, Routing* routing)
        : made(plan->buffer(made)), state(plan->buffer(state)), routing(routing) {}

    int64_t tasks(const Step& step) override { return pieces(step.tokens_count, ROWS); }

    void run(const Step& step, int64_t task, Scratch&) override {
        int64_t K = made->rows_per_token;
        for (int64_t t = task * ROWS; t < std::min((task + 1) * ROWS, step.tokens_count); t++)
            for (int64_t k = t * K; k < (t + 1) * K; k++) {
                float *to = state->row<float>(t), w = routing->weights[k];
                const float* from = made->row<float>(routing->slot[k]);
                for (int64_t i = 0; i < state->width; i++) to[i] += w * from[i];
            }
    }
};

// Keeps a layer's routing alive with the plan; it has nothing to run.
struct RoutingHolder : public Node {
    Routing routing;
    int64_t tasks(const Step&) override { return 0; }
    void run(const Step&, int64_t, Scratch&) override {}
};

}  // namespace

extern "C" {

void plan_gated(Plan* plan, int64_t x, int64_t h, const Matrix* gate, const Matrix* up) { ADD_NODE(plan, Gated, x, h, *gate, *up); }

// `rules` (7): experts, chosen, groups, open groups, best of a group, sigmoid, normalise. Shared matrices may be null.
void plan_experts(Plan* plan, int64_t x, int64_t state, int64_t logits, int64_t h, int64_t shared_h, int64_t made, const Matrix* router,
                  const int64_t* rules, float scaling, const float* bias, int64_t inner, const Matrix* gate_up,
                  const Matrix* down, const Matrix* shared_gate, const Matrix* shared_up, const Matrix* shared_down) {
    auto holder = std::make_unique<RoutingHolder>();
    Routing* routing = &holder->routing;
    plan->nodes.push_back(std::move(holder));
    RouterRules decided{rules[0], rules[1], rules[2], rules[3], rules[4], rules[5], rules[6], scaling, bias};
    ExpertWeights weights{*gate_up, *down, Matrix(), Matrix(), Matrix(), rules[0], inner, plan->buffer(state)->width};
    if (shared_gate) weights.shared_gate = *shared_gate, weights.shared_up = *shared_up, weights.shared_down = *shared_down;
    ADD_NODE(plan, Score, x, logits, *router);
    ADD_NODE(plan, Choose, logits, decided, routing);
    ADD_NODE(plan, ExpertsUp, x, h, shared_h, weights, routing);
    ADD_NODE(plan, ExpertsDown, h, shared_h, made, state, weights, routing);
    ADD_NODE(plan, Gather, made, state, routing);
}
}
