/* Fuzzes the check of weights: any bytes, as they are and with size and checksum mended.
 *
 * What is accepted must run without an error, whatever the weights are. The first byte says what is mended,
 * and how small the network is made, because no mutation guesses a checksum or a megabyte.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "../src/usnet_blob.h"

#define MOST (1u << 18)

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

static void put16(uint8_t *at, size_t value)
{
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
}

static void put32(uint8_t *at, size_t value)
{
    put16(at, value & 0xFFFFu);
    put16(at + 2, value >> 16);
}

static void small_stem(usnet_dims *n, uint8_t mode)
{
    n->patch = 8;
    n->frame = (uint16_t)((mode & 16u) ? 4u : 7u);
    n->hop = (uint16_t)((mode & 32u) ? 4u : 2u);
    n->kernel = (uint16_t)((mode & 64u) ? 15u : 3u);
    n->joined = (uint16_t)((mode & 128u) ? 2u : 4u);
    n->narrow = 16;
    n->wide = (uint16_t)((mode & 1u) ? 32u : 16u);
    n->narrow_blocks = (uint16_t)((mode >> 1) & 1u);
    n->wide_blocks = 1;
}

/* A sound header of a small network, its weights filled from the input over and over. */
static size_t mended(const uint8_t *bytes, size_t length, uint8_t mode, uint8_t *out)
{
    usnet_dims n = {0};
    size_t size;
    n.patch = (uint16_t)(1u + (mode & 1u));
    n.length = n.d_model = n.hidden = 16;
    n.d_head = (uint16_t)((mode & 2u) ? 32u : 16u);
    n.heads = (uint16_t)(1u + ((mode >> 2) & 1u));
    n.layers = 1;
    if (mode & 8u) {
        small_stem(&n, mode);
    }
    size = (size_t)usnet_blob_size(&n);
    for (size_t i = 0; i < size; i++) {
        out[i] = i < USNET_HEADER_SIZE || length == 0 ? 0 : bytes[(i - USNET_HEADER_SIZE) % length];
    }
    memcpy(out, "USNET-w8", 8);
    put32(out + 8, USNET_VERSION);
    put32(out + 12, size);
    put16(out + 16, n.patch);
    put16(out + 18, n.length);
    put16(out + 20, n.d_model);
    put16(out + 22, n.heads);
    put16(out + 24, n.d_head);
    put16(out + 26, n.hidden);
    put16(out + 28, n.layers);
    put16(out + 30, n.frame);
    put16(out + 32, n.hop);
    put16(out + 34, n.kernel);
    put16(out + 36, n.joined);
    put16(out + 38, n.narrow);
    put16(out + 40, n.wide);
    put16(out + 42, n.narrow_blocks);
    put16(out + 44, n.wide_blocks);
    put32(out + size - 4u, usnet_crc32(out, size - 4u));
    return size;
}

static void run(const usnet_model *model)
{
    uint16_t places[USNET_SOME];
    const size_t size = usnet_scratch_size(model);
    float *x = (float *)calloc(usnet_inputs(model), sizeof(float));
    float *out = (float *)malloc(usnet_outputs(model) * sizeof(float));
    void *scratch = malloc(size);
    for (size_t i = 0; i < usnet_inputs(model); i++) {
        x[i] = (float)(i % 7u) - 3.0f;
    }
    if (usnet_infer(model, x, out, scratch, size) != 0 || usnet_infer(model, x, out, scratch, size - 1u) == 0) {
        abort();
    }
    for (size_t i = 0; i < USNET_SOME; i++) {
        places[i] = (uint16_t)(i + model->dims.length - USNET_SOME);
    }
    if (usnet_infer_some(model, x, places, USNET_SOME, out, scratch, size) != 0) {
        abort();
    }
    places[USNET_SOME - 1u]++;
    if (usnet_infer_some(model, x, places, USNET_SOME, out, scratch, size) != USNET_ERR_PLACES) {
        abort();
    }
    free(x);
    free(out);
    free(scratch);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    const uint8_t mode = length > 0 ? bytes[0] : 0;
    uint8_t *blob = (uint8_t *)malloc(MOST);
    usnet_model model;
    size_t size = length < MOST ? length : MOST;
    memcpy(blob, bytes, size);
    if (usnet_open(&model, blob, size) == 0) {
        run(&model);
    }
    size = mended(bytes, length, mode, blob);
    if (usnet_open(&model, blob, size) != 0) {
        abort();
    }
    run(&model);
    if (usnet_open(&model, blob, size - 1u) == 0) {
        abort();
    }
    free(blob);
    return 0;
}
