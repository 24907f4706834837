// Which experts a token is given to, and which tokens an expert is.

#pragma once

#include "matrix.h"

namespace {

struct RouterRules {
    int64_t experts, chosen, groups, open_groups, best_of_group;  // open_groups == groups: no limit
    int64_t sigmoid, normalise;
    float scaling;
    const float* bias;  // (E,) or null
};

// Which tokens each expert works for. Row `slot` of the experts' hidden states belongs to token[slot].
struct Routing {
    std::vector<int32_t> ids, token, start, active;
    std::vector<int32_t> slot;   // of each token's k-th choice
    std::vector<float> weights;  // of each token's k-th choice

    void group(int64_t tokens, int64_t K, int64_t E) {
        start.assign(E + 1, 0);
        for (int64_t i = 0; i < tokens * K; i++) start[ids[i] + 1]++;
        active.clear();
        for (int64_t e = 0; e < E; e++) {
            if (start[e + 1]) active.push_back(int32_t(e));
            start[e + 1] += start[e];
        }
        std::vector<int32_t> at(start.begin(), start.end() - 1);
        for (int64_t i = 0; i < tokens * K; i++) {
            slot[i] = at[ids[i]]++;
            token[slot[i]] = int32_t(i / K);
        }
    }
};

// Router logits (T, E) in full FP32, whatever the operand type.
template <class T>
struct Score : public Node {
    Buffer *x, *logits;
    Matrix weight;
    static constexpr int64_t UNITS = 32, PANEL = 48;  // experts and tokens of a task

    Score(Plan* plan, int64_t x, int64_t logits, const Matrix& weight)
        : x(plan->buffer(x)), logits(plan->buffer(logits)), weight(weight) {}

    int64_t tasks(const Step& step) override { return pieces(weight.rows, UNITS) * pieces(step.tokens_count, PANEL); }

    void run(const Step& step, int64_t task, Scratch& scratch) override {
        int64_t chunks = pieces(weight.rows, UNITS), first = task % chunks * UNITS, begin = task / chunks * PANEL;
        int64_t count = std::min(UNITS, weight.rows - first), n = std::min(PANEL, step.tokens_count - begin), D = x->width;
        float* out = scratch.take<float>(n * UNITS);
        if (weight.kind == BF16) {
            auto rows = token_rows<bf16>(x->row<bf16>(begin), D, n, scratch);
            dots<bf16>(rows, n, operand_rows<bf16>(weight, first, count, n, scratch), D, out, UNITS);
        } else {
            float* wide = scratch.take<float>(n * D);
            for (int64_t i = 0; i < n * D; i++) wide[i] = load(x->row<T>(begin) + i);
            auto rows = token_rows<float>(wide, D, n, scratch);
            dots<float>(rows, n, operand_rows<float>(weight, first, count, n, scratch), D, out, UNITS);
        }
        for (int64_t m = 0; m < n; m++)
            std::memcpy(logits->row<float>(begin + m) + first, out + m * UNITS, count * sizeof(float));
    }
};

// From logits to chosen experts and their weights (V3 eq. 13 to 16, V2's softmax likewise), then tokens by expert.
template <class T>
struct Choose : public Node {
    Buffer* logits;
    RouterRules rules;
    Routing* routing;
    std::atomic<int64_t> left{0};
    static const int64_t ROWS = 16;

    Choose(Plan* plan, int64_t logits, const RouterRules& rules, Routing* routing)
        : logits(plan->buffer(logits)), rules(rules), routing(routing) {}

    void prepare(const Step& step) override {
        size_t slots = step.tokens_count * rules.chosen;
        if (routing->ids.size() < slots) {
            routing->ids.resize(slots), routing->token.resize(slots);
            routing->weights.resize(slots), routing->slot.resize(slots);
        }
        left.store(tasks(step), std::memory_order_relaxed);
    }

    int64_t tasks(const Step& step) override { return pieces(step.tokens_count, ROWS); }

    void run(const Step& step, int64_t task, Scratch& scratch) override {
        float* selection = scratch.take<float>(rules.experts);
        for (int64_t t = task * ROWS; t < std::min((task + 1) * ROWS, step.tokens_count); t++)
            choose(logits->row<float>(t), selection, &routing->ids[t * rules.chosen], &routing->weights[t * rules.chosen]);
        if (left.fetch_sub(1, std::memory_order_acq_rel) == 1) routing->group(step.tokens_count, rules.chosen, rules.experts);
    }

    void choose(float* score, float* selection, int32_t* ids, float* weights) const {
        int64_t E = rules.experts;
        if (rules.sigmoid) {
            for (int64_t e = 0; e < E; e++) score[e] = 1.0f / (1.0f + std::exp(-score[e]));
        } else {
            float top = *std::max_element(score, score + E), total = 0;
            for (int64_t e = 0; e < E; e++) total += score[e] = std::exp(score[e] - top);
            for (int64_t e = 0; e < E; e++) score[e] /= total;
        }
        for (int64_t e = 0; e < E; e++) selection[e] = score[e] + (rules.bias ? rules.bias[e] : 0.0f);
        if (rules.open_groups < rules.groups) close_groups(selection);
        float total = 0;
        for (int64_t k = 0; k < rules.chosen; k++) {
            int64_t best = std::max_element(selection, selection + E) - selection;
            selection[best] = -INFINITY;
            ids[k] = int32_t(best);
            weights[k] = score[best];
            total += score[best];
        }
        for (int64_t k = 0; k < rules.chosen; k++)
            weights[k] = weights[k] / (rules.normalise ? total + 1e-20f : 1.0f) * rules.scaling;
    }

    // Only the best groups stay open; a group counts as the sum of its `best_of_group` best.
    void close_groups(float* selection) const {
        int64_t size = rules.experts / rules.groups;
        std::vector<std::pair<float, int64_t>> merit;
        for (int64_t g = 0; g < rules.groups; g++) {
            std::vector<float> members(selection + g * size, selection + (g + 1) * size);
            std::partial_sort(members.begin(), members.begin() + rules.best_of_group, members.end(), std::greater<float>());
            float total = 0;
            for (int64_t i = 0; i < rules.best_of_group; i++) total += members[i];
            merit.emplace_back(-total, g);
        }
        std::stable_sort(merit.begin(), merit.end());
        for (int64_t i = rules.open_groups; i < rules.groups; i++)
            std::fill_n(selection + merit[i].second * size, size, -INFINITY);
    }
};

}  // namespace
