// Runs CUDA kernels on a CPU: the threads of a block are fibers, which run one after the other from barrier to barrier, in an order
// that is chosen. A kernel whose results depend on that order has a race.

#pragma once

#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
// Shared variables are static, since one block runs at a time. Their section is filled with NaN before each block.
#define __shared__ static __attribute__((section("block_shared")))
#define NO_SANITIZE __attribute__((noinline, no_sanitize("address"), no_sanitize("undefined")))

struct dim3 {
    unsigned x, y, z;
};

struct alignas(16) float4 {
    float x, y, z, w;
};

inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

static dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulation {

enum class State { ready, at_barrier, in_shuffle, done };

struct Fiber {
    void* place[5];
    ucontext_t context;
    bool started = false;
    State state = State::done;
    unsigned shuffles = 0;
};

constexpr size_t stack_size = 128 * 1024;
constexpr unsigned most_threads = 1024;

static std::vector<Fiber> fibers(most_threads);
static ucontext_t scheduler_context;
static void* scheduler_place[5];
static unsigned current;
static void (*work)();
// What the lanes of each warp exchange, for the last two shuffles.
static uint32_t exchanged[most_threads / 32][2][32];
static std::string failure;

// Jumps are in functions of their own, as GCC demands.
NO_SANITIZE static void jump(void** place) { __builtin_longjmp(place, 1); }

NO_SANITIZE static void to_scheduler() {
    if (__builtin_setjmp(fibers[current].place) == 0) jump(scheduler_place);
}

static void fiber_main() {
    for (;;) {
        work();
        fibers[current].state = State::done;
        to_scheduler();
    }
}

NO_SANITIZE static void to_fiber(Fiber& fiber) {
    if (__builtin_setjmp(scheduler_place) == 0) {
        if (fiber.started) jump(fiber.place);
        fiber.started = true;
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = malloc(stack_size);
        fiber.context.uc_stack.ss_size = stack_size;
        fiber.context.uc_link = nullptr;
        makecontext(&fiber.context, fiber_main, 0);
        setcontext(&fiber.context);
    }
}

static void wait(State state) {
    fibers[current].state = state;
    to_scheduler();
}

// The order of threads, drawn again for each round if it is shuffled.
struct Order {
    enum Kind { forward, backward, shuffled } kind = forward;
    uint64_t seed = 0;

    uint64_t draw() {
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        return seed >> 33;
    }

    void arrange(std::vector<unsigned>& items) {
        for (size_t i = 0; i < items.size(); i++)
            items[i] = kind == backward ? unsigned(items.size() - 1 - i) : unsigned(i);
        if (kind == shuffled)
            for (size_t i = items.size(); i > 1; i--) std::swap(items[i - 1], items[draw() % i]);
    }
};

// Whether all threads of the range are in `state`, from which they then go on.
static bool release(unsigned begin, unsigned end, State state) {
    for (unsigned i = begin; i < end; i++)
        if (fibers[i].state != state) return false;
    for (unsigned i = begin; i < end; i++) fibers[i].state = State::ready;
    return true;
}

// Runs a warp for some rounds of its lanes, or until it waits at a barrier or is done. So a warp may be ahead of the others by
// all that barriers allow. Whether it ran.
static bool run_warp(unsigned warp, Order& order) {
    std::vector<unsigned> lanes(32);
    unsigned rounds = order.kind == Order::shuffled ? 1 + order.draw() % 8 : ~0u;
    bool ran = false;
    for (; rounds > 0; rounds--) {
        release(warp * 32, warp * 32 + 32, State::in_shuffle);
        order.arrange(lanes);
        bool ran_now = false;
        for (unsigned lane : lanes) {
            unsigned i = warp * 32 + lane;
            if (fibers[i].state != State::ready) continue;
            current = i;
            threadIdx = {i % blockDim.x, i / blockDim.x, 0};
            to_fiber(fibers[i]);
            ran_now = true;
            if (!failure.empty()) return false;
        }
        if (!ran_now) break;
        ran = true;
    }
    return ran;
}

static bool run_block(Order& order, unsigned threads) {
    std::vector<unsigned> warps(threads / 32);
    for (unsigned i = 0; i < threads; i++) {
        fibers[i].state = State::ready;
        fibers[i].shuffles = 0;
    }
    for (;;) {
        order.arrange(warps);
        bool ran = false;
        for (unsigned warp : warps) ran |= run_warp(warp, order);
        if (!failure.empty()) return false;
        if (ran) continue;
        if (release(0, threads, State::done)) return true;
        if (!release(0, threads, State::at_barrier)) {
            failure = "a barrier or shuffle that not all threads reach";
            return false;
        }
    }
}

extern "C" char __start_block_shared[] __attribute__((weak));
extern "C" char __stop_block_shared[] __attribute__((weak));

NO_SANITIZE static void spoil_shared() {
    for (volatile char* p = __start_block_shared; p < __stop_block_shared; p++) *p = char(0xff);
}

// Runs `kernel` on each thread of each block.
static bool launch(dim3 grid, dim3 block, Order order, void (*kernel)()) {
    unsigned threads = block.x * block.y;
    if (threads == 0 || threads > most_threads || block.x % 32 != 0) {
        failure = "a block of " + std::to_string(block.x) + " x " + std::to_string(block.y) + " threads";
        return false;
    }
    if (grid.x == 0 || grid.x > 0x7fffffffu || grid.y == 0 || grid.y > 65535) {
        failure = "a grid of " + std::to_string(grid.x) + " x " + std::to_string(grid.y) + " blocks";
        return false;
    }
    work = kernel;
    gridDim = grid;
    blockDim = block;
    std::vector<unsigned> blocks(size_t(grid.x) * grid.y);
    order.arrange(blocks);
    for (unsigned i : blocks) {
        blockIdx = {i % grid.x, i / grid.x, 0};
        spoil_shared();
        if (!run_block(order, threads)) return false;
    }
    return true;
}

}  // namespace emulation

inline void __syncthreads() { emulation::wait(emulation::State::at_barrier); }

inline float __shfl_xor_sync(unsigned mask, float v, int distance) {
    using namespace emulation;
    if (mask != 0xffffffffu) failure = "a shuffle among some lanes";
    unsigned lane = current % 32;
    uint32_t(*slots)[32] = exchanged[current / 32];
    unsigned turn = fibers[current].shuffles++ % 2;
    memcpy(&slots[turn][lane], &v, 4);
    wait(State::in_shuffle);
    float other;
    memcpy(&other, &slots[turn][(lane ^ unsigned(distance)) % 32], 4);
    return other;
}
