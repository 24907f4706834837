// Draws a token from each row of scores: `fathom.engine.sampler` in one call. Random numbers are those of
// `fathom.engine.noise`, and so are the winners of the race.

#include "common.h"

namespace {

// More numbers than this are worth OpenMP's threads, which the threads of a decoding step still keep from their processors.
const int64_t MANY = 1 << 18;

struct Candidate {
    float score, weight;
    int64_t id;
};

// What came before: higher scores, and of equal ones the lower id.
inline bool before(const Candidate& a, const Candidate& b) {
    return a.score > b.score || (a.score == b.score && a.id < b.id);
}

// SplitMix64's output for one token, as a number from 0 to 1, both left out.
inline float uniform(uint64_t key, uint64_t id) {
    uint64_t z = key + id * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    float u = float(int64_t(z & 0x7fffffffffffffffu)) * 0x1p-63f;
    u = u < 0x1p-64f ? 0x1p-64f : u;
    return u > 1 - 0x1p-24f ? 1 - 0x1p-24f : u;
}

// Tokens race with times E / weight, and the first one wins; E = -log(1 - u) is at least u, so that most need no logarithm.
struct Race {
    uint64_t key;
    float best = 0;
    int64_t winner = -1;

    void enter(int64_t id, float weight, float u) {
        if (!(weight > best * u)) return;
        float speed = weight / -std::log1p(-u);
        if (speed > best) best = speed, winner = id;
    }
    void enter(int64_t id, float weight) { enter(id, weight, uniform(key, uint64_t(id))); }
};

// Where `value`, which is among the n scores, first stands.
inline int64_t first(const float* scores, int64_t n, float value) {
    int64_t begin = 0;
    for (; begin + 64 <= n; begin += 64) {
        int32_t equal = 0;
        for (int64_t i = begin; i < begin + 64; i++) equal += scores[i] == value;
        if (equal) break;
    }
    while (scores[begin] != value) begin++;
    return begin;
}

struct Row {
    const float* scores;
    int64_t V;
    float temperature, min_p;
    int64_t top_k;
    double top_p;
};

// The first tokens in order that top_k, then top_p keep, among those whose weight is at least `floor`. False, with the
// total `mass` left as it is, if others might belong to them; else `mass` becomes that of what is kept.
bool limited(const Row& row, const float* weights, float floor, std::vector<Candidate>& kept, double& mass) {
    kept.clear();
    for (int64_t v = 0; v < row.V; v++)
        if (weights[v] > 0 && weights[v] >= floor) kept.push_back({row.scores[v], weights[v], v});
    bool everything = floor == 0;
    size_t most = row.top_k > 0 ? size_t(row.top_k) : kept.size();
    if (kept.size() < most && !everything) return false;
    bool cut = most < kept.size();
    if (cut) {
        std::nth_element(kept.begin(), kept.begin() + most, kept.end(), before);
        kept.resize(most);
    }
    double all = mass;
    if (row.top_k > 0) {
        all = 0;
        for (auto& candidate : kept) all += candidate.weight;
    }
    if (row.top_p < 1) {
        double sum = 0;
        size_t count = 0, ordered = 0, step = 64;
        while (count < kept.size() && (count == 0 || sum < row.top_p * all)) {
            if (count == ordered) {
                // Only so much is put in order as the mass takes.
                ordered = std::min(ordered + step, kept.size());
                step *= 4;
                std::nth_element(kept.begin() + count, kept.begin() + ordered, kept.end(), before);
                std::sort(kept.begin() + count, kept.begin() + ordered, before);
            }
            sum += kept[count++].weight;
        }
        cut = cut || count < kept.size();
        kept.resize(count);
        all = sum;
    }
    if (!cut && !everything && row.top_k == 0) return false;
    mass = all;
    return true;
}

// The token, or -1 where the scores are not numbers or all forbidden, and its log-probability.
int64_t draw(const Row& row, uint64_t key, std::vector<float>& scratch, std::vector<Candidate>& kept, float* logprob) {
    const float* s = row.scores;
    int64_t V = row.V;
    float top = maximum(s, V, 1.0f);
    if (!(top > -INFINITY && top < INFINITY)) return -1;
    bool greedy = row.temperature == 0;
    float temperature = greedy ? 1 : row.temperature, least = row.min_p > 0 ? std::log(row.min_p) : -INFINITY;
    scratch.resize(V);
    float* weights = scratch.data();
    double total = 0;
    bool numbers = true;
    for (int64_t begin = 0; begin < V; begin += 256) {
        int64_t end = std::min(begin + 256, V);
        float sum = 0, check = 0;
        for (int64_t v = begin; v < end; v++) {
            float x = (s[v] - top) / temperature;
            float weight = exponential(x);
            check += weight;
            weight = x < -87.0f || x < least ? 0.0f : weight;
            weights[v] = weight;
            sum += weight;
        }
        numbers = numbers && check == check;
        total += sum;
    }
    if (!numbers) return -1;
    int64_t likeliest = first(s, V, top);
    if (greedy) {
        *logprob = float(-std::log(total));
        return likeliest;
    }
    Race race{key};
    race.enter(likeliest, weights[likeliest]);
    if (row.top_k > 0 || row.top_p < 1) {
        for (float floor : {1e-3f, 1e-6f, 0.0f})
            if (limited(row, weights, floor, kept, total)) break;
        for (auto& candidate : kept) race.enter(candidate.id, candidate.weight);
    } else {
        float u[256];
        for (int64_t begin = 0; begin < V; begin += 256) {
            int64_t end = std::min(begin + 256, V);
            for (int64_t v = begin; v < end; v++) u[v - begin] = uniform(key, uint64_t(v));
            float best = race.best;
            int64_t fast = 0;
            for (int64_t v = begin; v < end; v++) fast += weights[v] > best * u[v - begin];
            if (fast)
                for (int64_t v = begin; v < end; v++) race.enter(v, weights[v], u[v - begin]);
        }
    }
    *logprob = float((s[race.winner] - top) / temperature - std::log(total));
    return race.winner;
}

}  // namespace

// For each of n rows of scores (n, V): `wholes` (n, 2) holds its key and top_k, `reals` (n, 3) temperature, min_p, top_p.
extern "C" void draw_f32(const float* scores, const int64_t* wholes, const double* reals, int64_t* tokens,
                         float* logprobs, int64_t n, int64_t V) {
#pragma omp parallel if (n * V > MANY)
    {
        std::vector<float> scratch;
        std::vector<Candidate> kept;
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < n; i++) {
            Row row{scores + i * V, V, float(reals[3 * i]), float(reals[3 * i + 1]), wholes[2 * i + 1], reals[3 * i + 2]};
            tokens[i] = draw(row, uint64_t(wholes[2 * i]), scratch, kept, logprobs + i);
        }
    }
}
