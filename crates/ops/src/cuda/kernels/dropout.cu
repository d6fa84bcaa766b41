// Dropout from a seed: the mask is a function of the seed and a value's index, the same as on the CPU.

// SplitMix64 (Steele, Lea, Flood 2014).
__device__ __forceinline__ u64 split_mix(u64 seed, u64 index) {
    u64 z = seed + (index + 1) * 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

// A value is dropped where the upper 53 bits of its draw are below `threshold`.
extern "C" __global__ void dropout(const float* __restrict__ x, float* __restrict__ y, i64 count, u64 seed,
                                   u64 threshold, float scale) {
    for (i64 i = first_of_four(); i < count; i += next_four()) {
        float v[4];
        load4(x, i, count, v);
#pragma unroll
        for (int k = 0; k < 4; k++) v[k] *= split_mix(seed, (u64)(i + k)) >> 11 < threshold ? 0.0f : scale;
        store4(y, i, count, v);
    }
}
