// Guesses by an MTP module (V3 section 2.2): passes of its plan, each from the last one's own output and guess.
//
// All passes and draws of a step are one call, because with a small model what stands between two passes costs as much
// as a pass. Guesses are drawn as tokens are, by `draw_f32` of the training kernels' library, whose address is given.

#include <chrono>
#include <cmath>

#include "matrix.h"

namespace {

typedef void (*Draw)(const float* scores, const int64_t* wholes, const double* reals, int64_t* tokens, float* logprobs,
                     int64_t n, int64_t V);

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

}  // namespace

namespace fathom {

// What guessing needs beside the step; laid out as `fathom.kernels.decode.program.Drafting`. n sequences guess, those
// whose last rows are the step's `wanted`, in order.
struct Drafting {
    int64_t longest, vocabulary, width, levels;
    Draw draw;
    const int64_t* sequences;  // (n,): which of the step's they are
    const int64_t* most;       // (n,): guesses at most
    const int64_t* wholes;     // (n, longest, 2): keys of the places' random numbers, and top_k
    const double* reals;       // (n, 3): temperature, min_p, top_p
    const double* hits;        // (levels,): how often guesses of that confidence came true
    const double* counts;      // (levels,): of so many
    double prior, mean;        // weight of the confidence itself beside them; the chance of a guess not made yet
    // What the next step takes and yields with the guesses so far, and what one more costs there; see
    // `fathom.engine.worth.Budget`, whose rules these are.
    double seconds, tokens, slope;
    double pass_seconds[2];  // of a pass: the first, and the others
    int64_t free, paid;      // guesses that need not pay; whether any did
    int64_t* guesses;        // (n, longest)
    float* logprobs;         // (n, longest): of every guess drawn, kept or not
    int64_t* made;           // (n,)
    double further_seconds;  // of the passes after the first
    int64_t passes;

    bool pays(double chance, double extra) const { return chance * seconds > tokens * (slope + extra); }

    bool grant(double chance, double extra) {
        bool worth = pays(chance, 0);
        if (free <= 0 && !worth) return false;
        paid = paid || pays(chance, extra);
        free--, seconds += slope, tokens += chance;
        return true;
    }

    double trust(double confidence) const {
        int64_t level = std::min(int64_t(confidence * levels), levels - 1);
        return (hits[level] + prior * confidence) / (counts[level] + prior);
    }
};

struct Guesser {
    Plan& plan;
    const Step& first;
    Drafting& asked;
    std::vector<int64_t> active, rows;  // the sequences that go on, and their rows in the last pass
    std::vector<double> chance;
    std::vector<float> logits, hidden, inputs;

    Guesser(Plan& plan, const Step& first, Drafting& asked)
        : plan(plan), first(first), asked(asked), chance(first.wanted_count, 1.0) {
        for (int64_t i = 0; i < first.wanted_count; i++) active.push_back(i), rows.push_back(first.wanted[i]), asked.made[i] = 0;
    }

    void run() {
        plan.run(first);
        asked.passes = 1, asked.further_seconds = 0;
        const float *logits_now = first.logits, *hidden_now = first.hidden;
        for (int64_t place = 0; guess(place, logits_now); place++) {
            double begun = now();
            go_on(place, hidden_now);
            asked.further_seconds += now() - begun;
            asked.passes++;
            logits_now = logits.data(), hidden_now = hidden.data();
        }
    }

    // Draws a guess for each active sequence; false when none goes on.
    bool guess(int64_t place, const float* scores) {
        int64_t n = int64_t(active.size()), kept = 0;
        std::vector<int64_t> wholes, tokens(n);
        std::vector<double> reals;
        std::vector<float> logprobs(n);
        for (int64_t i : active) {
            const int64_t* whole = asked.wholes + (i * asked.longest + place) * 2;
            wholes.insert(wholes.end(), whole, whole + 2);
            reals.insert(reals.end(), asked.reals + 3 * i, asked.reals + 3 * i + 3);
        }
        asked.draw(scores, wholes.data(), reals.data(), tokens.data(), logprobs.data(), n, asked.vocabulary);
        for (int64_t a = 0; a < n; a++) {
            int64_t i = active[a];
            if (asked.most[i] <= place || tokens[a] < 0) continue;
            asked.logprobs[i * asked.longest + place] = logprobs[a];
            chance[i] *= asked.trust(std::exp(double(logprobs[a])));
            if (!asked.grant(chance[i], asked.pass_seconds[place > 0] / n)) continue;
            asked.guesses[i * asked.longest + place] = tokens[a];
            asked.made[i] = place + 1;
            if (place + 1 < asked.most[i]) active[kept] = i, rows[kept++] = rows[a];
        }
        n = kept, kept = 0;
        for (int64_t a = 0; a < n; a++)
            if (asked.free > 0 || asked.pays(chance[active[a]] * asked.mean, asked.pass_seconds[1] / n))
                active[kept] = active[a], rows[kept++] = rows[a];
        active.resize(kept), rows.resize(kept);
        return kept > 0;
    }

    // One pass over the guesses at `place`.
    void go_on(int64_t place, const float* states) {
        int64_t n = int64_t(active.size()), D = asked.width;
        std::vector<int64_t> tokens(n), positions(n), wanted(n);
        std::vector<int32_t> starts(n + 1), lengths(n), table(n * first.table_width);
        inputs.resize(n * D);
        for (int64_t a = 0; a < n; a++) {
            int64_t i = active[a], s = asked.sequences[i];
            tokens[a] = asked.guesses[i * asked.longest + place];
            positions[a] = first.positions[first.wanted[i]] + place + 1;
            lengths[a] = first.lengths[s] + int32_t(place) + 1;
            std::copy_n(first.table + s * first.table_width, first.table_width, table.begin() + a * first.table_width);
            std::copy_n(states + rows[a] * D, D, inputs.begin() + a * D);
            wanted[a] = rows[a] = a, starts[a + 1] = int32_t(a + 1);
        }
        hidden.resize(n * D), logits.resize(n * asked.vocabulary);
        Step step = first;
        step.tokens_count = step.sequences = step.wanted_count = n;
        step.tokens = tokens.data(), step.positions = positions.data(), step.wanted = wanted.data();
        step.query_start = starts.data(), step.lengths = lengths.data(), step.table = table.data();
        step.logits = logits.data(), step.hidden = hidden.data(), step.inputs = inputs.data();
        plan.run(step);
    }
};

}  // namespace fathom

extern "C" {

// 0 if the guesses were made, 1 if memory for them ran out.
int64_t plan_draft(Plan* plan, const fathom::Step* step, fathom::Drafting* asked) {
    try {
        fathom::Guesser(*plan, *step, *asked).run();
        return 0;
    } catch (const std::bad_alloc&) {
        return 1;
    }
}
}
