// Softmax of rows.

extern "C" __global__ void softmax_forward(const float* __restrict__ x, float* __restrict__ y, i64 rows, int size) {
    __shared__ float partial[32];
    for (i64 row = (i64)blockIdx.x * blockDim.y + threadIdx.y; row < rows; row += (i64)gridDim.x * blockDim.y) {
        const float* from = x + row * size;
        float* to = y + row * size;
        float largest = from[0];
        for (int i = threadIdx.x; i < size; i += blockDim.x) largest = fmaxf(largest, from[i]);
        largest = row_max(largest, partial);
        float sum = 0.0f;
        for (int i = threadIdx.x; i < size; i += blockDim.x) {
            float e = expf(from[i] - largest);
            to[i] = e;
            sum += e;
        }
        float scale = 1.0f / row_sum(sum, partial);
        for (int i = threadIdx.x; i < size; i += blockDim.x) to[i] *= scale;
    }
}

extern "C" __global__ void softmax_backward(const float* __restrict__ y, const float* __restrict__ grad,
                                            float* __restrict__ x_grad, i64 rows, int size) {
    __shared__ float partial[32];
    for (i64 row = (i64)blockIdx.x * blockDim.y + threadIdx.y; row < rows; row += (i64)gridDim.x * blockDim.y) {
        const float* p = y + row * size;
        const float* g = grad + row * size;
        float sum = 0.0f;
        for (int i = threadIdx.x; i < size; i += blockDim.x) sum += p[i] * g[i];
        sum = row_sum(sum, partial);
        for (int i = threadIdx.x; i < size; i += blockDim.x) x_grad[row * size + i] = p[i] * (g[i] - sum);
    }
}
