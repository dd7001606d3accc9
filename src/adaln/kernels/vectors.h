/* Vectors, and products of small matrices, on one core. Arrays are contiguous float32, widths multiples of 16. */

#include <stdint.h>
#include <string.h>

#ifdef __AVX512F__
#define LANES 16
#define COLS 4 /* vectors of a product that are in registers, in each of 6 rows: 24 of 32 registers here, 12 of 16 there */
#else
#define LANES 8
#define COLS 2
#endif
#define ROWS 6
#define REST 4 /* rows at a time of those left over: of 64, all of them */

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t ints __attribute__((vector_size(4 * LANES)));
typedef float loose __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline))

static inline vec load(const float *p) { return *(const loose *)p; }
static inline void store(float *p, vec x) { *(loose *)p = x; }
static inline vec all(float x) { return x - (vec){0}; }
static inline vec where(ints is, vec a, vec b) { return (vec)((is & (ints)a) | (~is & (ints)b)); }

static inline float sum(vec x) {
    float part[LANES];
    store(part, x);
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++) part[i] += part[i + half];
    return part[0];
}

/* e^x to two units in the last place, for x held within -80..80: 2^n e^r with |r| <= ln(2) / 2 by its series. */
static inline vec exponential(vec x) {
    vec held = where(x < -80, all(-80), where(x > 80, all(80), x));
    vec shifted = held * 1.44269504f + 12582912.0f; /* the last bits are n, rounded */
    vec n = shifted - 12582912.0f;
    vec r = held - n * 0.693359375f + n * 2.12194440e-4f;
    vec p = r * 1.38888889e-3f + 8.33333333e-3f;
    p = p * r + 4.16666667e-2f;
    p = p * r + 1.66666667e-1f;
    p = p * r + 0.5f;
    p = p * r * r + r + 1;
    ints power = ((ints)shifted - 0x4B400000 + 127) << 23;
    return p * (vec)power;
}

/* 1 / x for x in 1..1e35: a first guess from the bits, then Newton's steps, each of which doubles its digits. */
static inline vec reciprocal(vec x) {
    vec y = (vec)(0x7EF311C7 - (ints)x);
    for (int step = 0; step < 3; step++) y = y * (2 - x * y);
    return y;
}

#define DEPTH 64 /* of what is multiplied at a time, so that it stays in the innermost cache, and sums stay short */

/* `rows` rows and `cols` vectors of a product, all of them in registers. */
INLINE void tile(const float *a, long am, long ak, const float *b, long N, const float *start, long step, float *c,
                 long K, int rows, int cols) {
    vec s[ROWS][COLS];
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 6
        for (int j = 0; j < cols; j++) s[i][j] = (vec){0};
    for (long k = 0; k < K; k++)
#pragma GCC unroll 6
        for (int i = 0; i < rows; i++)
#pragma GCC unroll 6
            for (int j = 0; j < cols; j++) s[i][j] += a[i * am + k * ak] * load(b + k * N + j * LANES);
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 6
        for (int j = 0; j < cols; j++)
            store(c + i * N + j * LANES, start ? load(start + i * step + j * LANES) + s[i][j] : s[i][j]);
}

/* C = S + A B: A (M, K) has its values am and ak apart, the rows of S (none: zeros) lie `step` apart (0: all of them are
one), B (K, N) and C (M, N), which may be S, are contiguous. */
static void product(const float *A, long am, long ak, const float *B, const float *S, long step, float *C, long M, long N,
                    long K) {
    for (long k = 0; k < K; k += DEPTH) {
        long depth = K - k < DEPTH ? K - k : DEPTH;
        if (k) S = C, step = N;
        for (long n = 0; n < N;) {
            long cols = (N - n) / LANES >= COLS ? COLS : 1, rows;
            for (long m = 0; m < M; m += rows) {
                const float *a = A + m * am + k * ak, *b = B + k * N + n, *start = S ? S + m * step + n : 0;
                float *c = C + m * N + n;
                rows = M - m >= ROWS ? ROWS : M - m >= REST ? REST : 1;
                if (rows == ROWS && cols == COLS) tile(a, am, ak, b, N, start, step, c, depth, ROWS, COLS);
                else if (rows == REST && cols == COLS) tile(a, am, ak, b, N, start, step, c, depth, REST, COLS);
                else if (cols == COLS) tile(a, am, ak, b, N, start, step, c, depth, 1, COLS);
                else if (rows == ROWS) tile(a, am, ak, b, N, start, step, c, depth, ROWS, 1);
                else if (rows == REST) tile(a, am, ak, b, N, start, step, c, depth, REST, 1);
                else tile(a, am, ak, b, N, start, step, c, depth, 1, 1);
            }
            n += cols * LANES;
        }
    }
}

/* The transpose of W (F, K) as columns of `to`, whose rows are `width` long and filled up with zeros to `filled` columns. */
static void turn(const float *W, long F, long K, float *to, long width, long filled) {
    for (long f = 0; f < filled; f += LANES)
        for (long k = 0; k < K; k++)
            for (long i = f; i < f + LANES; i++) to[k * width + i] = i < F ? W[i * K + k] : 0;
}

/* From the gradient of x W^T, rows `step` apart: that of x, where `dx` is asked for, and that of W added to dW. */
static void linear_backward(const float *g, long step, const float *x, const float *W, float *dx, float *dW, long T,
                            long F, long K) {
    if (dx) product(g, step, 1, W, 0, 0, dx, T, K, F);
    product(g, 1, step, x, dW, K, dW, F, K, T);
}

/* The sum over rows, `step` apart, added to `total`. */
static void add_rows(const float *g, long step, float *total, long T, long D) {
    for (long t = 0; t < T; t++)
        for (long d = 0; d < D; d++) total[d] += g[t * step + d];
}
