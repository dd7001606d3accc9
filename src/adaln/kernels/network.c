/* A small DiT forwards and backwards: from patches of noisy images, features of times and labels to the patches of its output.

The condition and all modulations are computed for the whole batch at once, tokens for a few samples at a time, so that what
lies between the products stays in the innermost caches. */

#include "block.c"

#define GROUP 64 /* tokens that go through together: at least one sample */
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

/* `groups` of samples are kept with all that derivatives need; 0: one, without. */
static memory memory_in(float *at, const sizes *s, long groups) {
    long B = s->B, D = s->D, widest = s->P + FILLED(s->O) > s->Q ? s->P + FILLED(s->O) : s->Q;
    memory m;
    m.stride = (6 * s->depth + 2) * D, m.samples = GROUP / s->N;
    m.turned_size = (4 * D + 2 * s->F) * D;
    m.block_size = kept_in(0, m.samples, s->N, D, s->heads, s->F).end - (float *)0;
    m.group_size = (groups ? s->depth : 1) * m.block_size + m.samples * s->N * (2 * D + FILLED(s->O) + 2);
    m.time = at, m.time_active = m.time + B * D, m.c = m.time_active + B * D, m.active = m.c + B * D;
    m.six = m.active + B * D, m.bias = m.six + B * m.stride, m.turned = m.bias + m.stride;
    m.maps_t = m.turned + s->depth * m.turned_size;
    m.groups = m.maps_t + D * (widest > m.stride ? widest : m.stride);
    m.end = m.groups + (groups ? groups : 1) * m.group_size;
    return m;
}

/* What the head keeps of a group, after the blocks: its input and what its linear map takes and gives. */
typedef struct {
    float *x, *ready, *wide, *stats;
} head;

static head head_in(float *at, long T, long D, long O) {
    return (head){at, at + T * D, at + 2 * T * D, at + T * (2 * D + FILLED(O))};
}

static long groups_of(const sizes *s) { return (s->B + GROUP / s->N - 1) / (GROUP / s->N); }

/* Values of the memory that `network` asks for, with and without what derivatives need. */
long network_memory(const sizes *s, long keeps) { return memory_in(0, s, keeps ? groups_of(s) : 0).end - (float *)0; }

/* The gradients of all modulations and of the first map, filled up; then what only one group needs. */
typedef struct {
    float *d_six, *d_patch, *dc, *filled, *dx, *d_ready, *rest, *end;
} room;

static room room_in(float *at, const sizes *s) {
    long D = s->D, wide = FILLED(s->P), tokens = GROUP / s->N * s->N;
    room r;
    r.d_six = at, r.d_patch = r.d_six + s->B * (6 * s->depth + 2) * D, r.dc = r.d_patch + D * wide;
    r.filled = r.dc + 2 * s->B * D, r.dx = r.filled + tokens * wide, r.d_ready = r.dx + tokens * D;
    r.rest = r.d_ready + tokens * D, r.end = r.rest + tokens * (6 * D + s->F);
    return r;
}

/* Values of the room that `network_backward` asks for. */
long network_room(const sizes *s) { return room_in(0, s).end - (float *)0; }

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

/* What all groups have in common: modulations, and the transposes of the maps that tokens go through. */
static void begin(const float *features, const int64_t *labels, const maps *w, const memory *m, const sizes *s) {
    long D = s->D, wide = FILLED(s->O);
    condition(features, labels, w, m, s);
    turn(w->w_patch, D, s->P, m->maps_t, D, D), turn(w->w_head, s->O, D, m->maps_t + s->P * D, wide, wide);
    for (long l = 0; l < s->depth; l++) {
        const block_maps *maps = &w->blocks[l];
        float *to = m->turned + l * m->turned_size;
        turn(maps->w_qkv, 3 * D, D, to, 3 * D, 3 * D), turn(maps->w_proj, D, D, to + 3 * D * D, D, D);
        turn(maps->w_1, s->F, D, to + 4 * D * D, s->F, s->F), turn(maps->w_2, D, s->F, to + (4 * D + s->F) * D, D, D);
    }
}

/* B samples from the `from`-th on, in memory at x. */
static void forward(const float *patches, const float *positions, const maps *w, const memory *m, float *x, float *out,
                    const sizes *s, long from, long B, int keeps) {
    long D = s->D, N = s->N, P = s->P, O = s->O, wide = FILLED(O), T = B * N, step = keeps ? m->block_size : 0;
    const float *six = m->six + from * m->stride;
    head last = head_in(x + (keeps ? s->depth : 1) * m->block_size, T, D, O);
    product(patches, P, 1, m->maps_t, w->b_patch, 0, x, T, D, P);
    for (long i = 0; i < T * D; i += LANES) store(x + i, load(x + i) + load(positions + i % (N * D)));
    for (long l = 0; l < s->depth; l++, x += step, six += 6 * D)
        block(kept_in(x, B, N, D, s->heads, s->F), &w->blocks[l], m->turned + l * m->turned_size, six, m->stride,
              l + 1 < s->depth ? x + step : last.x, B, N, D, s->heads, s->F, keeps);
    modulated(last.x, six, six + D, m->stride, last.ready, last.stats, B, N, D);
    product(last.ready, D, 1, m->maps_t + P * D, 0, 0, last.wide, T, wide, D);
    for (long t = 0; t < T; t++, out += O)
        for (long o = 0; o < O; o++) out[o] = last.wide[t * wide + o] + w->b_head[o];
}

/* From `patches` (B, N, P), `features` (B, Q), `labels` (B,) and `positions` (N, D) to `out` (B, N, O). */
void network(const float *patches, const float *features, const int64_t *labels, const float *positions, const maps *w,
             float *at, float *out, const sizes *s, long keeps) {
    memory m = memory_in(at, s, keeps);
    begin(features, labels, w, &m, s);
    for (long from = 0; from < s->B; from += m.samples, m.groups += keeps ? m.group_size : 0) {
        long B = s->B - from < m.samples ? s->B - from : m.samples, token = from * s->N;
        forward(patches + token * s->P, positions, w, &m, m.groups, out + token * s->O, s, from, B, keeps);
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

/* From the gradient g of what `forward` gave for these samples, of which memory at x has what it kept. */
static void backward(const float *g, const float *patches, const maps *w, const maps *dw, const memory *m, float *x,
                     const room *r, const sizes *s, long from, long B) {
    long D = s->D, N = s->N, P = s->P, O = s->O, wide = FILLED(P), T = B * N, end = 6 * D * s->depth;
    const float *six = m->six + from * m->stride;
    float *d_six = r->d_six + from * m->stride;
    head last = head_in(x + s->depth * m->block_size, T, D, O);
    linear_backward(g, O, last.ready, w->w_head, r->d_ready, dw->w_head, T, O, D);
    add_rows(g, O, dw->b_head, T, O);
    memset(r->dx, 0, 4 * T * D);
    modulated_backward(r->d_ready, r->dx, last.x, last.stats, six + end + D, d_six + end, d_six + end + D, m->stride, r->dx,
                       B, N, D);
    for (long l = s->depth - 1; l >= 0; l--)
        block_backward(kept_in(x + l * m->block_size, B, N, D, s->heads, s->F), &w->blocks[l], &dw->blocks[l],
                       six + l * 6 * D, d_six + l * 6 * D, m->stride, r->dx, r->rest, B, N, D, s->heads, s->F);
    for (long t = 0; t < T; t++)
        for (long p = 0; p < wide; p++) r->filled[t * wide + p] = p < P ? patches[t * P + p] : 0;
    linear_backward(r->dx, D, r->filled, 0, 0, r->d_patch, T, D, wide);
    add_rows(r->dx, D, dw->b_patch, T, D);
}

/* What all groups have in common, after them. */
static void end(const float *features, const int64_t *labels, const maps *w, const maps *dw, const memory *m, const room *r,
                const sizes *s) {
    long P = s->P, wide = FILLED(P);
    for (long d = 0; d < s->D; d++)
        for (long p = 0; p < P; p++) dw->w_patch[d * P + p] += r->d_patch[d * wide + p];
    condition_backward(r->d_six, features, labels, w, dw, m, r->dc, s);
}

/* From the gradient g of `network`'s output, what that kept, and what it was given: those of weights and biases, added to
what is there. */
void network_backward(const float *g, const float *patches, const float *features, const int64_t *labels, const maps *w,
                      float *at, float *space, const maps *dw, const sizes *s) {
    memory m = memory_in(at, s, 1);
    room r = room_in(space, s);
    memset(r.d_patch, 0, 4 * s->D * FILLED(s->P));
    for (long from = 0; from < s->B; from += m.samples, m.groups += m.group_size) {
        long B = s->B - from < m.samples ? s->B - from : m.samples, token = from * s->N;
        backward(g + token * s->O, patches + token * s->P, w, dw, &m, m.groups, &r, s, from, B);
    }
    end(features, labels, w, dw, &m, &r, s);
}
