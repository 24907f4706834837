// A decoding plan: the network as a list of nodes over a ragged batch of tokens, run by one call.
//
// A plan is built once, from the modules of the model (`fathom.engine.plan`), and keeps the addresses of their weights. A step
// brings tokens of any number of sequences, prompt pieces and single tokens alike, and where their paged cache lies. Each
// node splits its work into tasks that the team's members take in turn, and all meet before the next node.
//
// The operand type T of the products, float or bf16, is the plan's; what flows from layer to layer is always FP32.

#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "team.h"

namespace fathom {

enum Kind : int64_t { F32 = 0, BF16 = 1, INT8 = 2, INT4 = 3 };

// Numbers in a group of a quantised row that share a scale.
const int64_t GROUP = 32;

// Weights (rows, columns), each row contiguous. Quantised rows have one bfloat16 scale for each `GROUP` columns.
struct Matrix {
    const void* data = nullptr;
    const void* scales = nullptr;
    int64_t kind = F32, rows = 0, columns = 0;

    int64_t row_bytes() const { return kind == F32 ? columns * 4 : kind == BF16 ? columns * 2 : kind == INT8 ? columns : columns / 2; }

    // Rows from `first` on.
    Matrix slice(int64_t first, int64_t count) const {
        Matrix part = *this;
        part.data = static_cast<const char*>(data) + first * row_bytes();
        if (scales) part.scales = static_cast<const uint16_t*>(scales) + first * (columns / GROUP);
        part.rows = count;
        return part;
    }
};

// What a step brings; laid out as `fathom.kernels.decode.Step` fills it.
struct Step {
    int64_t tokens_count, sequences, wanted_count, block_size, blocks, table_width;
    const int64_t* tokens;       // (T,) of all sequences, one after the other
    const int64_t* positions;    // (T,)
    const int32_t* query_start;  // (sequences + 1,): sequence i has tokens query_start[i] to query_start[i + 1]
    const int32_t* lengths;      // (sequences,): tokens cached once this step's are
    const int32_t* table;        // (sequences, table_width): the block of each block_size positions
    const int64_t* wanted;       // (wanted_count,): tokens whose logits are asked for
    void* storage[2];            // (layers, blocks, block_size, width) of each thing cached
    float* logits;               // (wanted_count, V)
    float* hidden;               // (T, D) after the final norm, or null
    const float* inputs;         // (T, D): states that an MTP module reads beside its tokens, or null
};

// Activations: one row a token, or one a (token, expert) pair.
struct Buffer {
    int64_t kind, width, rows_per_token, rows = 0;
    char* data = nullptr;

    Buffer(int64_t kind, int64_t width, int64_t rows_per_token) : kind(kind), width(width), rows_per_token(rows_per_token) {}
    ~Buffer() { std::free(data); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;

    void make_room(int64_t tokens) {
        int64_t needed = tokens * rows_per_token;
        if (needed <= rows) return;
        std::free(data);
        rows = needed;
        size_t bytes = size_t(rows) * width * (kind == F32 ? 4 : 2) + 256;
        data = static_cast<char*>(std::aligned_alloc(64, (bytes + 63) / 64 * 64));
        if (!data) throw std::bad_alloc();
    }

    template <class T>
    T* row(int64_t i) const {
        return reinterpret_cast<T*>(data) + i * width;
    }
};

// A member's memory for one task.
class Scratch {
   public:
    template <class T>
    T* take(int64_t count) {
        size_t bytes = (size_t(count) * sizeof(T) + 127) / 64 * 64;
        while (block_ < blocks_.size() && used_ + bytes > blocks_[block_].second) block_++, used_ = 0;
        if (block_ == blocks_.size()) {
            size_t size = bytes > (1 << 20) ? bytes : (1 << 20);
            char* data = static_cast<char*>(std::aligned_alloc(64, size));
            if (!data) throw std::bad_alloc();
            blocks_.emplace_back(data, size);
            used_ = 0;
        }
        char* at = blocks_[block_].first + used_;
        used_ += bytes;
        return reinterpret_cast<T*>(at);
    }
    void clear() { block_ = 0, used_ = 0; }
    int64_t next = -1;  // the task of the node that this member will probably run next, -1 if there is none
    Scratch() = default;
    Scratch(const Scratch&) = delete;
    ~Scratch() {
        for (auto& block : blocks_) std::free(block.first);
    }

   private:
    std::vector<std::pair<char*, size_t>> blocks_;
    size_t block_ = 0, used_ = 0;
};

// One operation on all tokens of a step, in tasks that may run in any order and at once.
class Node {
   public:
    virtual ~Node() = default;
    // Before the step, by the caller alone.
    virtual void prepare(const Step&) {}
    virtual int64_t tasks(const Step&) = 0;
    virtual void run(const Step&, int64_t task, Scratch&) = 0;
    // Begin to fetch from memory what task `task` will read first.
    virtual void fetch(const Step&, int64_t) {}

   private:
    friend class Plan;
    std::atomic<uint64_t> next_{0};  // the step's number in the upper half, the next task in the lower
    std::atomic<int64_t> done_{0};
};

class Plan {
   public:
    Plan(int64_t kind, int64_t threads) : kind(kind), scratch_(threads), team_(int(threads), join_in, this) {}

    const int64_t kind;
    std::vector<std::unique_ptr<Buffer>> buffers;
    std::vector<std::unique_ptr<Node>> nodes;

    Buffer* buffer(int64_t i) const { return i < 0 ? nullptr : buffers[i].get(); }
    int64_t members() const { return team_.members(); }
    void run(const Step& step);

   private:
    static void join_in(void* plan, int member, unsigned call);
    bool walk(int member, uint32_t number);
    bool take(Node& node, uint32_t number, int64_t tasks, int64_t& begin, int64_t& end) const;
    int64_t likely(const Node& node, int64_t task, int64_t end, int64_t tasks) const;

    Step step_;
    std::atomic<uint32_t> number_{0}, announced_{0};
    std::vector<Scratch> scratch_;
    Team team_;
};

}  // namespace fathom

// Add Class<float> or Class<bf16>, whichever is the plan's operand type.
#define ADD_NODE(plan, Class, ...)                                                                 \
    do {                                                                                           \
        if ((plan)->kind == fathom::F32)                                                           \
            (plan)->nodes.push_back(std::make_unique<Class<float>>(plan, __VA_ARGS__));            \
        else                                                                                       \
            (plan)->nodes.push_back(std::make_unique<Class<bf16>>(plan, __VA_ARGS__));             \
    } while (0)
