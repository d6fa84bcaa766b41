// Runs programs that come on standard input, and answers with their buffers on standard output. All numbers are little-endian; see
// `process.rs`.

#include "threads.h"

#include "kernels.inc"

namespace {

// An argument of a launch, as it came.
struct Argument {
    char kind;
    uint64_t bits;
};

std::vector<Argument> arguments;

template <class T> struct Kind;
template <class T> struct Kind<T*> { static constexpr char kind = 'p'; };
template <> struct Kind<int> { static constexpr char kind = 'i'; };
template <> struct Kind<long long> { static constexpr char kind = 'l'; };
template <> struct Kind<unsigned long long> { static constexpr char kind = 'u'; };
template <> struct Kind<float> { static constexpr char kind = 'f'; };

template <class T> T as(const Argument& argument) {
    T value;
    memcpy(&value, &argument.bits, sizeof value);
    return value;
}

template <auto kernel> struct Caller;

template <class... Args, void (*kernel)(Args...)> struct Caller<kernel> {
    static bool accepts() {
        std::string found;
        for (const Argument& argument : arguments) found += argument.kind;
        return found == std::string{Kind<Args>::kind...};
    }

    template <size_t... I> static void spread(std::index_sequence<I...>) { kernel(as<Args>(arguments[I])...); }

    static void call() { spread(std::index_sequence_for<Args...>{}); }
};

struct Kernel {
    const char* name;
    bool (*accepts)();
    void (*call)();
};

#define KERNEL(source, name) {#name, Caller<source::name>::accepts, Caller<source::name>::call},
const Kernel kernels[] = {
#include "names.inc"
};

void read_exactly(void* to, size_t len) {
    if (len > 0 && fread(to, 1, len, stdin) != len) exit(0);
}

template <class T> T read() {
    T value;
    read_exactly(&value, sizeof value);
    return value;
}

template <class T> void write(T value) { fwrite(&value, sizeof value, 1, stdout); }

// A block of memory of exactly its size, so that AddressSanitizer sees each access beyond it. `shift` values stand before the
// buffer's first one, as where a tensor is a view.
struct Memory {
    char* start;
    uint64_t len;
    uint64_t shift;
};

void run_launch(const std::vector<Memory>& buffers) {
    using namespace emulation;
    std::string name(read<uint32_t>(), ' ');
    read_exactly(name.data(), name.size());
    dim3 grid{read<uint32_t>(), read<uint32_t>(), 1};
    dim3 block{read<uint32_t>(), read<uint32_t>(), 1};
    Order order;
    order.kind = Order::Kind(read<uint32_t>());
    order.seed = read<uint64_t>();
    auto address = [&](uint64_t buffer) { return uint64_t(buffers[buffer].start + buffers[buffer].shift); };
    std::vector<uint64_t*> tables;
    arguments.clear();
    for (uint32_t left = read<uint32_t>(); left > 0; left--) {
        char kind = read<char>();
        uint64_t bits = read<uint64_t>();
        if (kind == 'b') {
            arguments.push_back({'p', address(bits)});
        } else if (kind == 't') {
            uint64_t* table = new uint64_t[bits];
            for (uint64_t i = 0; i < bits; i++) {
                bool is_address = read<char>() == 'b';
                uint64_t value = read<uint64_t>(), index = read<uint64_t>();
                table[i] = is_address ? address(value) + 4 * index : value;
            }
            tables.push_back(table);
            arguments.push_back({'p', uint64_t(table)});
        } else {
            arguments.push_back({kind, bits});
        }
    }
    if (failure.empty()) {
        failure = "no kernel " + name;
        for (const Kernel& kernel : kernels) {
            if (name != kernel.name) continue;
            failure.clear();
            if (!kernel.accepts()) failure = "arguments of other types than " + name + " has";
            else if (!launch(grid, block, order, kernel.call)) failure = name + ": " + failure;
        }
    }
    for (uint64_t* table : tables) delete[] table;
}

}  // namespace

int main() {
    for (;;) {
        emulation::failure.clear();
        std::vector<Memory> buffers(read<uint32_t>());
        for (Memory& buffer : buffers) {
            buffer.len = read<uint64_t>();
            buffer.shift = read<uint64_t>();
            buffer.start = static_cast<char*>(malloc(buffer.shift + buffer.len));
            memset(buffer.start, 0xff, buffer.shift + buffer.len);
            if (read<char>()) read_exactly(buffer.start + buffer.shift, buffer.len);
        }
        for (uint32_t left = read<uint32_t>(); left > 0; left--) run_launch(buffers);
        write(uint32_t(emulation::failure.size()));
        fwrite(emulation::failure.data(), 1, emulation::failure.size(), stdout);
        for (Memory& buffer : buffers) {
            fwrite(buffer.start + buffer.shift, 1, buffer.len, stdout);
            free(buffer.start);
        }
        fflush(stdout);
        if (!emulation::failure.empty()) return 1;
    }
}
