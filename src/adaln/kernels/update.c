/* The update of small tensors, one after the other, each in one pass: AdamW and a moving average of the weights, in the order
of torch's own roundings. */

#include "network.c"

/* Contracting a product and a sum to one rounding, which compilers do unasked, is no part of that order. */
#if defined(__clang__)
#define AS_WRITTEN
#pragma clang fp contract(off)
#else
#define AS_WRITTEN __attribute__((optimize("fp-contract=off")))
#endif

/* Euclidean norms of `count` tensors. */
void norms(const float *const *tensors, const long *sizes, long count, float *out) {
    for (long i = 0; i < count; i++) {
        const float *x = tensors[i];
        long whole = sizes[i] / LANES * LANES;
        vec s = {0};
        for (long j = 0; j < whole; j += LANES) s += load(x + j) * load(x + j);
        float total = sum(s);
        for (long j = whole; j < sizes[i]; j++) total += x[j] * x[j];
        out[i] = __builtin_sqrtf(total);
    }
}

/* from + weight (to - from), from the nearer end. */
INLINE float lerp(float from, float to, float weight) {
    return weight < 0.5f ? __builtin_fmaf(weight, to - from, from) : __builtin_fmaf(weight - 1, to - from, to);
}

/* Of one tensor: m <- m + first (g - m), v <- beta2 v + second g^2, x <- kept x + minus m / (sqrt(v) / root + eps),
average <- average + weight (x - average). */
AS_WRITTEN static void update_one(float *restrict x, const float *restrict gradient, float *restrict m, float *restrict v,
                                  float *restrict average, long size, float scale, float kept, float first, float second,
                                  float beta2, float root, float eps, float minus, float weight) {
    for (long i = 0; i < size; i++) {
        float g = gradient[i] * scale;
        m[i] = lerp(m[i], g, first);
        v[i] = __builtin_fmaf(second * g, g, v[i] * beta2);
        x[i] = x[i] * kept + minus * m[i] / (__builtin_sqrtf(v[i]) / root + eps);
        average[i] = lerp(average[i], x[i], weight);
    }
}

/* `settings`: learning rate, beta1, beta2, eps, weight decay, share of the newest weights in the average, and the factor that
clips the gradients. Each tensor counts its own steps. */
void update(float *const *x, const float *const *gradients, float *const *m, float *const *v, float *const *averages,
            float *const *steps, const long *sizes, long count, const double *settings) {
    double lr = settings[0], beta1 = settings[1], beta2 = settings[2];
    for (long i = 0; i < count; i++) {
        double step = *steps[i] += 1, correction = 1 - __builtin_pow(beta1, step);
        update_one(x[i], gradients[i], m[i], v[i], averages[i], sizes[i], settings[6], 1 - lr * settings[4], 1 - beta1,
                   1 - beta2, beta2, __builtin_sqrt(1 - __builtin_pow(beta2, step)), settings[3], -(lr / correction),
                   settings[5]);
    }
}
