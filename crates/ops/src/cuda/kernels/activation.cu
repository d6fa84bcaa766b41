// Activation functions of single values.

extern "C" __global__ void activate_forward(const float* __restrict__ x, float* __restrict__ y, i64 count, int kind,
                                            float slope) {
    for (i64 i = first_of_four(); i < count; i += next_four()) {
        float v[4];
        load4(x, i, count, v);
#pragma unroll
        for (int k = 0; k < 4; k++) v[k] = activate(kind, slope, v[k]);
        store4(y, i, count, v);
    }
}

extern "C" __global__ void activate_backward(const float* __restrict__ x, const float* __restrict__ grad,
                                             float* __restrict__ x_grad, i64 count, int kind, float slope) {
    for (i64 i = first_of_four(); i < count; i += next_four()) {
        float v[4], g[4];
        load4(x, i, count, v);
        load4(grad, i, count, g);
#pragma unroll
        for (int k = 0; k < 4; k++) g[k] *= derivative(kind, slope, v[k]);
        store4(x_grad, i, count, g);
    }
}
