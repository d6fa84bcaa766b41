// Pooling of planes (h, w) to (oh, ow).

struct Window {
    int begin;
    int end;
};

// The places of the input that output `index` reads.
__device__ __forceinline__ Window window_of(int index, int stride, int padding, int kernel, int size) {
    int begin = index * stride - padding, end = begin + kernel;
    Window window;
    window.begin = begin > 0 ? begin : 0;
    window.end = end < size ? end : size;
    return window;
}

// The outputs whose windows may read place `index` of the input.
__device__ __forceinline__ Window readers_of(int index, int stride, int padding, int kernel, int outputs) {
    int first = index + padding - kernel + 1, last = (index + padding) / stride;
    Window window;
    window.begin = first > 0 ? (first + stride - 1) / stride : 0;
    window.end = last + 1 < outputs ? last + 1 : outputs;
    return window;
}

// The number of places of output `index`'s window that count for the mean: of the input, or with its padding.
__device__ __forceinline__ int counted(int index, int stride, int padding, int kernel, int size, int with_padding) {
    if (with_padding) {
        int end = index * stride + kernel, padded = size + 2 * padding;
        return (end < padded ? end : padded) - index * stride;
    }
    Window window = window_of(index, stride, padding, kernel, size);
    return window.end - window.begin;
}

// The first of equal maxima is taken, and NaN before any number. `argmax` may be null.
extern "C" __global__ void max_pool_forward(const float* __restrict__ x, float* __restrict__ y,
                                            u32* __restrict__ argmax, int planes, int h, int w, int oh, int ow, int kh,
                                            int kw, int sh, int sw, int ph, int pw) {
    Place at = place_in_planes(planes, oh * ow);
    if (!at.inside) return;
    const float* map = x + (i64)at.plane * h * w;
    Window rows = window_of(at.pixel / ow, sh, ph, kh, h), columns = window_of(at.pixel % ow, sw, pw, kw, w);
    int best_at = rows.begin * w + columns.begin;
    float best = map[best_at];
    for (int row = rows.begin; row < rows.end; row++)
        for (int column = columns.begin; column < columns.end; column++) {
            float v = map[row * w + column];
            if (!(v <= best) && best == best) {
                best = v;
                best_at = row * w + column;
            }
        }
    i64 i = (i64)at.plane * oh * ow + at.pixel;
    y[i] = best;
    if (argmax) argmax[i] = (u32)best_at;
}

extern "C" __global__ void max_pool_backward(const u32* __restrict__ argmax, const float* __restrict__ grad,
                                             float* __restrict__ x_grad, int planes, int h, int w, int oh, int ow,
                                             int kh, int kw, int sh, int sw, int ph, int pw) {
    Place at = place_in_planes(planes, h * w);
    if (!at.inside) return;
    i64 outputs = (i64)at.plane * oh * ow;
    Window rows = readers_of(at.pixel / w, sh, ph, kh, oh), columns = readers_of(at.pixel % w, sw, pw, kw, ow);
    float sum = 0.0f;
    for (int row = rows.begin; row < rows.end; row++)
        for (int column = columns.begin; column < columns.end; column++) {
            i64 i = outputs + row * ow + column;
            if (argmax[i] == (u32)at.pixel) sum += grad[i];
        }
    x_grad[(i64)at.plane * h * w + at.pixel] = sum;
}

extern "C" __global__ void avg_pool_forward(const float* __restrict__ x, float* __restrict__ y, int planes, int h,
                                            int w, int oh, int ow, int kh, int kw, int sh, int sw, int ph, int pw,
                                            int with_padding) {
    Place at = place_in_planes(planes, oh * ow);
    if (!at.inside) return;
    const float* map = x + (i64)at.plane * h * w;
    int oy = at.pixel / ow, ox = at.pixel % ow;
    Window rows = window_of(oy, sh, ph, kh, h), columns = window_of(ox, sw, pw, kw, w);
    float sum = 0.0f;
    for (int row = rows.begin; row < rows.end; row++)
        for (int column = columns.begin; column < columns.end; column++) sum += map[row * w + column];
    float n = (float)counted(oy, sh, ph, kh, h, with_padding) * (float)counted(ox, sw, pw, kw, w, with_padding);
    y[(i64)at.plane * oh * ow + at.pixel] = sum / n;
}

extern "C" __global__ void avg_pool_backward(const float* __restrict__ grad, float* __restrict__ x_grad, int planes,
                                             int h, int w, int oh, int ow, int kh, int kw, int sh, int sw, int ph,
                                             int pw, int with_padding) {
    Place at = place_in_planes(planes, h * w);
    if (!at.inside) return;
    const float* map = grad + (i64)at.plane * oh * ow;
    Window rows = readers_of(at.pixel / w, sh, ph, kh, oh), columns = readers_of(at.pixel % w, sw, pw, kw, ow);
    float sum = 0.0f;
    for (int row = rows.begin; row < rows.end; row++)
        for (int column = columns.begin; column < columns.end; column++) {
            float n = (float)counted(row, sh, ph, kh, h, with_padding) *
                      (float)counted(column, sw, pw, kw, w, with_padding);
            sum += map[row * ow + column] / n;
        }
    x_grad[(i64)at.plane * h * w + at.pixel] = sum;
}

// The mean of each row.
extern "C" __global__ void row_means(const float* __restrict__ x, float* __restrict__ y, i64 rows, int size) {
    __shared__ float partial[32];
    for (i64 row = (i64)blockIdx.x * blockDim.y + threadIdx.y; row < rows; row += (i64)gridDim.x * blockDim.y) {
        float sum = 0.0f;
        for (int i = threadIdx.x; i < size; i += blockDim.x) sum += x[row * size + i];
        sum = row_sum(sum, partial);
        if (threadIdx.x == 0) y[row] = sum / (float)size;
    }
}
