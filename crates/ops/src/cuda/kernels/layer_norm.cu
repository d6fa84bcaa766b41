// Layer normalization over the last dimension (rows), and over the channels of (B, C, pixels).

extern "C" __global__ void layer_norm_rows(const float* __restrict__ x, const float* __restrict__ weight,
                                           const float* __restrict__ bias, float* __restrict__ y,
                                           float* __restrict__ means, float* __restrict__ scales, i64 rows, int size,
                                           float epsilon) {
    __shared__ float partial[32];
    for (i64 row = (i64)blockIdx.x * blockDim.y + threadIdx.y; row < rows; row += (i64)gridDim.x * blockDim.y) {
        const float* from = x + row * size;
        float sum = 0.0f;
        for (int i = threadIdx.x; i < size; i += blockDim.x) sum += from[i];
        float mean = row_sum(sum, partial) / (float)size;
        float squares = 0.0f;
        for (int i = threadIdx.x; i < size; i += blockDim.x) {
            float centered = from[i] - mean;
            squares += centered * centered;
        }
        float scale = 1.0f / sqrtf(row_sum(squares, partial) / (float)size + epsilon);
        for (int i = threadIdx.x; i < size; i += blockDim.x)
            y[row * size + i] = (from[i] - mean) * scale * weight[i] + bias[i];
        if (threadIdx.x == 0) {
            means[row] = mean;
            scales[row] = scale;
        }
    }
}

extern "C" __global__ void layer_norm_rows_x_grad(const float* __restrict__ x, const float* __restrict__ weight,
                                                  const float* __restrict__ means, const float* __restrict__ scales,
                                                  const float* __restrict__ grad, float* __restrict__ x_grad, i64 rows,
                                                  int size) {
    __shared__ float partial[32];
    for (i64 row = (i64)blockIdx.x * blockDim.y + threadIdx.y; row < rows; row += (i64)gridDim.x * blockDim.y) {
        const float* from = x + row * size;
        const float* g = grad + row * size;
        float mean = means[row], scale = scales[row];
        float sum = 0.0f, projection = 0.0f;
        for (int i = threadIdx.x; i < size; i += blockDim.x) {
            float weighted = g[i] * weight[i];
            sum += weighted;
            projection += weighted * (from[i] - mean) * scale;
        }
        sum = row_sum(sum, partial) / (float)size;
        projection = row_sum(projection, partial) / (float)size;
        for (int i = threadIdx.x; i < size; i += blockDim.x)
            x_grad[row * size + i] = scale * (g[i] * weight[i] - sum - (from[i] - mean) * scale * projection);
    }
}

// Partial sums over rows, (gridDim.y, size), by blocks of 32 columns and 8 rows at a time.
extern "C" __global__ void layer_norm_rows_param_sums(const float* __restrict__ x, const float* __restrict__ means,
                                                      const float* __restrict__ scales, const float* __restrict__ grad,
                                                      float* __restrict__ weight_sums, float* __restrict__ bias_sums,
                                                      i64 rows, int size) {
    __shared__ float partial[2][8][32];
    int column = (int)(blockIdx.x * 32 + threadIdx.x);
    float weight_sum = 0.0f, bias_sum = 0.0f;
    if (column < size) {
        for (i64 row = (i64)blockIdx.y * 8 + threadIdx.y; row < rows; row += (i64)gridDim.y * 8) {
            float g = grad[row * size + column];
            weight_sum += g * (x[row * size + column] - means[row]) * scales[row];
            bias_sum += g;
        }
    }
    partial[0][threadIdx.y][threadIdx.x] = weight_sum;
    partial[1][threadIdx.y][threadIdx.x] = bias_sum;
    __syncthreads();
    if (threadIdx.y < 2 && column < size) {
        float sum = 0.0f;
        for (int i = 0; i < 8; i++) sum += partial[threadIdx.y][i][threadIdx.x];
        (threadIdx.y == 0 ? weight_sums : bias_sums)[(i64)blockIdx.y * size + column] = sum;
    }
}

// The sum over threadIdx.y of a block of 32 pixels and 8 channels at a time, for each of its threads.
__device__ __forceinline__ float sum_over_y(float v, float partial[8][32]) {
    __syncthreads();
    partial[threadIdx.y][threadIdx.x] = v;
    __syncthreads();
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < 8; i++) sum += partial[i][threadIdx.x];
    return sum;
}

extern "C" __global__ void layer_norm_channels(const float* __restrict__ x, const float* __restrict__ weight,
                                               const float* __restrict__ bias, float* __restrict__ y,
                                               float* __restrict__ means, float* __restrict__ scales, i64 places,
                                               int channels, int pixels, float epsilon) {
    __shared__ float partial[8][32];
    i64 place = (i64)blockIdx.x * 32 + threadIdx.x;
    bool inside = place < places;
    i64 first = inside ? place / pixels * channels * pixels + place % pixels : 0;
    int end = inside ? channels : 0;
    float sum = 0.0f;
    for (int c = threadIdx.y; c < end; c += 8) sum += x[first + (i64)c * pixels];
    float mean = sum_over_y(sum, partial) / (float)channels;
    float squares = 0.0f;
    for (int c = threadIdx.y; c < end; c += 8) {
        float centered = x[first + (i64)c * pixels] - mean;
        squares += centered * centered;
    }
    float scale = 1.0f / sqrtf(sum_over_y(squares, partial) / (float)channels + epsilon);
    for (int c = threadIdx.y; c < end; c += 8) {
        i64 i = first + (i64)c * pixels;
        y[i] = (x[i] - mean) * scale * weight[c] + bias[c];
    }
    if (inside && threadIdx.y == 0) {
        means[place] = mean;
        scales[place] = scale;
    }
}

extern "C" __global__ void layer_norm_channels_x_grad(const float* __restrict__ x, const float* __restrict__ weight,
                                                      const float* __restrict__ means,
                                                      const float* __restrict__ scales, const float* __restrict__ grad,
                                                      float* __restrict__ x_grad, i64 places, int channels,
                                                      int pixels) {
    __shared__ float partial[8][32];
    i64 place = (i64)blockIdx.x * 32 + threadIdx.x;
    bool inside = place < places;
    i64 first = inside ? place / pixels * channels * pixels + place % pixels : 0;
    int end = inside ? channels : 0;
    float mean = inside ? means[place] : 0.0f, scale = inside ? scales[place] : 0.0f;
    float sum = 0.0f, projection = 0.0f;
    for (int c = threadIdx.y; c < end; c += 8) {
        i64 i = first + (i64)c * pixels;
        float weighted = grad[i] * weight[c];
        sum += weighted;
        projection += weighted * (x[i] - mean) * scale;
    }
    sum = sum_over_y(sum, partial) / (float)channels;
    projection = sum_over_y(projection, partial) / (float)channels;
    for (int c = threadIdx.y; c < end; c += 8) {
        i64 i = first + (i64)c * pixels;
        x_grad[i] = scale * (grad[i] * weight[c] - sum - (x[i] - mean) * scale * projection);
    }
}

// Partial sums over batch and pixels, (gridDim.y, C).
extern "C" __global__ void layer_norm_channels_param_sums(const float* __restrict__ x, const float* __restrict__ means,
                                                          const float* __restrict__ scales,
                                                          const float* __restrict__ grad,
                                                          float* __restrict__ weight_sums,
                                                          float* __restrict__ bias_sums, int batch, int channels,
                                                          int pixels) {
    __shared__ float partial[32];
    int channel = blockIdx.x;
    float weight_sum = 0.0f, bias_sum = 0.0f;
    for (ChannelWalk walk(batch, pixels); walk.inside(); walk.next()) {
        i64 i = walk.index(channel, channels), place = walk.index(0, 1);
        weight_sum += grad[i] * (x[i] - means[place]) * scales[place];
        bias_sum += grad[i];
    }
    weight_sum = row_sum(weight_sum, partial);
    bias_sum = row_sum(bias_sum, partial);
    if (threadIdx.x == 0) {
        weight_sums[(i64)blockIdx.y * channels + channel] = weight_sum;
        bias_sums[(i64)blockIdx.y * channels + channel] = bias_sum;
    }
}
