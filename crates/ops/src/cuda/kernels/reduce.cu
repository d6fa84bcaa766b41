// Sums in two passes, so that their order does not depend on which block runs first.

// Partial sums over batch and pixels, (gridDim.y, C), of `x` (B, C, pixels).
extern "C" __global__ void channel_sums(const float* __restrict__ x, float* __restrict__ sums, int batch, int channels,
                                        int pixels) {
    __shared__ float partial[32];
    int channel = blockIdx.x;
    float sum = 0.0f;
    for (ChannelWalk walk(batch, pixels); walk.inside(); walk.next()) sum += x[walk.index(channel, channels)];
    sum = row_sum(sum, partial);
    if (threadIdx.x == 0) sums[(i64)blockIdx.y * channels + channel] = sum;
}

// The sums over the first axis of `partial` (splits, count), and of `partial2` where it is not null.
extern "C" __global__ void sum_splits(const float* __restrict__ partial, const float* __restrict__ partial2,
                                      float* __restrict__ sums, float* __restrict__ sums2, int splits, i64 count) {
    i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    float sum = 0.0f, sum2 = 0.0f;
    for (int split = 0; split < splits; split++) {
        sum += partial[split * count + i];
        if (partial2) sum2 += partial2[split * count + i];
    }
    sums[i] = sum;
    if (partial2) sums2[i] = sum2;
}
