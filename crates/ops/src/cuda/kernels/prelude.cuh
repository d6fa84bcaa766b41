// What the source of every kernel begins with. NVRTC compiles it for a GPU, and tests compile it as C++ for the CPU.

typedef long long i64;
typedef unsigned int u32;
typedef unsigned long long u64;

enum Activation {
    IDENTITY,
    RELU,
    RELU6,
    TANH,
    SIGMOID,
    HARD_SIGMOID,
    SILU,
    HARD_SWISH,
    GELU,
    GELU_TANH,
    LEAKY_RELU
};

#define SQRT_HALF 0.70710678f
#define SQRT_TWO_OVER_PI 0.79788456f
#define ONE_OVER_SQRT_TWO_PI 0.39894228f
#define GELU_CUBIC 0.044715f

__device__ __forceinline__ float sigmoid(float v) { return 1.0f / (1.0f + expf(-v)); }

__device__ __forceinline__ float relu6(float v) { return v <= 0.0f ? 0.0f : v >= 6.0f ? 6.0f : v; }

__device__ __forceinline__ float activate(int kind, float slope, float v) {
    switch (kind) {
    case RELU:
        return v <= 0.0f ? 0.0f : v;
    case RELU6:
        return relu6(v);
    case TANH:
        return tanhf(v);
    case SIGMOID:
        return sigmoid(v);
    case HARD_SIGMOID:
        return relu6(v + 3.0f) * (1.0f / 6.0f);
    case SILU:
        return v * sigmoid(v);
    case HARD_SWISH:
        return v * relu6(v + 3.0f) * (1.0f / 6.0f);
    case GELU:
        return 0.5f * v * erfcf(-v * SQRT_HALF);
    case GELU_TANH:
        return 0.5f * v * (1.0f + tanhf(SQRT_TWO_OVER_PI * v * (1.0f + GELU_CUBIC * v * v)));
    case LEAKY_RELU:
        return v <= 0.0f ? slope * v : v;
    default:
        return v;
    }
}

// The derivative at the input `v`.
__device__ __forceinline__ float derivative(int kind, float slope, float v) {
    switch (kind) {
    case RELU:
        return v <= 0.0f ? 0.0f : 1.0f;
    case RELU6:
        return v <= 0.0f || v >= 6.0f ? 0.0f : 1.0f;
    case TANH: {
        float t = tanhf(v);
        return 1.0f - t * t;
    }
    case SIGMOID: {
        float s = sigmoid(v);
        return s * (1.0f - s);
    }
    case HARD_SIGMOID:
        return v <= -3.0f || v >= 3.0f ? 0.0f : 1.0f / 6.0f;
    case SILU: {
        float s = sigmoid(v);
        return s * (1.0f + v * (1.0f - s));
    }
    case HARD_SWISH:
        return v <= -3.0f ? 0.0f : v >= 3.0f ? 1.0f : (2.0f * v + 3.0f) * (1.0f / 6.0f);
    case GELU:
        return 0.5f * erfcf(-v * SQRT_HALF) + v * ONE_OVER_SQRT_TWO_PI * expf(-0.5f * v * v);
    case GELU_TANH: {
        float t = tanhf(SQRT_TWO_OVER_PI * v * (1.0f + GELU_CUBIC * v * v));
        float inner = SQRT_TWO_OVER_PI * (1.0f + 3.0f * GELU_CUBIC * v * v);
        return 0.5f * (1.0f + t) + 0.5f * v * (1.0f - t * t) * inner;
    }
    case LEAKY_RELU:
        return v <= 0.0f ? slope : 1.0f;
    default:
        return 1.0f;
    }
}

__device__ __forceinline__ bool is_aligned(const void* p) { return ((u64)p & 15) == 0; }

// p[i], …, p[i + 3], and zeros from `count` on. `i` is a multiple of 4.
__device__ __forceinline__ void load4(const float* p, i64 i, i64 count, float v[4]) {
    if (i + 4 <= count && is_aligned(p)) {
        float4 four = *(const float4*)(p + i);
        v[0] = four.x;
        v[1] = four.y;
        v[2] = four.z;
        v[3] = four.w;
    } else {
#pragma unroll
        for (int k = 0; k < 4; k++) v[k] = i + k < count ? p[i + k] : 0.0f;
    }
}

// Stores what load4 loads.
__device__ __forceinline__ void store4(float* p, i64 i, i64 count, const float v[4]) {
    if (i + 4 <= count && is_aligned(p)) {
        *(float4*)(p + i) = make_float4(v[0], v[1], v[2], v[3]);
    } else {
#pragma unroll
        for (int k = 0; k < 4; k++)
            if (i + k < count) p[i + k] = v[k];
    }
}

// The first of the four values of this thread, and the distance to its next four.
__device__ __forceinline__ i64 first_of_four() { return ((i64)blockIdx.x * blockDim.x + threadIdx.x) * 4; }
__device__ __forceinline__ i64 next_four() { return (i64)gridDim.x * blockDim.x * 4; }

__device__ __forceinline__ float warp_sum(float v) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) v += __shfl_xor_sync(0xffffffffu, v, distance);
    return v;
}

__device__ __forceinline__ float warp_max(float v) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2)
        v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, distance));
    return v;
}

// The sum over the threads of a row, for each of them: over a warp where blockDim.x is 32, over the block where it is more
// and blockDim.y is 1. All threads of the block call it. `partial` is of shared memory, with 32 values.
__device__ __forceinline__ float row_sum(float v, float* partial) {
    v = warp_sum(v);
    if (blockDim.x > 32) {
        __syncthreads();
        if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = v;
        __syncthreads();
        v = warp_sum(threadIdx.x % 32 < blockDim.x / 32 ? partial[threadIdx.x % 32] : 0.0f);
    }
    return v;
}

// The maximum, as row_sum.
__device__ __forceinline__ float row_max(float v, float* partial) {
    v = warp_max(v);
    if (blockDim.x > 32) {
        __syncthreads();
        if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = v;
        __syncthreads();
        v = warp_max(threadIdx.x % 32 < blockDim.x / 32 ? partial[threadIdx.x % 32] : partial[0]);
    }
    return v;
}

// A thread's place in maps of `pixels` values: blockDim.y planes beside each other, as `Geometry::planes` has it.
struct Place {
    int plane;
    int pixel;
    bool inside;
};

__device__ __forceinline__ Place place_in_planes(int planes, int pixels) {
    u32 tiles = ((u32)pixels + blockDim.x - 1) / blockDim.x;
    i64 plane = (i64)(blockIdx.x / tiles) * blockDim.y + threadIdx.y;
    i64 pixel = (i64)(blockIdx.x % tiles) * blockDim.x + threadIdx.x;
    Place place;
    place.inside = plane < planes && pixel < pixels;
    place.plane = (int)plane;
    place.pixel = (int)pixel;
    return place;
}

// Walks over the values of one channel of (B, C, pixels), each thread of a block one value beside the other. The block has
// the share `blockIdx.y` of gridDim.y of them.
struct ChannelWalk {
    i64 left;
    int sample;
    int pixel;
    int samples_per_step;
    int pixels_per_step;
    int pixels;

    __device__ __forceinline__ ChannelWalk(int batch, int pixels_) {
        pixels = pixels_;
        i64 count = (i64)batch * pixels;
        i64 share = (count + gridDim.y - 1) / gridDim.y;
        i64 first = share * blockIdx.y + threadIdx.x;
        i64 end = share * (blockIdx.y + 1);
        end = end < count ? end : count;
        left = end - first;
        sample = (int)(first / pixels);
        pixel = (int)(first % pixels);
        samples_per_step = (int)blockDim.x / pixels;
        pixels_per_step = (int)blockDim.x % pixels;
    }

    __device__ __forceinline__ bool inside() const { return left > 0; }

    __device__ __forceinline__ void next() {
        left -= blockDim.x;
        sample += samples_per_step;
        pixel += pixels_per_step;
        if (pixel >= pixels) {
            pixel -= pixels;
            sample += 1;
        }
    }

    __device__ __forceinline__ i64 index(int channel, int channels) const {
        return ((i64)sample * channels + channel) * pixels + pixel;
    }
};
