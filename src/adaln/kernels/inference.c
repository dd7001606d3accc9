/* A small DiT block of which nothing is kept for derivatives. */

#include "block.c"

#define GROUP 4 /* samples that go through together, so that all of them stays in the innermost caches */

/* GELU in its tanh form, in place. */
static void gelu_alone(float *x, long size) {
    const float a = 1.5957691216f, b = 0.0713548163f;
    for (long i = 0; i < size; i += LANES) {
        vec v = load(x + i);
        store(x + i, v * reciprocal(1 + exponential(v * (-a - b * (v * v)))));
    }
}

/* W (F, K) as (K, F) in `to`; returns where that ends. */
static float *turned(const float *W, long F, long K, float *to) {
    for (long k = 0; k < K; k++)
        for (long f = 0; f < F; f++) to[k * F + f] = W[f * K + k];
    return to + K * F;
}

/* Values of `room` below. */
long inference_room(long B, long N, long D, long heads, long F) {
    return 7 * B * D + (10 * D + 2 * F) * D + GROUP * N * (5 * D + F + N * heads + 2);
}

/* `block` in place of x: weights are turned once, and a few samples go through at a time. */
void infer(float *x, const float *c, const float *w_six, const float *b_six, const float *w_qkv, const float *b_qkv,
           const float *w_proj, const float *b_proj, const float *w_1, const float *b_1, const float *w_2,
           const float *b_2, float *room, long B, long N, long D, long heads, long F) {
    float *activated = room, *six = activated + B * D, *qkv_t = six + 6 * B * D;
    float *proj_t = turned(w_qkv, 3 * D, D, qkv_t), *first_t = turned(w_proj, D, D, proj_t);
    float *second_t = turned(w_1, F, D, first_t), *six_t = turned(w_2, D, F, second_t);
    float *ready = six_t + 6 * D * D, *part = ready + GROUP * N * D, *qkv = part + GROUP * N * D;
    float *hidden = qkv + GROUP * N * 3 * D, *weights = hidden + GROUP * N * F, *stats = weights + GROUP * N * N * heads;
    long stride = 6 * D;
    for (long i = 0; i < B * D; i += LANES) store(activated + i, load(c + i) / (1 + exponential(-load(c + i))));
    linear(activated, w_six, b_six, six_t, six, B, stride, D);
    for (long at = 0; at < B; at += GROUP, x += GROUP * N * D, six += GROUP * stride) {
        long b = B - at < GROUP ? B - at : GROUP, T = b * N;
        modulated(x, six, six + D, stride, ready, stats, b, N, D);
        product(ready, D, 1, qkv_t, b_qkv, qkv, T, 3 * D, D);
        attention(qkv, ready, weights, b, N, heads, D / heads);
        product(ready, D, 1, proj_t, b_proj, part, T, D, D);
        gated(x, part, six + 2 * D, stride, x, b, N, D);
        modulated(x, six + 3 * D, six + 4 * D, stride, ready, stats, b, N, D);
        product(ready, D, 1, first_t, b_1, hidden, T, F, D);
        gelu_alone(hidden, T * F);
        product(hidden, F, 1, second_t, b_2, part, T, D, F);
        gated(x, part, six + 5 * D, stride, x, b, N, D);
    }
}
