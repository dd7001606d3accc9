/* A small DiT forwards and backwards: from patches of noisy images, features of times and labels to the patches of its output.

The condition and all modulations are computed for the whole batch at once, tokens for a few samples at a time, so that what
lies between the products stays in the innermost caches. */

#include "block.c"

#define GROUP 128 /* tokens that go through together, half as many where nothing is kept: at least one sample */
#define FILLED(n) (((n) + 15) / 16 * 16)

/* B samples of N tokens of D values; P and O values of a patch that comes and that goes, Q features of a time. */
typedef struct {
    long B, N, D, heads, F, depth, P, O, Q;
} sizes;

/* Weights and biases, or their gradients: the table of labels (unused where there are none), the embedding of patches and
of times, the head with its modulation. */
typedef struct {
    float *labels, *w_patch, *b_patch, *w_time, *b_time, *w_time_2, *b_time_2, *w_two, *b_two, *w_head, *b_head;
    block_maps blocks[];
} maps;

/* What the whole batch has in common, then what each group of samples keeps of each block and of the head. */
typedef struct {
    float *time, *time_active, *c, *active, *six, *bias, *turned, *maps_t, *groups, *end;
    long stride, samples, turned_size, block_size, group_size;
} memory;

static memory memory_in(float *at, const sizes *s, int keeps) {
    long B = s->B, D = s->D, widest = s->P + FILLED(s->O) > s->Q ? s->P + FILLED(s->O) : s->Q;
    memory m;
    m.stride = (6 * s->depth + 2) * D, m.samples = (keeps ? GROUP : GROUP / 2) / s->N;
    m.turned_size = (4 * D + 2 * s->F) * D;
    m.block_size = kept_in(0, m.samples, s->N, D, s->heads, s->F).end - (float *)0;
    m.group_size = (keeps ? s->depth : 1) * m.block_size + m.samples * s->N * (2 * D + FILLED(s->O) + 2);
    m.time = at, m.time_active = m.time + B * D, m.c = m.time_active + B * D, m.active = m.c + B * D;
    m.six = m.active + B * D, m.bias = m.six + B * m.stride, m.turned = m.bias + m.stride;
    m.maps_t = m.turned + s->depth * m.turned_size;
    m.groups = m.maps_t + D * (widest > m.stride ? widest : m.stride);
    m.end = m.groups + (keeps ? (B + m.samples - 1) / m.samples : 1) * m.group_size;
    return m;
}

/* What the head keeps of a group, after the blocks: its input and what its linear map takes and gives. */
typedef struct {
    float *x, *ready, *wide, *stats;
} head;

static head head_in(float *at, long T, long D, long O) {
    return (head){at, at + T * D, at + 2 * T * D, at + T * (2 * D + FILLED(O))};
}

/* Values of the memory that `network` asks for, with and without what derivatives need. */
long network_memory(const sizes *s, long keeps) { return memory_in(0, s, keeps).end - (float *)0; }

/* Values of the room that `network_backward` asks for. */
long network_room(const sizes *s) {
    memory m = memory_in(0, s, 1);
    long P = FILLED(s->P);
    return s->B * (m.stride + 2 * s->D) + s->D * P + m.samples * s->N * (8 * s->D + s->F + P);
}

static void silu(const float *x, float *out, long size) {
    for (long i = 0; i < size; i += LANES) store(out + i, load(x + i) / (1 + exponential(-load(x + i))));
}

/* g times its derivative at x, in place of g. */
static void silu_backward(float *g, const float *x, long size) {
    for (long i = 0; i < size; i += LANES) {
        vec v = load(x + i), gate = 1 / (1 + exponential(-v));
        store(g + i, load(g + i) * (gate + v * gate * (1 - gate)));
    }
}

/* The condition c = MLP(features of the time) + row of the label, and all modulations W SiLU(c) + b in one product. */
static void condition(const float *features, const int64_t *labels, const maps *w, const memory *m, const sizes *s) {
    long B = s->B, D = s->D, end = 6 * D * s->depth;
    turn(w->w_time, D, s->Q, m->maps_t, D, D);
    product(features, s->Q, 1, m->maps_t, w->b_time, 0, m->time, B, D, s->Q);
    silu(m->time, m->time_active, B * D);
    turn(w->w_time_2, D, D, m->maps_t, D, D);
    product(m->time_active, D, 1, m->maps_t, w->b_time_2, 0, m->c, B, D, D);
    for (long b = 0; labels && b < B; b++)
        for (long d = 0; d < D; d++) m->c[b * D + d] += w->labels[labels[b] * D + d];
    silu(m->c, m->active, B * D);
    for (long l = 0; l < s->depth; l++) {
        turn(w->blocks[l].w_six, 6 * D, D, m->maps_t + l * 6 * D, m->stride, 6 * D);
        memcpy(m->bias + l * 6 * D, w->blocks[l].b_six, 24 * D);
    }
    turn(w->w_two, 2 * D, D, m->maps_t + end, m->stride, 2 * D), memcpy(m->bias + end, w->b_two, 8 * D);
    product(m->active, D, 1, m->maps_t, m->bias, 0, m->six, B, m->stride, D);
}

/* From `patches` (B, N, P), `features` (B, Q), `labels` (B,) and `positions` (N, D) to `out` (B, N, O). */
void network(const float *patches, const float *features, const int64_t *labels, const float *positions, const maps *w,
             float *at, float *out, const sizes *s, long keeps) {
    long D = s->D, N = s->N, P = s->P, O = s->O, wide = FILLED(O);
    memory m = memory_in(at, s, keeps);
    condition(features, labels, w, &m, s);
    float *patch_t = m.maps_t, *head_t = m.maps_t + P * D;
    turn(w->w_patch, D, P, patch_t, D, D), turn(w->w_head, O, D, head_t, wide, wide);
    for (long l = 0; l < s->depth; l++) {
        const block_maps *maps = &w->blocks[l];
        float *to = m.turned + l * m.turned_size;
        turn(maps->w_qkv, 3 * D, D, to, 3 * D, 3 * D), turn(maps->w_proj, D, D, to + 3 * D * D, D, D);
        turn(maps->w_1, s->F, D, to + 4 * D * D, s->F, s->F), turn(maps->w_2, D, s->F, to + (4 * D + s->F) * D, D, D);
    }
    for (long from = 0; from < s->B; from += m.samples, m.groups += keeps ? m.group_size : 0) {
        long B = s->B - from < m.samples ? s->B - from : m.samples, T = B * N, step = keeps ? m.block_size : 0;
        const float *six = m.six + from * m.stride;
        float *x = m.groups;
        head last = head_in(m.groups + (keeps ? s->depth : 1) * m.block_size, T, D, O);
        product(patches + from * N * P, P, 1, patch_t, w->b_patch, 0, x, T, D, P);
        for (long i = 0; i < T * D; i += LANES) store(x + i, load(x + i) + load(positions + i % (N * D)));
        for (long l = 0; l < s->depth; l++, x += step, six += 6 * D)
            block(kept_in(x, B, N, D, s->heads, s->F), &w->blocks[l], m.turned + l * m.turned_size, six, m.stride,
                  l + 1 < s->depth ? x + step : last.x, B, N, D, s->heads, s->F, keeps);
        modulated(last.x, six, six + D, m.stride, last.ready, last.stats, B, N, D);
        product(last.ready, D, 1, head_t, 0, 0, last.wide, T, wide, D);
        for (long t = 0; t < T; t++, out += O)
            for (long o = 0; o < O; o++) out[o] = last.wide[t * wide + o] + w->b_head[o];
    }
}

/* From the gradients of all modulations and what the forward pass kept: those of their maps, of the time's, of labels. */
static void condition_backward(const float *d_six, const float *features, const int64_t *labels, const maps *w,
                               const maps *dw, const memory *m, float *room, const sizes *s) {
    long B = s->B, D = s->D, end = 6 * D * s->depth;
    float *dc = room, *d_time = room + B * D;
    product(d_six + end, m->stride, 1, w->w_two, 0, 0, dc, B, D, 2 * D);
    linear_backward(d_six + end, m->stride, m->active, w->w_two, 0, dw->w_two, B, 2 * D, D);
    add_rows(d_six + end, m->stride, dw->b_two, B, 2 * D);
    for (long l = 0; l < s->depth; l++, d_six += 6 * D) {
        product(d_six, m->stride, 1, w->blocks[l].w_six, dc, D, dc, B, D, 6 * D);
        linear_backward(d_six, m->stride, m->active, 0, 0, dw->blocks[l].w_six, B, 6 * D, D);
        add_rows(d_six, m->stride, dw->blocks[l].b_six, B, 6 * D);
    }
    silu_backward(dc, m->c, B * D);
    for (long b = 0; labels && b < B; b++) add_rows(dc + b * D, D, dw->labels + labels[b] * D, 1, D);
    linear_backward(dc, D, m->time_active, w->w_time_2, d_time, dw->w_time_2, B, D, D);
    add_rows(dc, D, dw->b_time_2, B, D);
    silu_backward(d_time, m->time, B * D);
    linear_backward(d_time, D, features, 0, 0, dw->w_time, B, D, s->Q);
    add_rows(d_time, D, dw->b_time, B, D);
}

/* From the gradient g of `network`'s output, what that kept, and what it was given: those of weights and biases, added to
what is there. */
void network_backward(const float *g, const float *patches, const float *features, const int64_t *labels, const maps *w,
                      float *at, float *room, const maps *dw, const sizes *s) {
    long D = s->D, N = s->N, P = s->P, O = s->O, wide = FILLED(P), heads = s->heads;
    memory m = memory_in(at, s, 1);
    float *d_six = room, *dc = d_six + s->B * m.stride, *d_patch = dc + 2 * s->B * D, *filled = d_patch + D * wide;
    float *dx = filled + m.samples * N * wide, *d_ready = dx + m.samples * N * D, *rest = d_ready + m.samples * N * D;
    memset(d_patch, 0, 4 * D * wide);
    for (long from = 0; from < s->B; from += m.samples, m.groups += m.group_size) {
        long B = s->B - from < m.samples ? s->B - from : m.samples, T = B * N, end = 6 * D * s->depth;
        const float *six = m.six + from * m.stride;
        float *d_here = d_six + from * m.stride;
        head last = head_in(m.groups + s->depth * m.block_size, T, D, O);
        linear_backward(g, O, last.ready, w->w_head, d_ready, dw->w_head, T, O, D);
        add_rows(g, O, dw->b_head, T, O);
        memset(dx, 0, 4 * T * D);
        modulated_backward(d_ready, dx, last.x, last.stats, six + end + D, d_here + end, d_here + end + D, m.stride, dx, B,
                           N, D);
        for (long l = s->depth - 1; l >= 0; l--)
            block_backward(kept_in(m.groups + l * m.block_size, B, N, D, heads, s->F), &w->blocks[l], &dw->blocks[l],
                           six + l * 6 * D, d_here + l * 6 * D, m.stride, dx, rest, B, N, D, heads, s->F);
        for (long t = 0; t < T; t++)
            for (long p = 0; p < wide; p++) filled[t * wide + p] = p < P ? patches[t * P + p] : 0;
        linear_backward(dx, D, filled, 0, 0, d_patch, T, D, wide);
        add_rows(dx, D, dw->b_patch, T, D);
        g += T * O, patches += T * P;
    }
    for (long d = 0; d < D; d++)
        for (long p = 0; p < P; p++) dw->w_patch[d * P + p] += d_patch[d * wide + p];
    condition_backward(d_six, features, labels, w, dw, &m, dc, s);
}
