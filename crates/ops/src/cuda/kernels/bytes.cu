// From the bytes of images (B, pixels, C) to floats (B, C, pixels).

struct Channel {
    float mean;
    float std;
};

extern "C" __global__ void normalize_bytes(const unsigned char* __restrict__ bytes,
                                           const Channel* __restrict__ normalize, float* __restrict__ x, int planes,
                                           int channels, int pixels) {
    Place at = place_in_planes(planes, pixels);
    if (!at.inside) return;
    int channel = at.plane % channels, sample = at.plane / channels;
    float v = (float)bytes[((i64)sample * pixels + at.pixel) * channels + channel];
    x[(i64)at.plane * pixels + at.pixel] = (v - normalize[channel].mean) / normalize[channel].std;
}
