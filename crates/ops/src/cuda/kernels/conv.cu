// Convolution as a matrix product: the input unfolded to columns, and maps between (B, C, pixels) and (C, B, pixels).

// columns (C · kh · kw, B, oh · ow) of x (B, C, h, w). A plane of places is one row of columns of one sample.
extern "C" __global__ void unfold(const float* __restrict__ x, float* __restrict__ columns, int planes, int batch,
                                  int channels, int h, int w, int oh, int ow, int kh, int kw, int sh, int sw, int dh,
                                  int dw, int top, int left) {
    Place at = place_in_planes(planes, oh * ow);
    if (!at.inside) return;
    int sample = at.plane % batch, row = at.plane / batch;
    int tap = row % (kh * kw), channel = row / (kh * kw);
    int iy = at.pixel / ow * sh + tap / kw * dh - top, ix = at.pixel % ow * sw + tap % kw * dw - left;
    bool inside = iy >= 0 && iy < h && ix >= 0 && ix < w;
    i64 map = ((i64)sample * channels + channel) * h * w;
    columns[(i64)at.plane * oh * ow + at.pixel] = inside ? x[map + (i64)iy * w + ix] : 0.0f;
}

// The transposed map, from the gradient of the columns to that of x.
extern "C" __global__ void fold(const float* __restrict__ columns, float* __restrict__ x, int planes, int batch,
                                int channels, int h, int w, int oh, int ow, int kh, int kw, int sh, int sw, int dh,
                                int dw, int top, int left) {
    Place at = place_in_planes(planes, h * w);
    if (!at.inside) return;
    int channel = at.plane % channels, sample = at.plane / channels;
    int row = at.pixel / w + top, column = at.pixel % w + left;
    float sum = 0.0f;
    for (int ky = 0; ky < kh; ky++) {
        int y = row - ky * dh;
        if (y < 0 || y % sh != 0 || y / sh >= oh) continue;
        for (int kx = 0; kx < kw; kx++) {
            int from = column - kx * dw;
            if (from < 0 || from % sw != 0 || from / sw >= ow) continue;
            i64 plane = ((i64)channel * kh * kw + ky * kw + kx) * batch + sample;
            sum += columns[plane * oh * ow + (i64)(y / sh) * ow + from / sw];
        }
    }
    x[(i64)at.plane * h * w + at.pixel] = sum;
}

// to (n, m, pixels) of from (m, n, pixels), with a bias for each of the m, or null.
extern "C" __global__ void swap_planes(const float* __restrict__ from, const float* __restrict__ bias,
                                       float* __restrict__ to, int m, int n, int pixels) {
    Place at = place_in_planes(m * n, pixels);
    if (!at.inside) return;
    int second = at.plane / m, first = at.plane % m;
    float v = from[((i64)first * n + second) * pixels + at.pixel];
    to[(i64)at.plane * pixels + at.pixel] = bias ? v + bias[first] : v;
}
