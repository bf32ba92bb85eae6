/* Where everything lies in the weights, and their checks. The byte table is in docs/native.md.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef USNET_BLOB_H
#define USNET_BLOB_H

#include "usnet.h"

/* Offsets in bytes of a matrix: panels of int8, then a scale, a sum and a bias for each column. A column that
 * stands in several parts (those of the heads in `proj`) has a scale and a sum for each, and one bias. */
typedef struct {
    size_t w, scale, sum, bias;
} usnet_matrix;

typedef struct {
    size_t norm1, norm2; /* gains, then offsets */
    usnet_matrix qkv, proj, fc1, fc2;
} usnet_layer;

typedef struct {
    size_t embed, place, filters, stem, norm, head, head_bias;
} usnet_ends;

static inline uint64_t usnet_take(uint64_t *at, uint64_t bytes)
{
    const uint64_t begin = *at;
    *at += (bytes + USNET_ALIGN - 1u) / USNET_ALIGN * USNET_ALIGN;
    return begin;
}

static inline usnet_matrix usnet_take_matrix(uint64_t *at, size_t parts, size_t k, size_t columns, size_t biases)
{
    usnet_matrix m;
    m.w = (size_t)usnet_take(at, (uint64_t)parts * k * columns);
    m.scale = (size_t)usnet_take(at, 4u * (uint64_t)parts * columns);
    m.sum = (size_t)usnet_take(at, 4u * (uint64_t)parts * columns);
    m.bias = (size_t)usnet_take(at, 4u * (uint64_t)biases);
    return m;
}

/* The next layer's offsets; `at` moves behind it. */
static inline usnet_layer usnet_take_layer(const usnet_dims *n, uint64_t *at)
{
    const size_t d = n->d_model, qkv = 3u * (size_t)n->heads * n->d_head;
    usnet_layer layer;
    layer.norm1 = (size_t)usnet_take(at, 8u * d);
    layer.qkv = usnet_take_matrix(at, 1, d, qkv, qkv);
    layer.proj = usnet_take_matrix(at, n->heads, n->d_head, d, d);
    layer.norm2 = (size_t)usnet_take(at, 8u * d);
    layer.fc1 = usnet_take_matrix(at, 1, d, n->hidden, n->hidden);
    layer.fc2 = usnet_take_matrix(at, 1, n->hidden, d, d);
    return layer;
}

static inline int usnet_has_stem(const usnet_dims *n)
{
    return n->frame != 0;
}

/* Positions of the stem's fine grid; the coarse one has half as many. */
static inline size_t usnet_positions(const usnet_dims *n)
{
    return (size_t)n->length * n->patch / n->hop;
}

/* Numbers that the stem's coarse grid holds of a patch. */
static inline size_t usnet_joined_patch(const usnet_dims *n)
{
    return (size_t)n->patch / (2u * n->hop) * n->wide;
}

static inline usnet_matrix usnet_take_convolution(uint64_t *at, size_t kernel, size_t channels, size_t width)
{
    return usnet_take_matrix(at, 1, kernel * channels, width, width);
}

static inline void usnet_take_stem(const usnet_dims *n, uint64_t *at, usnet_ends *ends)
{
    ends->filters = (size_t)usnet_take(at, 4u * (n->frame + 1u) * (size_t)n->narrow);
    ends->stem = (size_t)*at;
    for (size_t i = 0; i < 2u * (size_t)n->narrow_blocks; i++) {
        (void)usnet_take_convolution(at, n->kernel, n->narrow, n->narrow);
    }
    (void)usnet_take_convolution(at, n->joined, n->narrow, n->wide);
    for (size_t i = 0; i < 2u * (size_t)n->wide_blocks; i++) {
        (void)usnet_take_convolution(at, n->kernel, n->wide, n->wide);
    }
    (void)usnet_take_matrix(at, 1, usnet_joined_patch(n), n->d_model, 0); /* its bias is in `place` */
}

static inline void usnet_take_first(const usnet_dims *n, uint64_t *at, usnet_ends *ends)
{
    ends->embed = (size_t)usnet_take(at, 4u * (size_t)n->patch * n->d_model);
    ends->place = (size_t)usnet_take(at, 4u * (size_t)n->length * n->d_model);
    if (usnet_has_stem(n)) {
        usnet_take_stem(n, at, ends);
    }
}

static inline void usnet_take_last(const usnet_dims *n, uint64_t *at, usnet_ends *ends)
{
    ends->norm = (size_t)usnet_take(at, 8u * (size_t)n->d_model);
    ends->head = (size_t)usnet_take(at, 16u * (size_t)n->d_model);
    ends->head_bias = (size_t)usnet_take(at, 4u * 4u + 4u); /* and the checksum, at the very end */
}

static inline uint64_t usnet_blob_size(const usnet_dims *n)
{
    uint64_t at = USNET_HEADER_SIZE;
    usnet_ends ends;
    usnet_take_first(n, &at, &ends);
    for (size_t i = 0; i < n->layers; i++) {
        (void)usnet_take_layer(n, &at);
    }
    usnet_take_last(n, &at, &ends);
    return at;
}

/* Whole positions to a patch, whole tiles of them, grids that can lie in one room (usnet_stem.h). */
static inline int usnet_stem_fits(const usnet_dims *n)
{
    if (!usnet_has_stem(n)) {
        return (n->hop | n->kernel | n->joined | n->narrow | n->wide | n->narrow_blocks | n->wide_blocks) == 0;
    }
    return n->hop && n->hop <= n->frame && n->frame <= 64 && n->patch % (2u * n->hop) == 0 && n->kernel % 2 == 1
        && n->kernel <= 15 && n->joined % 2 == 0 && n->joined && n->joined <= 16 && n->narrow && n->narrow % 16 == 0
        && n->wide % 16 == 0 && n->narrow <= n->wide && n->wide <= 2 * n->narrow && n->wide <= 256
        && n->narrow_blocks <= 64 && n->wide_blocks <= 64;
}

/* Vectors want multiples of 16; the rest keeps every sum of products within int32. */
static inline int usnet_dims_fit(const usnet_dims *n)
{
    const int whole = (n->length | n->d_model | n->d_head | n->hidden) % 16 == 0;
    const int some = n->patch && n->length && n->d_model && n->heads && n->d_head && n->hidden && n->layers;
    return whole && some && n->patch <= 1024 && n->length <= 512 && n->d_model <= 1024 && n->heads <= 64
        && n->d_head <= 128 && n->hidden <= 4096 && n->layers <= 64 && usnet_stem_fits(n);
}

static inline uint32_t usnet_crc32(const uint8_t *bytes, size_t length)
{
    uint32_t table[16], crc = 0xFFFFFFFFu;
    for (uint32_t i = 0; i < 16u; i++) {
        uint32_t entry = i;
        for (int bit = 0; bit < 4; bit++) {
            entry = (entry >> 1) ^ ((entry & 1u) ? 0xEDB88320u : 0u);
        }
        table[i] = entry;
    }
    for (size_t i = 0; i < length; i++) {
        crc ^= bytes[i];
        crc = (crc >> 4) ^ table[crc & 15u];
        crc = (crc >> 4) ^ table[crc & 15u];
    }
    return ~crc;
}

#endif
