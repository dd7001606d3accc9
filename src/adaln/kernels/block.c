/* A small DiT block forwards and backwards.

B samples have N tokens each, T = B N rows of D values. Of a modulation's vectors a function is given the first value of one,
`stride` apart from sample to sample. Gradients of weights and biases are added to what is there. What is not finite stays so. */

#include "vectors.h"

#define MOST 64 /* tokens of a sample, and channels of a head */

/* LN(x) (1 + scale) + shift; `stats` keeps mean and 1 / std of each row. */
static void modulated(const float *x, const float *shift, const float *scale, long stride, float *out, float *stats, long B,
               long N, long D) {
    for (long row = 0; row < B * N; row++, x += D, out += D) {
        const float *add = shift + row / N * stride, *factor = scale + row / N * stride;
        vec s = {0}, squares = {0};
        for (long d = 0; d < D; d += LANES) s += load(x + d);
        float mean = sum(s) / D;
        for (long d = 0; d < D; d += LANES) squares += (load(x + d) - mean) * (load(x + d) - mean);
        float rstd = 1 / __builtin_sqrtf(sum(squares) / D + 1e-6f);
        for (long d = 0; d < D; d += LANES)
            store(out + d, (load(x + d) - mean) * rstd * (1 + load(factor + d)) + load(add + d));
        stats[2 * row] = mean, stats[2 * row + 1] = rstd;
    }
}

/* From the gradient of `modulated`'s output: `dx`, that of x added to `residual`; dshift, dscale. */
static void modulated_backward(const float *g, const float *residual, const float *x, const float *stats, const float *scale,
                        float *dshift, float *dscale, long stride, float *dx, long B, long N, long D) {
    for (long row = 0; row < B * N; row++, g += D, residual += D, x += D, dx += D) {
        long at = row / N * stride;
        float mean = stats[2 * row], rstd = stats[2 * row + 1];
        vec s = {0}, along = {0};
        if (row % N == 0) memset(dshift + at, 0, 4 * D), memset(dscale + at, 0, 4 * D);
        for (long d = 0; d < D; d += LANES) {
            vec normal = (load(x + d) - mean) * rstd, given = load(g + d);
            vec inner = given * (1 + load(scale + at + d));
            s += inner, along += inner * normal;
            store(dshift + at + d, load(dshift + at + d) + given);
            store(dscale + at + d, load(dscale + at + d) + given * normal);
        }
        float middle = sum(s) / D, slope = sum(along) / D;
        for (long d = 0; d < D; d += LANES) {
            vec normal = (load(x + d) - mean) * rstd, inner = load(g + d) * (1 + load(scale + at + d));
            store(dx + d, load(residual + d) + rstd * (inner - middle - normal * slope));
        }
    }
}

/* x + gate f. */
static void gated(const float *x, const float *f, const float *gate, long stride, float *out, long B, long N, long D) {
    for (long row = 0; row < B * N; row++, x += D, f += D, out += D)
        for (long d = 0; d < D; d += LANES)
            store(out + d, load(x + d) + load(gate + row / N * stride + d) * load(f + d));
}

/* From the gradient of x + gate f: df, dgate, and the gradient of a bias in f. */
static void gated_backward(const float *g, const float *f, const float *gate, float *dgate, long stride, float *df,
                    float *dbias, long B, long N, long D) {
    for (long row = 0; row < B * N; row++, g += D, f += D, df += D) {
        long at = row / N * stride;
        if (row % N == 0) memset(dgate + at, 0, 4 * D);
        for (long d = 0; d < D; d += LANES) {
            vec inner = load(g + d) * load(gate + at + d);
            store(df + d, inner);
            store(dbias + d, load(dbias + d) + inner);
            store(dgate + at + d, load(dgate + at + d) + load(g + d) * load(f + d));
        }
    }
}

/* GELU in its tanh form, x sigmoid(2 u); x is replaced by its derivative if that is kept. */
static void gelu(float *x, float *out, long size, int keeps) {
    const float a = 1.5957691216f, b = 0.0713548163f; /* 2 sqrt(2 / pi), and that times 0.044715 */
    for (long i = 0; i < size; i += LANES) {
        vec v = load(x + i), square = v * v;
        vec other = exponential(v * (-a - b * square));
        vec gate = reciprocal(1 + other), y = v * gate;
        store(out + i, y);
        if (keeps) store(x + i, gate + y * (other * gate) * (a + 3 * b * square));
    }
}

/* g times GELU's derivative, in place of g, and the gradient of a bias. */
static void gelu_backward(float *g, const float *derivative, float *dbias, long rows, long D) {
    for (long row = 0; row < rows; row++, g += D, derivative += D)
        for (long d = 0; d < D; d += LANES) {
            vec inner = load(g + d) * load(derivative + d);
            store(g + d, inner);
            store(dbias + d, load(dbias + d) + inner);
        }
}

typedef float matrix[MOST][MOST] __attribute__((aligned(64)));

/* Rows of a head, filled up with zeros to whole vectors. */
static inline void rows_of(matrix to, const float *from, long stride, long N, long d, long deep) {
    for (long n = 0; n < N; n++)
        for (long i = 0; i < deep; i++) to[n][i] = i < d ? from[n * stride + i] : 0;
}

/* Its columns, likewise. */
static inline void columns_of(matrix to, const float *from, long stride, long N, long d, long wide) {
    for (long i = 0; i < d; i++)
        for (long n = 0; n < wide; n++) to[i][n] = n < N ? from[n * stride + i] : 0;
}

/* A row of a product: the sum over k of weights[k * step] times the rows of m, the first `width` values. */
static inline void combine(float *out, const float *weights, long step, matrix m, long K, long width) {
    for (long i = 0; i < width; i += LANES) {
        vec s = {0};
        for (long k = 0; k < K; k++) s += weights[k * step] * load(m[k] + i);
        store(out + i, s);
    }
}

/* softmax over the rows of each column: the columns lie side by side in vectors. */
static inline void softmax(matrix s, float scale, long N, long wide) {
    for (long n = 0; n < wide; n += LANES) {
        vec most = load(s[0] + n), total = {0};
        for (long m = 1; m < N; m++) most = where(load(s[m] + n) > most, load(s[m] + n), most);
        for (long m = 0; m < N; m++) {
            vec e = exponential((load(s[m] + n) - most) * scale);
            store(s[m] + n, e), total += e;
        }
        total = 1 / total;
        for (long m = 0; m < N; m++) store(s[m] + n, load(s[m] + n) * total);
    }
}

#define SIZES long D = heads * d, wide = (N + LANES - 1) / LANES * LANES, deep = (d + LANES - 1) / LANES * LANES
#define HEAD_OF(width) (head / heads * N * (width) + head % heads * d)

INLINE void attend(const float *qkv, float *out, float *weights, long B, long N, long heads, long d) {
    SIZES;
    matrix q, k, v, p;
    for (long head = 0; head < B * heads; head++, weights += N * N) {
        const float *from = qkv + HEAD_OF(3 * D);
        float *to = out + HEAD_OF(D), row[MOST];
        columns_of(q, from, 3 * D, N, d, wide);
        rows_of(k, from + D, 3 * D, N, d, deep), rows_of(v, from + 2 * D, 3 * D, N, d, deep);
        for (long m = 0; m < N; m++) combine(p[m], k[m], 1, q, d, wide);
        softmax(p, 1 / __builtin_sqrtf(d), N, wide);
        for (long m = 0; m < N; m++) memcpy(weights + m * N, p[m], 4 * N);
        for (long n = 0; n < N; n++) {
            combine(row, p[0] + n, MOST, v, N, deep);
            memcpy(to + n * D, row, 4 * d);
        }
    }
}

INLINE void attend_backward(const float *g, const float *qkv, const float *weights, float *dqkv, long B, long N, long heads,
                       long d) {
    SIZES;
    float scale = 1 / __builtin_sqrtf(d);
    matrix q, k, rows, columns, p, ds;
    for (long head = 0; head < B * heads; head++, weights += N * N) {
        const float *from = qkv + HEAD_OF(3 * D), *given = g + HEAD_OF(D);
        float *to = dqkv + HEAD_OF(3 * D), row[MOST];
        rows_of(q, from, 3 * D, N, d, deep), rows_of(k, from + D, 3 * D, N, d, deep);
        rows_of(rows, given, D, N, d, deep), columns_of(columns, given, D, N, d, wide);
        rows_of(p, weights, N, N, N, wide);
        for (long m = 0; m < N; m++) combine(ds[m], from + 2 * D + m * 3 * D, 1, columns, d, wide);
        for (long n = 0; n < wide; n += LANES) {
            vec mean = {0};
            for (long m = 0; m < N; m++) mean += load(p[m] + n) * load(ds[m] + n);
            for (long m = 0; m < N; m++)
                store(ds[m] + n, load(p[m] + n) * (load(ds[m] + n) - mean) * scale);
        }
        for (long n = 0; n < N; n++, to += 3 * D) {
            combine(row, ds[0] + n, MOST, k, N, deep), memcpy(to, row, 4 * d);
            combine(row, ds[n], 1, q, N, deep), memcpy(to + D, row, 4 * d);
            combine(row, p[n], 1, rows, N, deep), memcpy(to + 2 * D, row, 4 * d);
        }
    }
}

/* softmax(q k^T / sqrt(d)) v of qkv (B, N, 3, heads, d) to out (B, N, heads, d); `weights` keeps the softmax of each
head, a column per query. The common size has code of its own, since the compiler then knows its loops. */
static void attention(const float *qkv, float *out, float *weights, long B, long N, long heads, long d) {
    if (N == 16 && d == 16) attend(qkv, out, weights, B, 16, heads, 16);
    else attend(qkv, out, weights, B, N, heads, d);
}

/* From the gradient of `attention`'s output: that of qkv, and of a bias in it. */
static void attention_backward(const float *g, const float *qkv, const float *weights, float *dqkv, float *dbias, long B,
                        long N, long heads, long d) {
    if (N == 16 && d == 16) attend_backward(g, qkv, weights, dqkv, B, 16, heads, 16);
    else attend_backward(g, qkv, weights, dqkv, B, N, heads, d);
    for (long row = 0; row < B * N; row++)
        for (long i = 0; i < 3 * heads * d; i += LANES, dqkv += LANES) store(dbias + i, load(dbias + i) + load(dqkv));
}

/* Weights and biases of a block, or their gradients: the modulation's, those of qkv, of the projection, of the MLP's maps. */
typedef struct {
    float *w_six, *b_six, *w_qkv, *b_qkv, *w_proj, *b_proj, *w_1, *b_1, *w_2, *b_2;
} block_maps;

/* What a block keeps for its derivatives, one after the other in one stretch of memory. */
typedef struct {
    float *x, *ready, *stats, *qkv, *mixed, *weights, *attn, *middle, *ready_mlp, *stats_mlp, *slope, *hidden, *mlp, *end;
} kept;

static kept kept_in(float *at, long B, long N, long D, long heads, long F) {
    long T = B * N;
    kept k;
    k.x = at, k.ready = k.x + T * D, k.qkv = k.ready + T * D, k.mixed = k.qkv + 3 * T * D, k.attn = k.mixed + T * D;
    k.middle = k.attn + T * D, k.ready_mlp = k.middle + T * D, k.slope = k.ready_mlp + T * D, k.hidden = k.slope + T * F;
    k.mlp = k.hidden + T * F, k.weights = k.mlp + T * D, k.stats = k.weights + T * N * heads;
    k.stats_mlp = k.stats + 2 * T, k.end = k.stats_mlp + 2 * T;
    return k;
}

/* x + gate F(LN(x) (1 + scale) + shift) for attention, then for the MLP of F hidden values; `turned` has the transposes
of qkv's, the projection's and the MLP's weights one after the other. */
static void block(kept k, const block_maps *w, const float *turned, const float *six, long stride, float *out, long B,
                  long N, long D, long heads, long F, int keeps) {
    const float *qkv_t = turned, *proj_t = qkv_t + 3 * D * D, *first_t = proj_t + D * D, *second_t = first_t + D * F;
    long T = B * N;
    modulated(k.x, six, six + D, stride, k.ready, k.stats, B, N, D);
    product(k.ready, D, 1, qkv_t, w->b_qkv, 0, k.qkv, T, 3 * D, D);
    attention(k.qkv, k.mixed, k.weights, B, N, heads, D / heads);
    product(k.mixed, D, 1, proj_t, w->b_proj, 0, k.attn, T, D, D);
    gated(k.x, k.attn, six + 2 * D, stride, k.middle, B, N, D);
    modulated(k.middle, six + 3 * D, six + 4 * D, stride, k.ready_mlp, k.stats_mlp, B, N, D);
    product(k.ready_mlp, D, 1, first_t, w->b_1, 0, k.slope, T, F, D);
    gelu(k.slope, k.hidden, T * F, keeps);
    product(k.hidden, F, 1, second_t, w->b_2, 0, k.mlp, T, D, F);
    gated(k.middle, k.mlp, six + 5 * D, stride, out, B, N, D);
}

/* From the gradient g of `block`'s output: in its place that of x, those of the modulation, of weights and of biases;
`room` is for (6 D + F) T values. */
static void block_backward(kept k, const block_maps *w, const block_maps *dw, const float *six, float *d_six, long stride,
                           float *g, float *room, long B, long N, long D, long heads, long F) {
    long T = B * N;
    float *d_middle = room, *d_part = room + T * D, *d_ready = d_part + T * D, *d_qkv = d_ready + T * D;
    float *d_hidden = d_qkv + 3 * T * D;
    gated_backward(g, k.mlp, six + 5 * D, d_six + 5 * D, stride, d_part, dw->b_2, B, N, D);
    linear_backward(d_part, D, k.hidden, w->w_2, d_hidden, dw->w_2, T, D, F);
    gelu_backward(d_hidden, k.slope, dw->b_1, T, F);
    linear_backward(d_hidden, F, k.ready_mlp, w->w_1, d_ready, dw->w_1, T, F, D);
    modulated_backward(d_ready, g, k.middle, k.stats_mlp, six + 4 * D, d_six + 3 * D, d_six + 4 * D, stride, d_middle, B,
                       N, D);
    gated_backward(d_middle, k.attn, six + 2 * D, d_six + 2 * D, stride, d_part, dw->b_proj, B, N, D);
    linear_backward(d_part, D, k.mixed, w->w_proj, d_ready, dw->w_proj, T, D, D);
    attention_backward(d_ready, k.qkv, k.weights, d_qkv, dw->b_qkv, B, N, heads, D / heads);
    linear_backward(d_qkv, 3 * D, k.ready, w->w_qkv, d_ready, dw->w_qkv, T, 3 * D, D);
    modulated_backward(d_ready, d_middle, k.x, k.stats, six + D, d_six, d_six + D, stride, g, B, N, D);
}
