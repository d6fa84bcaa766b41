// Batch normalization of (B, C, pixels), with a residual that is added (or null) and an activation. Where no sum is taken, a
// thread has four pixels.

// Partial sums over batch and pixels, (gridDim.y, C), of x and x² less the channel's first value, which keeps the variance of
// values far from 0.
extern "C" __global__ void batch_norm_sums(const float* __restrict__ x, float* __restrict__ sums,
                                           float* __restrict__ squares, int batch, int channels, int pixels) {
    __shared__ float partial[32];
    int channel = blockIdx.x;
    float shift = x[(i64)channel * pixels];
    float sum = 0.0f, square = 0.0f;
    for (ChannelWalk walk(batch, pixels); walk.inside(); walk.next()) {
        float v = x[walk.index(channel, channels)] - shift;
        sum += v;
        square += v * v;
    }
    sum = row_sum(sum, partial);
    square = row_sum(square, partial);
    if (threadIdx.x == 0) {
        sums[(i64)blockIdx.y * channels + channel] = sum;
        squares[(i64)blockIdx.y * channels + channel] = square;
    }
}

// Mean and biased variance of each channel from the partial sums, and the running statistics. `correction` is the factor from
// the biased variance to the running one.
extern "C" __global__ void batch_norm_moments(const float* __restrict__ x, const float* __restrict__ sums,
                                              const float* __restrict__ squares, float* __restrict__ means,
                                              float* __restrict__ vars, float* __restrict__ running_mean,
                                              float* __restrict__ running_var, int splits, int channels, int pixels,
                                              i64 count, float momentum, float correction) {
    int channel = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (channel >= channels) return;
    double sum = 0.0, square = 0.0;
    for (int split = 0; split < splits; split++) {
        sum += sums[(i64)split * channels + channel];
        square += squares[(i64)split * channels + channel];
    }
    double offset = sum / (double)count;
    double var = square / (double)count - offset * offset;
    float mean = (float)(x[(i64)channel * pixels] + offset);
    float biased = var > 0.0 ? (float)var : (var <= 0.0 ? 0.0f : (float)var);
    means[channel] = mean;
    vars[channel] = biased;
    running_mean[channel] = (1.0f - momentum) * running_mean[channel] + momentum * mean;
    running_var[channel] = (1.0f - momentum) * running_var[channel] + momentum * (biased * correction);
}

struct Normalization {
    float mean;
    float scale;
    float weight;
    float bias;

    __device__ __forceinline__ Normalization(const float* means, const float* vars, const float* weights,
                                             const float* biases, int channel, float epsilon) {
        mean = means[channel];
        scale = 1.0f / sqrtf(vars[channel] + epsilon);
        weight = weights[channel];
        bias = biases[channel];
    }

    __device__ __forceinline__ float normalized(float v) const { return (v - mean) * scale; }
    __device__ __forceinline__ float operator()(float v) const { return normalized(v) * weight + bias; }
};

extern "C" __global__ void batch_norm_apply(const float* __restrict__ x, const float* __restrict__ residual,
                                            const float* __restrict__ means, const float* __restrict__ vars,
                                            const float* __restrict__ weights, const float* __restrict__ biases,
                                            float* __restrict__ y, int planes, int channels, int pixels, float epsilon,
                                            int kind, float slope) {
    Place at = place_in_planes(planes, (pixels + 3) / 4);
    if (!at.inside) return;
    Normalization norm(means, vars, weights, biases, at.plane % channels, epsilon);
    i64 plane = (i64)at.plane * pixels, pixel = (i64)at.pixel * 4;
    float v[4], r[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    load4(x + plane, pixel, pixels, v);
    if (residual) load4(residual + plane, pixel, pixels, r);
#pragma unroll
    for (int k = 0; k < 4; k++) v[k] = activate(kind, slope, norm(v[k]) + r[k]);
    store4(y + plane, pixel, pixels, v);
}

// Partial sums over batch and pixels, (gridDim.y, C), of the gradient before the activation, with and without the normalized
// values as factors.
extern "C" __global__ void batch_norm_grad_sums(const float* __restrict__ x, const float* __restrict__ residual,
                                                const float* __restrict__ means, const float* __restrict__ vars,
                                                const float* __restrict__ weights, const float* __restrict__ biases,
                                                const float* __restrict__ grad, float* __restrict__ weight_sums,
                                                float* __restrict__ bias_sums, int batch, int channels, int pixels,
                                                float epsilon, int kind, float slope) {
    __shared__ float partial[32];
    int channel = blockIdx.x;
    Normalization norm(means, vars, weights, biases, channel, epsilon);
    float weight_sum = 0.0f, bias_sum = 0.0f;
    for (ChannelWalk walk(batch, pixels); walk.inside(); walk.next()) {
        i64 i = walk.index(channel, channels);
        float v = norm(x[i]);
        if (residual) v += residual[i];
        float g = grad[i] * derivative(kind, slope, v);
        weight_sum += g * norm.normalized(x[i]);
        bias_sum += g;
    }
    weight_sum = row_sum(weight_sum, partial);
    bias_sum = row_sum(bias_sum, partial);
    if (threadIdx.x == 0) {
        weight_sums[(i64)blockIdx.y * channels + channel] = weight_sum;
        bias_sums[(i64)blockIdx.y * channels + channel] = bias_sum;
    }
}

// The gradients of x and of the residual, each unless it is null. `count` is the number of values per channel if they were
// normalized by their own moments, else 0.
extern "C" __global__ void batch_norm_x_grad(const float* __restrict__ x, const float* __restrict__ residual,
                                             const float* __restrict__ means, const float* __restrict__ vars,
                                             const float* __restrict__ weights, const float* __restrict__ biases,
                                             const float* __restrict__ grad, const float* __restrict__ weight_grads,
                                             const float* __restrict__ bias_grads, float* __restrict__ x_grad,
                                             float* __restrict__ residual_grad, int planes, int channels, int pixels,
                                             i64 count, float epsilon, int kind, float slope) {
    Place at = place_in_planes(planes, (pixels + 3) / 4);
    if (!at.inside) return;
    int channel = at.plane % channels;
    Normalization norm(means, vars, weights, biases, channel, epsilon);
    i64 plane = (i64)at.plane * pixels, pixel = (i64)at.pixel * 4;
    float v[4], g[4], r[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    load4(x + plane, pixel, pixels, v);
    load4(grad + plane, pixel, pixels, g);
    if (residual) load4(residual + plane, pixel, pixels, r);
#pragma unroll
    for (int k = 0; k < 4; k++) g[k] *= derivative(kind, slope, norm(v[k]) + r[k]);
    if (residual_grad) store4(residual_grad + plane, pixel, pixels, g);
    if (!x_grad) return;
    float scale = norm.scale * norm.weight;
    float per_value = count > 0 ? 1.0f / (float)count : 0.0f;
    float bias_share = count > 0 ? bias_grads[channel] * per_value : 0.0f;
    float weight_share = count > 0 ? weight_grads[channel] * per_value : 0.0f;
#pragma unroll
    for (int k = 0; k < 4; k++) g[k] = (g[k] - bias_share - norm.normalized(v[k]) * weight_share) * scale;
    store4(x_grad + plane, pixel, pixels, g);
}
