// Depthwise convolution: each output channel reads one input channel, `multiplier` of them the same one.

// The sums have the kernel's size as a constant where it is 3 or 5, so that their loops unroll; else SIZE is 0.

template <int SIZE>
__device__ __forceinline__ float window_sum(const float* map, const float* taps, int h, int w, int kh, int kw, int row,
                                            int column, int dh, int dw) {
    float sum = 0.0f;
#pragma unroll
    for (int ky = 0; ky < (SIZE ? SIZE : kh); ky++) {
        int y = row + ky * dh;
        if (y < 0 || y >= h) continue;
#pragma unroll
        for (int kx = 0; kx < (SIZE ? SIZE : kw); kx++) {
            int x = column + kx * dw;
            if (x >= 0 && x < w) sum += map[(i64)y * w + x] * taps[ky * (SIZE ? SIZE : kw) + kx];
        }
    }
    return sum;
}

extern "C" __global__ void depthwise_forward(const float* __restrict__ x, const float* __restrict__ weight,
                                             const float* __restrict__ bias, float* __restrict__ y, int planes,
                                             int c_out, int multiplier, int h, int w, int oh, int ow, int kh, int kw,
                                             int sh, int sw, int dh, int dw, int top, int left) {
    Place at = place_in_planes(planes, oh * ow);
    if (!at.inside) return;
    int channel = at.plane % c_out, sample = at.plane / c_out;
    const float* map = x + ((i64)sample * (c_out / multiplier) + channel / multiplier) * h * w;
    const float* taps = weight + (i64)channel * kh * kw;
    int row = at.pixel / ow * sh - top, column = at.pixel % ow * sw - left;
    float sum;
    if (kh == 3 && kw == 3)
        sum = window_sum<3>(map, taps, h, w, kh, kw, row, column, dh, dw);
    else if (kh == 5 && kw == 5)
        sum = window_sum<5>(map, taps, h, w, kh, kw, row, column, dh, dw);
    else
        sum = window_sum<0>(map, taps, h, w, kh, kw, row, column, dh, dw);
    y[(i64)at.plane * oh * ow + at.pixel] = bias ? sum + bias[channel] : sum;
}

template <int SIZE>
__device__ __forceinline__ float readers_sum(const float* map, const float* taps, int oh, int ow, int kh, int kw,
                                             int row, int column, int sh, int sw, int dh, int dw) {
    float sum = 0.0f;
#pragma unroll
    for (int ky = 0; ky < (SIZE ? SIZE : kh); ky++) {
        int y = row - ky * dh;
        if (y < 0 || y % sh != 0 || y / sh >= oh) continue;
#pragma unroll
        for (int kx = 0; kx < (SIZE ? SIZE : kw); kx++) {
            int x = column - kx * dw;
            if (x >= 0 && x % sw == 0 && x / sw < ow)
                sum += map[(i64)(y / sh) * ow + x / sw] * taps[ky * (SIZE ? SIZE : kw) + kx];
        }
    }
    return sum;
}

extern "C" __global__ void depthwise_x_grad(const float* __restrict__ weight, const float* __restrict__ grad,
                                            float* __restrict__ x_grad, int planes, int c_in, int multiplier, int h,
                                            int w, int oh, int ow, int kh, int kw, int sh, int sw, int dh, int dw,
                                            int top, int left) {
    Place at = place_in_planes(planes, h * w);
    if (!at.inside) return;
    int channel = at.plane % c_in, sample = at.plane / c_in;
    int row = at.pixel / w + top, column = at.pixel % w + left;
    float sum = 0.0f;
    for (int m = 0; m < multiplier; m++) {
        int output = channel * multiplier + m;
        const float* map = grad + ((i64)sample * c_in * multiplier + output) * oh * ow;
        const float* taps = weight + (i64)output * kh * kw;
        if (kh == 3 && kw == 3)
            sum += readers_sum<3>(map, taps, oh, ow, kh, kw, row, column, sh, sw, dh, dw);
        else if (kh == 5 && kw == 5)
            sum += readers_sum<5>(map, taps, oh, ow, kh, kw, row, column, sh, sw, dh, dw);
        else
            sum += readers_sum<0>(map, taps, oh, ow, kh, kw, row, column, sh, sw, dh, dw);
    }
    x_grad[(i64)at.plane * h * w + at.pixel] = sum;
}

// Partial sums over batch and pixels, (gridDim.y, c_out, kh · kw): a block has one tap of one channel.
extern "C" __global__ void depthwise_weight_sums(const float* __restrict__ x, const float* __restrict__ grad,
                                                 float* __restrict__ sums, int batch, int c_out, int multiplier, int h,
                                                 int w, int oh, int ow, int kh, int kw, int sh, int sw, int dh, int dw,
                                                 int top, int left) {
    __shared__ float partial[32];
    int channel = blockIdx.x / (kh * kw), tap = blockIdx.x % (kh * kw);
    int row_offset = tap / kw * dh - top, column_offset = tap % kw * dw - left;
    float sum = 0.0f;
    for (ChannelWalk walk(batch, oh * ow); walk.inside(); walk.next()) {
        int row = walk.pixel / ow * sh + row_offset, column = walk.pixel % ow * sw + column_offset;
        if (row < 0 || row >= h || column < 0 || column >= w) continue;
        i64 plane = (i64)walk.sample * (c_out / multiplier) + channel / multiplier;
        sum += grad[walk.index(channel, c_out)] * x[(plane * h + row) * w + column];
    }
    sum = row_sum(sum, partial);
    if (threadIdx.x == 0) sums[(i64)blockIdx.y * gridDim.x + blockIdx.x] = sum;
}
