// Running a plan, and the C interface that makes one.

#include "plan.h"

#include <algorithm>
#include <exception>

namespace fathom {

// Nodes follow each other in order: all tasks of one are done before the first of the next is taken. A member that comes
// late finds the tasks of earlier nodes gone, and passes on; one that comes after the step has ended finds another number.
void Plan::run(const Step& step) {
    for (auto& buffer : buffers) buffer->make_room(step.tokens_count);
    uint32_t number = number_.load(std::memory_order_relaxed) + 1;
    number_.store(number, std::memory_order_seq_cst);
    for (auto& node : nodes) {
        node->next_.store(uint64_t(number) << 32, std::memory_order_seq_cst);
        node->done_.store(0, std::memory_order_relaxed);
    }
    step_ = step;
    for (auto& node : nodes) node->prepare(step_);
    announced_.store(number, std::memory_order_release);
    team_.call();
    walk(0, number);
}

void Plan::join_in(void* plan, int member, unsigned) {
    Plan& self = *static_cast<Plan*>(plan);
    self.walk(member, self.announced_.load(std::memory_order_acquire));
}

// Whether the step was seen through to its end.
bool Plan::walk(int member, uint32_t number) {
    Scratch& scratch = scratch_[member];
    for (auto& each : nodes) {
        Node& node = *each;
        int64_t tasks = node.tasks(step_);
        // Runs of tasks, long ones first: neighbours read neighbouring weights, and the last are short.
        for (int64_t begin, end; take(node, number, tasks, begin, end); node.done_.fetch_add(end - begin, std::memory_order_release))
            for (int64_t i = begin; i < end; i++) {
                if (i + 1 < end) node.fetch(step_, i + 1);
                scratch.clear();
                scratch.next = likely(node, i, end, tasks);
                node.run(step_, i, scratch);
            }
        for (int turn = 0; node.done_.load(std::memory_order_acquire) < tasks; turn++) {
            if (number_.load(std::memory_order_relaxed) != number) return false;
            wait_briefly(turn);
        }
        if (number_.load(std::memory_order_relaxed) != number) return false;
    }
    return true;
}

bool Plan::take(Node& node, uint32_t number, int64_t tasks, int64_t& begin, int64_t& end) const {
    uint64_t next = node.next_.load(std::memory_order_acquire);
    do {
        begin = int64_t(uint32_t(next));
        if (uint32_t(next >> 32) != number || begin >= tasks) return false;
        end = begin + std::max<int64_t>(1, (tasks - begin) / (2 * members()));
    } while (!node.next_.compare_exchange_weak(next, (uint64_t(number) << 32) | uint64_t(end), std::memory_order_acq_rel));
    return true;
}

// The task after `task` of a run that goes to `end`: the next of the run, or the first that nobody has taken.
int64_t Plan::likely(const Node& node, int64_t task, int64_t end, int64_t tasks) const {
    int64_t next = task + 1 < end ? task + 1 : int64_t(uint32_t(node.next_.load(std::memory_order_relaxed)));
    return next < tasks ? next : -1;
}

}  // namespace fathom

using fathom::Plan;

extern "C" {

// An operand kind (F32 or BF16) and a number of threads; null where there is no room for it.
Plan* plan_new(int64_t kind, int64_t threads) {
    try {
        return new Plan(kind, threads);
    } catch (const std::exception&) {
        return nullptr;
    }
}

void plan_free(Plan* plan) { delete plan; }

// The number of a new buffer.
int64_t plan_buffer(Plan* plan, int64_t kind, int64_t width, int64_t rows_per_token) {
    plan->buffers.push_back(std::make_unique<fathom::Buffer>(kind, width, rows_per_token));
    return int64_t(plan->buffers.size()) - 1;
}

// 0 if the step was taken, 1 if memory for it ran out before anything was computed.
int64_t plan_run(Plan* plan, const fathom::Step* step) {
    try {
        plan->run(*step);
        return 0;
    } catch (const std::bad_alloc&) {
        return 1;
    }
}
}
