// Attention over a paged cache: keys in chunks of 256 positions, each chunk's softmax on its own, chunks joined in order.
//
// A chunk is the same positions whether a token is read in a long prompt or alone, and chunks are always joined first to
// last, so results do not depend on how a prompt was cut or which thread took which chunk. When there are fewer
// (sequence, heads) pairs than threads can share, a pair's chunks are given out and joined by a second node.

#include "attention.h"
#include "scores.h"

namespace {

const int64_t CHUNK = 256;
const int64_t ROWS = 32;  // queries times heads of a task

// A piece of work: some heads of one group, some queries of one sequence, some chunks of their keys.
struct Item {
    int64_t sequence, group, head, heads, query, queries, first_chunk, last_chunk, partial;  // partial < 0: all chunks
    int64_t rows() const { return heads * queries; }
};

// The step's work, the same for every layer with these sizes.
struct Work : public Node {
    int64_t groups, heads_per_group, value_stride, threads;
    std::vector<Item> items, joins;
    std::vector<float> partial;

    Work(Plan* plan, int64_t groups, int64_t heads_per_group, int64_t value_width)
        : groups(groups), heads_per_group(heads_per_group), value_stride(pieces(value_width, LANES) * LANES), threads(plan->members()) {}

    // A partial result's floats: maximum, sum and weighted values of each row.
    int64_t row_floats() const { return value_stride + 2; }

    void prepare(const Step& step) override {
        items.clear(), joins.clear();
        int64_t heads = std::min(heads_per_group, ROWS), queries = std::max<int64_t>(1, ROWS / heads);
        for (int64_t s = 0; s < step.sequences; s++) {
            int64_t new_tokens = step.query_start[s + 1] - step.query_start[s], before = step.lengths[s] - new_tokens;
            for (int64_t q = 0; q < new_tokens; q += queries) {
                int64_t count = std::min(queries, new_tokens - q), chunks = (before + q + count - 1) / CHUNK + 1;
                for (int64_t g = 0; g < groups; g++)
                    for (int64_t h = 0; h < heads_per_group; h += heads)
                        items.push_back({s, g, h, std::min(heads, heads_per_group - h), q, count, 0, chunks, -1});
            }
        }
        if (threads > 1 && int64_t(items.size()) < 4 * threads) share_chunks();
    }

    void share_chunks() {
        std::vector<Item> whole;
        whole.swap(items);
        int64_t floats = 0;
        for (Item item : whole) {
            if (item.last_chunk == 1) {
                items.push_back(item);
                continue;
            }
            item.partial = floats;
            joins.push_back(item);
            for (int64_t c = 0; c < item.last_chunk; c++) {
                Item part = item;
                part.first_chunk = c;
                part.last_chunk = c + 1;
                items.push_back(part);
            }
            floats += item.last_chunk * item.rows() * row_floats();
        }
        if (int64_t(partial.size()) < floats) partial.resize(floats);
    }

    int64_t tasks(const Step&) override { return 0; }
    void run(const Step&, int64_t, Scratch&) override {}
};

// Results of some rows over some keys: for each row the scores' maximum, the sum of exponentials, and the weighted values.
struct Partial {
    float* data;
    int64_t stride;
    float& top(int64_t r) const { return data[r * stride]; }
    float& total(int64_t r) const { return data[r * stride + 1]; }
    float* values(int64_t r) const { return data + r * stride + 2; }
};

inline void join(const Partial& into, const Partial& next, int64_t rows) {
    for (int64_t r = 0; r < rows; r++) {
        if (next.total(r) == 0) continue;
        float top = std::max(into.top(r), next.top(r));
        float a = into.total(r) == 0 ? 0 : exponential(into.top(r) - top), b = exponential(next.top(r) - top);
        into.total(r) = into.total(r) * a + next.total(r) * b;
        float *x = into.values(r), *y = next.values(r);
        for (int64_t i = 0; i < into.stride - 2; i++) x[i] = x[i] * a + y[i] * b;
        into.top(r) = top;
    }
}

inline void clear(const Partial& partial, int64_t rows) {
    for (int64_t r = 0; r < rows; r++) {
        partial.top(r) = -INFINITY;
        std::fill_n(partial.data + r * partial.stride + 1, partial.stride - 1, 0.0f);
    }
}

template <class T>
struct Attend : public Node {
    Buffer *q, *out;
    Sizes sizes;
    Work* work;

    Attend(Plan* plan, int64_t q, int64_t out, const Sizes& sizes, Work* work)
        : q(plan->buffer(q)), out(plan->buffer(out)), sizes(sizes), work(work) {}

    int64_t tasks(const Step&) override { return int64_t(work->items.size()); }

    void run(const Step& step, int64_t task, Scratch& scratch) override {
        const Item& item = work->items[task];
        int64_t rows = item.rows(), floats = rows * work->row_floats();
        const T** queries = scratch.take<const T*>(rows);
        for (int64_t r = 0; r < rows; r++) queries[r] = query(step, item, r);
        Rows now(scratch), next(scratch);
        Room room{scratch.take<float>(rows * CHUNK), scratch.take<int32_t>(fathom::turned_words<T>(sizes.key_width)),
                  scratch.take<T>(rows * CHUNK)};
        Partial all{scratch.take<float>(floats), work->row_floats()}, one{scratch.take<float>(floats), work->row_floats()};
        if (item.partial < 0) clear(all, rows);
        for (int64_t c = item.first_chunk; c < item.last_chunk; c++) {
            if (item.partial >= 0) one.data = &work->partial[item.partial + c * floats];
            if (c == item.first_chunk) find(step, item, c, now);
            find_next(step, item, c, scratch.next, next);
            chunk(step, item, c, queries, now, next, room, one);
            std::swap(now, next);
            if (item.partial < 0) join(all, one, rows);
        }
        if (item.partial < 0) finish(step, item, all);
    }

    int64_t token(const Step& step, const Item& item, int64_t row) const {
        return step.query_start[item.sequence] + item.query + row / item.heads;
    }
    int64_t head(const Item& item, int64_t row) const {
        return item.group * sizes.heads_per_group + item.head + row % item.heads;
    }
    const T* query(const Step& step, const Item& item, int64_t row) const {
        return q->row<T>(token(step, item, row)) + head(item, row) * sizes.key_width;
    }

    // Addresses of a chunk's keys and values that one of the item's queries sees.
    struct Rows {
        const T **keys = nullptr, **values = nullptr;
        int64_t count = 0;
        Rows() = default;
        explicit Rows(Scratch& scratch) : keys(scratch.take<const T*>(CHUNK)), values(scratch.take<const T*>(CHUNK)) {}
    };

    // Memory for a chunk's scores, its keys turned, and the weights of its values.
    struct Room {
        float* scores;
        int32_t* turned;
        T* weights;
    };

    void chunk(const Step& step, const Item& item, int64_t c, const T* const* queries, const Rows& now, const Rows& next,
               const Room& room, const Partial& result) const {
        int64_t rows = item.rows(), count = now.count, W = sizes.key_width;
        // The rows that come next are fetched meanwhile, scattered over blocks as they are: two thirds of their bytes
        // beside the first product, the rest beside the second, which takes half as long.
        int64_t bytes = W * int64_t(sizeof(T)), most = sizes.value_store ? bytes : (bytes * 2 / 3 + 63) / 64 * 64;
        fathom::Fetch first{(const void* const*)next.keys, next.count, 0, most};
        fathom::Fetch second{(const void* const*)next.keys, next.count, most, bytes};
        if (sizes.value_store) second = {(const void* const*)next.values, next.count, 0, sizes.value_width * int64_t(sizeof(T))};
        scores(queries, rows, now.keys, count, W, room.scores, CHUNK, room.turned, first);
        for (int64_t r = 0; r < rows; r++) {
            int64_t visible = std::min(count, before(step, item) + item.query + r / item.heads + 1 - c * CHUNK);
            softmax(room.scores + r * CHUNK, visible, count, room.weights + r * CHUNK, result.top(r), result.total(r));
        }
        mixes(room.weights, CHUNK, rows, sizes.value_store ? now.values : now.keys, count, sizes.value_width, result.values(0),
              result.stride, &second);
    }

    // Tokens of the item's sequence that were cached before this step.
    int64_t before(const Step& step, const Item& item) const {
        int64_t s = item.sequence;
        return step.lengths[s] - (step.query_start[s + 1] - step.query_start[s]);
    }

    // The chunk that this member will read after chunk c of an item: its next one, or the first of task `task`.
    void find_next(const Step& step, const Item& item, int64_t c, int64_t task, Rows& rows) const {
        rows.count = 0;
        if (c + 1 < item.last_chunk) return find(step, item, c + 1, rows);
        if (task < 0) return;
        const Item& other = work->items[task];
        bool seen = other.sequence == item.sequence && other.group == item.group && other.first_chunk <= c;
        if (!seen) find(step, other, other.first_chunk, rows);
    }

    void find(const Step& step, const Item& item, int64_t c, Rows& rows) const {
        rows.count = std::min(CHUNK, before(step, item) + item.query + item.queries - c * CHUNK);
        find(step, item, c, 0, sizes.key_width, rows.count, rows.keys);
        if (sizes.value_store) find(step, item, c, 1, sizes.value_width, rows.count, rows.values);
    }

    // Addresses of `count` rows of a chunk in a store of rows of all groups, each `width` wide.
    void find(const Step& step, const Item& item, int64_t c, int64_t store, int64_t width, int64_t count, const T** rows) const {
        const int64_t size = step.block_size, row = sizes.groups * width;
        const T* layer = static_cast<const T*>(step.storage[store]) + sizes.layer * step.blocks * size * row + item.group * width;
        const int32_t* block = step.table + item.sequence * step.table_width + c * CHUNK / size;
        int64_t within = c * CHUNK % size;
        for (int64_t i = 0; i < count; block++, within = 0) {
            const T* at = layer + (*block * size + within) * row;
            for (int64_t end = std::min(count, i + size - within); i < end; i++, at += row) rows[i] = at;
        }
    }

    // From scores to exponentials as weights of the values, 0 beyond `visible`; the scores' maximum and the weights' sum.
    void softmax(float* z, int64_t visible, int64_t count, T* weights, float& top, float& total) const {
        top = -INFINITY, total = 0;
        int64_t padded = pieces(count, LANES) * LANES;
        if (visible <= 0) {
            std::fill_n(weights, padded, T{});
            return;
        }
        std::fill(z + visible, z + padded, -INFINITY);
        v16 most = all(-INFINITY), sums_ = zeros();
        for (int64_t i = 0; i < padded; i += LANES) most = larger16(load16(z + i), most);
        top = largest(most) * sizes.scale;
        for (int64_t i = 0; i < padded; i += LANES) {
            sums_ += keep16(weights + i, exponential16_below(load16(z + i) * sizes.scale - top));
        }
        total = sum(sums_);
    }

    void finish(const Step& step, const Item& item, const Partial& all) const {
        for (int64_t r = 0; r < item.rows(); r++) {
            T* to = out->row<T>(token(step, item, r)) + head(item, r) * sizes.value_width;
            float factor = 1.0f / all.total(r);
            for (int64_t i = 0; i < sizes.value_width; i++) store(to + i, all.values(r)[i] * factor);
        }
    }
};

// Joins chunks that were given out.
template <class T>
struct Join : public Node {
    Attend<T>* attend;

    Join(Plan*, Node* attend) : attend(static_cast<Attend<T>*>(attend)) {}

    int64_t tasks(const Step&) override { return int64_t(attend->work->joins.size()); }

    void run(const Step& step, int64_t task, Scratch& scratch) override {
        Work& work = *attend->work;
        const Item& item = work.joins[task];
        int64_t floats = item.rows() * work.row_floats();
        Partial all{scratch.take<float>(floats), work.row_floats()};
        clear(all, item.rows());
        for (int64_t c = 0; c < item.last_chunk; c++)
            join(all, Partial{&work.partial[item.partial + c * floats], work.row_floats()}, item.rows());
        attend->finish(step, item, all);
    }
};

}  // namespace

void fathom::add_attention(Plan* plan, int64_t q, int64_t out, const AttentionSizes& sizes, Node* work) {
    ADD_NODE(plan, Attend, q, out, sizes, static_cast<Work*>(work));
    Node* attend = plan->nodes.back().get();
    ADD_NODE(plan, Join, attend);
}

extern "C" {

// What layers of these sizes share in a step; to be made before them. Returns its address.
Node* plan_attention_work(Plan* plan, int64_t groups, int64_t heads_per_group, int64_t value_width) {
    plan->nodes.push_back(std::make_unique<Work>(plan, groups, heads_per_group, value_width));
    return plan->nodes.back().get();
}
}
