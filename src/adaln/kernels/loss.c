/* The loss of a small batch whose network predicts noise or data and a variance within its range, with its derivatives. */

#include "update.c"

/* Of a step: the factors of x and the noise in x_t, of x and x_t in the posterior's mean, of x_t and the noise in the
predicted data, both bounds of the log variance. */
typedef struct {
    float signal, spread, of_start, of_noisy, recip, recip_minus_1, small, large;
} moments;

/* The standard normal distribution function's tanh approximation, and its derivative. */
static double cdf(double x, double *slope) {
    const double a = 0.7978845608028654, b = 0.044715;
    double tanh = __builtin_tanh(a * (x + b * x * x * x));
    *slope = 0.5 * (1 - tanh * tanh) * a * (1 + 3 * b * x * x);
    return 0.5 * (1 + tanh);
}

/* - log P(grey level of x) in nats under N(mean, exp(log_variance)), and its derivative by the log variance. */
static double level_cost(double x, double mean, double log_variance, double *slope) {
    double inverse = __builtin_exp(-0.5 * log_variance), low, high;
    double left = (x - mean - 1.0 / 255) * inverse, right = (x - mean + 1.0 / 255) * inverse;
    double below = x < -0.999 ? (low = 0) : cdf(left, &low), above = x > 0.999 ? (high = 0, 1) : cdf(right, &high);
    double probability = above - below;
    *slope = probability < 1e-12 ? 0 : 0.5 * (right * high - left * low) / probability;
    return -__builtin_log(probability < 1e-12 ? 1e-12 : probability);
}

/* Losses of B samples of S values, and their `slopes` by the output (B, 2, S): the mean of (first - target)^2, and `scale`
times one term of the bound in nats, whose derivative by the mean is left out. */
void learned_range_loss(const float *output, const float *x, const float *x_t, const float *target, const int64_t *steps,
                        const moments *table, const double *scale, float *losses, float *slopes, long B, long S,
                        long is_start) {
    for (long b = 0; b < B; b++, output += 2 * S, slopes += 2 * S, x += S, x_t += S, target += S) {
        moments at = table[steps[b]];
        float per_value = 1.0f / S, factor = *scale / S, half = (at.large - at.small) / 2;
        vec squares = {0}, bound = {0};
        for (long i = 0; i < S; i += LANES) {
            vec first = load(output + i), miss = first - load(target + i), fraction = (load(output + S + i) + 1) / 2;
            vec start = is_start ? first : at.recip * load(x_t + i) - at.recip_minus_1 * first;
            vec away = at.of_start * (load(x + i) - start), log_variance = fraction * at.large + (1 - fraction) * at.small;
            vec ratio = exponential(at.small - log_variance), far = away * away * exponential(-log_variance);
            squares += miss * miss;
            bound += 0.5f * (log_variance - at.small - 1 + ratio + far);
            store(slopes + i, 2 * per_value * miss);
            store(slopes + S + i, factor * half * 0.5f * (1 - ratio - far));
        }
        double total = sum(bound), slope;
        if (steps[b] == 0) total = 0;
        for (long i = 0; i < S && steps[b] == 0; i++) {
            float start = is_start ? output[i] : at.recip * x_t[i] - at.recip_minus_1 * output[i];
            float fraction = (output[S + i] + 1) / 2, log_variance = fraction * at.large + (1 - fraction) * at.small;
            total += level_cost(x[i], at.of_start * start + at.of_noisy * x_t[i], log_variance, &slope);
            slopes[S + i] = factor * half * slope;
        }
        losses[b] = sum(squares) * per_value + factor * total;
    }
}
