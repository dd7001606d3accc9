/* A step of a small DiT under a Gaussian process that learns its variance, up to the gradients: a few samples go forwards,
through the loss and backwards while what they keep for their derivatives is in the cache. */

#include "loss.c"

/* Channels, height and width of images, the edge of a patch, labels of the table, whether data is predicted. */
typedef struct {
    long C, H, W, edge, labels, is_start;
} images;

/* What goes on between images and network for one group, after the network's own memory and room. */
typedef struct {
    memory network;
    room room;
    float *features, *x_t, *patches, *tokens, *output, *slopes, *end;
} workshop;

static workshop workshop_in(float *at, const sizes *s) {
    workshop a;
    a.network = memory_in(at, s, 1), a.room = room_in(a.network.end, s);
    long values = a.network.samples * s->N * s->P;
    a.features = a.room.end, a.x_t = a.features + s->B * s->Q, a.patches = a.x_t + values, a.tokens = a.patches + values;
    a.output = a.tokens + 2 * values, a.slopes = a.output + 2 * values, a.end = a.slopes + 2 * values;
    return a;
}

/* Values of the memory that `step` asks for. */
long step_memory(const sizes *s) { return workshop_in(0, s).end - (float *)0; }

/* Patches, row by row, of values ordered (channel, row, column). */
static void cut(const float *image, float *patches, const images *of) {
    for (long r = 0; r < of->H; r += of->edge)
        for (long q = 0; q < of->W; q += of->edge)
            for (long c = 0; c < of->C; c++)
                for (long i = r; i < r + of->edge; i++)
                    for (long j = q; j < q + of->edge; j++) *patches++ = image[(c * of->H + i) * of->W + j];
}

/* The head's tokens, of values ordered (row, column, channel), as an image of two values a channel; or back, times `factor`. */
INLINE void join(float *tokens, float *image, const images *of, int is_back, float factor) {
    for (long r = 0; r < of->H; r += of->edge)
        for (long q = 0; q < of->W; q += of->edge)
            for (long i = r; i < r + of->edge; i++)
                for (long j = q; j < q + of->edge; j++)
                    for (long c = 0; c < 2 * of->C; c++, tokens++) {
                        float *value = image + (c * of->H + i) * of->W + j;
                        if (is_back) *tokens = factor * *value;
                        else *value = *tokens;
                    }
}

/* Losses of a batch, and in dw the derivatives of their mean; `times` has the features of every step. 0: a label is none of
the table's, and nothing was done. */
long step(const float *x, const float *noise, const int64_t *labels, const int64_t *steps, const moments *table,
          const float *times, const float *positions, const maps *w, float *at, const maps *dw, float *losses,
          const double *scale, const sizes *s, const images *of) {
    long S = of->C * of->H * of->W;
    for (long b = 0; labels && b < s->B; b++)
        if (labels[b] < 0 || labels[b] >= of->labels) return 0;
    workshop a = workshop_in(at, s);
    for (long b = 0; b < s->B; b++) memcpy(a.features + b * s->Q, times + steps[b] * s->Q, 4 * s->Q);
    begin(a.features, labels, w, &a.network, s);
    memset(a.room.d_patch, 0, 4 * s->D * FILLED(s->P));
    for (long from = 0; from < s->B; from += a.network.samples, x += S * a.network.samples, noise += S * a.network.samples) {
        long B = s->B - from < a.network.samples ? s->B - from : a.network.samples;
        for (long b = 0; b < B; b++) {
            moments at = table[steps[from + b]];
            for (long i = b * S; i < (b + 1) * S; i++) a.x_t[i] = at.signal * x[i] + at.spread * noise[i];
            cut(a.x_t + b * S, a.patches + b * S, of);
        }
        forward(a.patches, positions, w, &a.network, a.network.groups, a.tokens, s, from, B, 1);
        for (long b = 0; b < B; b++) join(a.tokens + 2 * b * S, a.output + 2 * b * S, of, 0, 1);
        learned_range_loss(a.output, x, a.x_t, of->is_start ? x : noise, steps + from, table, scale, losses + from, a.slopes,
                           B, S, of->is_start);
        for (long b = 0; b < B; b++) join(a.tokens + 2 * b * S, a.slopes + 2 * b * S, of, 1, 1.0f / s->B);
        backward(a.tokens, a.patches, w, dw, &a.network, a.network.groups, &a.room, s, from, B);
    }
    end(a.features, labels, w, dw, &a.network, &a.room, s);
    return 1;
}
