/* The convolutional stem: filters over the whole A-scan, channels last, a tile of 8 positions at a time.
 *
 * A convolution's frames are neighbouring positions, and so rows of contiguous numbers: those of a tile become
 * int8 with one scale, and frames that overlap share them. A residual block works in place, with its inner
 * layer in a window of two tiles; joining positions works in place too, what it writes lying behind what it
 * has yet to read. Beyond the ends there are zeros.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef USNET_STEM_H
#define USNET_STEM_H

#include "usnet_matrix.h"
#include "usnet_rows.h"

#define TILE USNET_ROWS

/* What lies in scratch. Shapes: half = kernel / 2. */
typedef struct {
    float *room;     /* both grids of positions, one after the other: (gap + n + rear), channels */
    float *window;   /* (half + 2 * TILE, wide) of a residual block's inner layer */
    usnet_act *act;  /* the positions of a tile's frames, or TILE rows of patches */
} stem_arena;

/* Positions along the A-scan: `at` is the first, `channels` numbers each. */
typedef struct {
    float *at;
    size_t n, channels;
} grid;

static inline size_t most(size_t a, size_t b)
{
    return a > b ? a : b;
}

static inline size_t zeros_before(size_t kernel, size_t stride)
{
    return (kernel - stride + 1u) / 2u;
}

/* Floats that the fine grid lies behind the beginning of the room: its own zeros, and those of the coarse one. */
static inline size_t stem_gap(const usnet_dims *n)
{
    return n->kernel / 2u * (size_t)n->wide + zeros_before(n->joined, 2u) * n->narrow;
}

static inline size_t stem_room(const usnet_dims *n)
{
    const size_t rear = most(n->kernel, n->joined);
    return stem_gap(n) + (usnet_positions(n) + rear) * n->narrow;
}

static inline size_t stem_window(const usnet_dims *n)
{
    return (n->kernel / 2u + 2u * TILE) * (size_t)n->wide;
}

static inline size_t stem_act(const usnet_dims *n)
{
    const size_t span = most((TILE + n->kernel) * (size_t)n->wide, (2u * TILE + n->joined) * (size_t)n->narrow);
    return most(span, TILE * usnet_joined_patch(n));
}

static inline void clear(float *at, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        at[i] = 0.0f;
    }
}

/* TILE frames of `kernel` positions, `stride` apart, from `from` on: int8, one product, `how` into `out`. */
static inline void convolve(const stem_arena *a, const float *from, size_t kernel, size_t stride, size_t channels,
                            matrix m, size_t width, float *out, emission how)
{
    float scale[TILE];
    scale[0] = quantise8(from, ((TILE - 1u) * stride + kernel) * channels, a->act);
    for (size_t r = 1; r < TILE; r++) {
        scale[r] = scale[0];
    }
    multiply(a->act, stride * channels, scale, TILE, kernel * channels, m, width, out, width, how);
}

/* The first filters, in float, on samples of `x`; a frame that reaches beyond the ends is cut there. */
static inline void filter(const usnet_model *model, const usnet_ends *at, const float *x, grid to)
{
    const usnet_dims *n = &model->dims;
    const size_t before = zeros_before(n->frame, n->hop), samples = (size_t)n->patch * n->length;
    const float *w = floats(model, at->filters), *bias = w + (size_t)n->frame * to.channels;
    for (size_t p = 0; p < to.n; p++) {
        const size_t start = p * n->hop, first = start < before ? before - start : 0u;
        const size_t left = samples + before - start, last = left < n->frame ? left : n->frame;
        float *restrict out = to.at + p * to.channels;
        combined(x + (start + first - before), last - first, w + first * to.channels, to.channels, bias, out);
        for (size_t c = 0; c < to.channels; c++) {
            out[c] = usnet_max(out[c], 0.0f);
        }
    }
}

/* z = relu(z + conv2(relu(conv1(z)))), a tile behind conv1: what conv1 has yet to see stays as it was. */
static inline void residual(const stem_arena *a, grid z, size_t kernel, matrix conv1, matrix conv2)
{
    const size_t c = z.channels, half = kernel / 2u, kept = (half + TILE) * c, tile = TILE * c;
    float *next = a->window + kept;
    clear(a->window, kept);
    for (size_t t = 0; t <= z.n; t += TILE) {
        if (t < z.n) {
            convolve(a, z.at + t * c - half * c, kernel, 1u, c, conv1, c, next, RELU);
        } else {
            clear(next, tile);
        }
        if (t > 0) {
            convolve(a, a->window, kernel, 1u, c, conv2, c, z.at + t * c - tile, JOIN);
        }
        for (size_t i = 0; i < kept; i++) {
            a->window[i] = a->window[i + tile];
        }
    }
}

static inline void residuals(const usnet_model *model, const stem_arena *a, grid z, size_t blocks, uint64_t *at)
{
    const size_t kernel = model->dims.kernel, half = kernel / 2u * z.channels;
    clear(z.at - half, half);
    clear(z.at + z.n * z.channels, half);
    for (size_t i = 0; i < blocks; i++) {
        const usnet_matrix first = usnet_take_convolution(at, kernel, z.channels, z.channels);
        const usnet_matrix second = usnet_take_convolution(at, kernel, z.channels, z.channels);
        residual(a, z, kernel, matrix_at(model, first), matrix_at(model, second));
    }
}

static inline void join(const usnet_model *model, const stem_arena *a, grid fine, grid coarse, uint64_t *at)
{
    const size_t joined = model->dims.joined, c = fine.channels, before = zeros_before(joined, 2u) * c;
    const matrix m = matrix_at(model, usnet_take_convolution(at, joined, c, coarse.channels));
    clear(fine.at - before, before);
    clear(fine.at + fine.n * c, joined * c);
    for (size_t t = 0; t < coarse.n; t += TILE) {
        const float *from = fine.at + 2u * t * c - before;
        convolve(a, from, joined, 2u, c, m, coarse.channels, coarse.at + t * coarse.channels, RELU);
    }
}

/* Adds the stem's view of `count` patches (a multiple of 8) to their embeddings z (count, d). `places` null:
 * the first patches. */
static inline void stem(const usnet_model *model, const usnet_ends *ends, const stem_arena *a, const float *x,
                        const uint16_t *places, size_t count, float *z)
{
    const usnet_dims *n = &model->dims;
    const size_t width = usnet_joined_patch(n), d = n->d_model;
    const grid fine = {a->room + stem_gap(n), usnet_positions(n), n->narrow};
    const grid coarse = {a->room + n->kernel / 2u * (size_t)n->wide, fine.n / 2u, n->wide};
    uint64_t at = ends->stem;
    matrix out;
    filter(model, ends, x, fine);
    residuals(model, a, fine, n->narrow_blocks, &at);
    join(model, a, fine, coarse, &at);
    residuals(model, a, coarse, n->wide_blocks, &at);
    out = matrix_at(model, usnet_take_matrix(&at, 1, width, d, 0));
    for (size_t t = 0; t < count; t += TILE) {
        float scale[TILE];
        for (size_t r = 0; r < TILE; r++) {
            const size_t place = places == NULL ? t + r : places[t + r];
            scale[r] = quantise8(coarse.at + place * width, width, a->act + r * width);
        }
        multiply(a->act, width, scale, TILE, width, out, d, z + t * d, d, ADD);
    }
}

#endif
