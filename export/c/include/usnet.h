/* usnet: the bundle's network, int8, for firmware and hosts.
 *
 * C99, nothing beyond <stdint.h> and <stddef.h>: no heap, no libc call but the memcpy and memset that a
 * compiler may put in by itself, no state but what the caller owns. Weights may lie in flash; scratch is the
 * caller's. How the numbers are computed, and the byte table of the weights, are in docs/native.md.
 *
 * The same weights and A-scan give the same bits with every kernel on every machine whose float is IEEE
 * binary32: sums of products are integers, and no float sum depends on the width of a vector. For that, do
 * not compile with -ffast-math, and with gcc give -std=c99 or -ffp-contract=off.
 *
 * The kernel is chosen when the library is compiled, by what the compiler may use (-march=native,
 * -mcpu=...): AVX512-VNNI, AVX-VNNI, NEON with and without dot product, or plain C. -DUSNET_PLAIN takes
 * plain C everywhere.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef USNET_H
#define USNET_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define USNET_VERSION 2u /* weights of version 1, which know no stem, are read as well */
#define USNET_HEADER_SIZE 64u
/* Sections of the weights begin at multiples of it. */
#define USNET_ALIGN 64u
/* What weights and scratch must be aligned to; at multiples of 64 vector loads are faster. */
#define USNET_LEAST_ALIGN 4u

/* Errors. */
#define USNET_ERR_NULL (-1)     /* a pointer that must lead somewhere is null */
#define USNET_ERR_ALIGN (-2)    /* weights or scratch are not aligned to USNET_LEAST_ALIGN */
#define USNET_ERR_MAGIC (-3)    /* these are no weights of usnet */
#define USNET_ERR_VERSION (-4)  /* weights of another version */
#define USNET_ERR_SIZE (-5)     /* truncated, or longer than their sizes say */
#define USNET_ERR_DIMS (-6)     /* sizes of a network that this code cannot run */
#define USNET_ERR_CHECKSUM (-7) /* damaged */
#define USNET_ERR_SCRATCH (-8)  /* scratch is smaller than usnet_scratch_size */
#define USNET_ERR_INPUT (-9)    /* a sample is not finite */
#define USNET_ERR_MACHINE (-10) /* this machine is big-endian */
#define USNET_ERR_PLACES (-11)  /* not in order, or beyond the end, or no multiple of USNET_SOME of them */

/* Patches that are looked at alone come in multiples of it. */
#define USNET_SOME 16u

/* Sizes of the network. */
typedef struct {
    uint16_t patch;   /* samples of a patch */
    uint16_t length;  /* patches */
    uint16_t d_model;
    uint16_t heads;
    uint16_t d_head;
    uint16_t hidden;  /* of the MLP */
    uint16_t layers;
    /* Of the convolutional stem; all zero where there is none. */
    uint16_t frame;   /* samples that the first filters see */
    uint16_t hop;     /* samples from one position to the next */
    uint16_t kernel;  /* positions that a residual block's convolutions see */
    uint16_t joined;  /* positions that one of the coarse grid is made of, 2 apart */
    uint16_t narrow;  /* channels before that, and */
    uint16_t wide;    /* behind it */
    uint16_t narrow_blocks;
    uint16_t wide_blocks;
} usnet_dims;

/* Weights that were checked. They are read in place and must outlive it. */
typedef struct {
    const uint8_t *weights;
    usnet_dims dims;
} usnet_model;

/* Check the weights whole, checksum included, and fill `model`. 0, or an error: then model is unchanged. */
int32_t usnet_open(usnet_model *model, const void *weights, size_t size);

/* Samples that go in, numbers that come out, bytes of scratch. */
size_t usnet_inputs(const usnet_model *model);
size_t usnet_outputs(const usnet_model *model);
size_t usnet_scratch_size(const usnet_model *model);

/* One A-scan. `x`: usnet_inputs() prepared samples; `out`: usnet_outputs() numbers: a logit for each patch,
 * that of "no echo", the onset's offset in each patch, the arrival's. `scratch` is overwritten; nothing in it
 * need be kept between calls. 0, or an error: then out is unchanged. */
int32_t usnet_infer(const usnet_model *model, const float *x, float *out, void *scratch, size_t size);

/* The same of `count` patches alone, a multiple of USNET_SOME: `places` are their indices in ascending order. A
 * stem sees the whole of x. `out`: 3 * count + 1 numbers in the same order. Scratch as for all of them. */
int32_t usnet_infer_some(const usnet_model *model, const float *x, const uint16_t *places, size_t count, float *out,
                         void *scratch, size_t size);

/* The kernel that was compiled in: "avx512-vnni", "avx-vnni", "neon-dot", "neon" or "plain". */
const char *usnet_kernel(void);

/* USNET_VERSION as compiled, for callers that load the library at run time. */
uint32_t usnet_version(void);

#ifdef __cplusplus
}
#endif

#endif
