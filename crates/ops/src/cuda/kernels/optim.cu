// Optimizer steps in place, one block a chunk of a variable. `optim.rs` has the tables.

struct AdamChunk {
    float* param;
    float* m;
    float* v;
    const float* grad;
    i64 count;
    float decay, alpha;
    float root_scale, beta1;
    float beta2, rest1;
    float rest2, epsilon;
};

extern "C" __global__ void adam_steps(const AdamChunk* __restrict__ chunks) {
    AdamChunk chunk = chunks[blockIdx.x];
    for (i64 i = (i64)threadIdx.x * 4; i < chunk.count; i += (i64)blockDim.x * 4) {
        float param[4], grad[4], m[4], v[4];
        load4(chunk.param, i, chunk.count, param);
        load4(chunk.grad, i, chunk.count, grad);
        load4(chunk.m, i, chunk.count, m);
        load4(chunk.v, i, chunk.count, v);
#pragma unroll
        for (int k = 0; k < 4; k++) {
            m[k] = chunk.beta1 * m[k] + chunk.rest1 * grad[k];
            v[k] = chunk.beta2 * v[k] + chunk.rest2 * (grad[k] * grad[k]);
            param[k] = chunk.decay * param[k] - chunk.alpha * m[k] / (sqrtf(v[k]) * chunk.root_scale + chunk.epsilon);
        }
        store4(chunk.param, i, chunk.count, param);
        store4(chunk.m, i, chunk.count, m);
        store4(chunk.v, i, chunk.count, v);
    }
}

struct SgdChunk {
    float* param;
    float* velocity;
    const float* grad;
    i64 count;
    float lr, momentum;
    float decay, of_grad;
    float of_velocity, unused;
};

extern "C" __global__ void sgd_steps(const SgdChunk* __restrict__ chunks) {
    SgdChunk chunk = chunks[blockIdx.x];
    for (i64 i = (i64)threadIdx.x * 4; i < chunk.count; i += (i64)blockDim.x * 4) {
        float param[4], grad[4], velocity[4];
        load4(chunk.param, i, chunk.count, param);
        load4(chunk.grad, i, chunk.count, grad);
        load4(chunk.velocity, i, chunk.count, velocity);
#pragma unroll
        for (int k = 0; k < 4; k++) {
            float g = grad[k] + chunk.decay * param[k];
            velocity[k] = chunk.momentum * velocity[k] + g;
            param[k] -= chunk.lr * (chunk.of_grad * g + chunk.of_velocity * velocity[k]);
        }
        store4(chunk.param, i, chunk.count, param);
        store4(chunk.velocity, i, chunk.count, velocity);
    }
}
