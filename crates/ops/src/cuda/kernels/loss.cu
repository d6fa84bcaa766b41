// Softmax cross-entropy of rows of logits, with labels or with target probabilities.

// The logarithm of a row's sum of exponentials, for each of its threads.
__device__ __forceinline__ float log_sum_exp(const float* row, int classes, float* partial) {
    float largest = row[0];
    for (int i = threadIdx.x; i < classes; i += blockDim.x) largest = fmaxf(largest, row[i]);
    largest = row_max(largest, partial);
    float sum = 0.0f;
    for (int i = threadIdx.x; i < classes; i += blockDim.x) sum += expf(row[i] - largest);
    return largest + logf(row_sum(sum, partial));
}

// A label that is no class gives NaN.
extern "C" __global__ void cross_entropy_rows(const float* __restrict__ logits, const u32* __restrict__ labels,
                                              float* __restrict__ log_sums, float* __restrict__ losses, i64 rows,
                                              int classes) {
    __shared__ float partial[32];
    for (i64 row = (i64)blockIdx.x * blockDim.y + threadIdx.y; row < rows; row += (i64)gridDim.x * blockDim.y) {
        const float* from = logits + row * classes;
        float log_sum = log_sum_exp(from, classes, partial);
        if (threadIdx.x == 0) {
            u32 label = labels[row];
            log_sums[row] = log_sum;
            losses[row] = label < (u32)classes ? log_sum - from[label] : nanf("");
        }
    }
}

extern "C" __global__ void cross_entropy_backward(const float* __restrict__ logits, const u32* __restrict__ labels,
                                                  const float* __restrict__ log_sums, const float* __restrict__ grad,
                                                  float* __restrict__ logits_grad, i64 rows, int classes) {
    float scale = grad[0] / (float)rows;
    for (i64 row = (i64)blockIdx.x * blockDim.y + threadIdx.y; row < rows; row += (i64)gridDim.x * blockDim.y) {
        float log_sum = log_sums[row];
        u32 label = labels[row];
        for (int i = threadIdx.x; i < classes; i += blockDim.x) {
            float p = expf(logits[row * classes + i] - log_sum);
            logits_grad[row * classes + i] = scale * ((u32)i == label ? p - 1.0f : p);
        }
    }
}

extern "C" __global__ void soft_cross_entropy_rows(const float* __restrict__ logits, const float* __restrict__ targets,
                                                   float* __restrict__ log_sums, float* __restrict__ losses, i64 rows,
                                                   int classes) {
    __shared__ float partial[32];
    for (i64 row = (i64)blockIdx.x * blockDim.y + threadIdx.y; row < rows; row += (i64)gridDim.x * blockDim.y) {
        const float* from = logits + row * classes;
        float log_sum = log_sum_exp(from, classes, partial);
        float loss = 0.0f;
        for (int i = threadIdx.x; i < classes; i += blockDim.x)
            loss += targets[row * classes + i] * (log_sum - from[i]);
        loss = row_sum(loss, partial);
        if (threadIdx.x == 0) {
            log_sums[row] = log_sum;
            losses[row] = loss;
        }
    }
}

// (softmax · Σ target − target) / B
extern "C" __global__ void soft_cross_entropy_backward(const float* __restrict__ logits,
                                                       const float* __restrict__ targets,
                                                       const float* __restrict__ log_sums,
                                                       const float* __restrict__ grad, float* __restrict__ logits_grad,
                                                       i64 rows, int classes) {
    __shared__ float partial[32];
    float scale = grad[0] / (float)rows;
    for (i64 row = (i64)blockIdx.x * blockDim.y + threadIdx.y; row < rows; row += (i64)gridDim.x * blockDim.y) {
        const float* target = targets + row * classes;
        float sum = 0.0f;
        for (int i = threadIdx.x; i < classes; i += blockDim.x) sum += target[i];
        sum = row_sum(sum, partial);
        float log_sum = log_sums[row];
        for (int i = threadIdx.x; i < classes; i += blockDim.x) {
            float p = expf(logits[row * classes + i] - log_sum);
            logits_grad[row * classes + i] = scale * (p * sum - target[i]);
        }
    }
}

// The mean of all values, by one block.
extern "C" __global__ void mean_of_all(const float* __restrict__ values, float* __restrict__ mean, i64 count) {
    __shared__ float partial[32];
    float sum = 0.0f;
    for (i64 i = threadIdx.x; i < count; i += blockDim.x) sum += values[i];
    sum = row_sum(sum, partial);
    if (threadIdx.x == 0) mean[0] = sum / (float)count;
}
