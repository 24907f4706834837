// What kinds of attention share: their sizes, and the node that attends.

#pragma once

#include "matrix.h"

namespace fathom {

struct AttentionSizes {
    int64_t layer, groups, heads_per_group, key_width, value_width, value_store;  // value_store 0: values begin the keys
    float scale;
};

// From queries (T, groups, heads of a group, key width) in buffer `q` and the layer's cache to each head's mix of values in
// buffer `out`, both of the operand type. `work` is what layers of these sizes share (`plan_attention_work`).
void add_attention(Plan* plan, int64_t q, int64_t out, const AttentionSizes& sizes, Node* work);

}  // namespace fathom

namespace {

using fathom::add_attention;
typedef fathom::AttentionSizes Sizes;

}  // namespace
