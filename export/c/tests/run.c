/* Runs weights from one file on A-scans from another: run WEIGHTS ASCANS [PATCHES] > ANSWERS, all raw
 * little-endian. PATCHES: how many are looked at, evenly spread; by default all.
 *
 * Exit status 0; 1 for weights or A-scans that are refused, with the error's number on stderr.
 * For the host, emulated machines and sanitizers alike. SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>

#include "usnet.h"

/* Bytes of the file, of exactly its size, so that a read beyond them is seen; null where it cannot be read. */
static uint8_t *whole(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    uint8_t *bytes = NULL;
    long end;
    if (file == NULL) {
        return NULL;
    }
    if (fseek(file, 0, SEEK_END) == 0 && (end = ftell(file)) >= 0 && fseek(file, 0, SEEK_SET) == 0) {
        *size = (size_t)end;
        bytes = (uint8_t *)malloc(*size + 1u);
        if (bytes != NULL && fread(bytes, 1, *size, file) != *size) {
            free(bytes);
            bytes = NULL;
        }
    }
    fclose(file);
    return bytes;
}

static int refused(int32_t code)
{
    fprintf(stderr, "%s refused with %d\n", usnet_kernel(), (int)code);
    return 1;
}

static int32_t infer(const usnet_model *model, const float *x, size_t patches, float *out, void *scratch, size_t size)
{
    uint16_t places[512];
    if (patches == 0) {
        return usnet_infer(model, x, out, scratch, size);
    }
    for (size_t i = 0; i < patches && i < 512u; i++) {
        places[i] = (uint16_t)(i * model->dims.length / patches);
    }
    return usnet_infer_some(model, x, places, patches, out, scratch, size);
}

static int answer(const usnet_model *model, const float *x, size_t ascans, size_t patches, float *out)
{
    const size_t outputs = patches > 0 ? 3u * patches + 1u : usnet_outputs(model);
    const size_t size = usnet_scratch_size(model);
    uint8_t *room = (uint8_t *)malloc(size + USNET_ALIGN);
    uint8_t *scratch = room + (USNET_ALIGN - (uintptr_t)room % USNET_ALIGN) % USNET_ALIGN;
    int32_t code = room == NULL ? USNET_ERR_SCRATCH : 0;
    for (size_t i = 0; i < ascans && code == 0; i++) {
        code = infer(model, x + i * usnet_inputs(model), patches, out, scratch, size);
        if (code == 0) {
            fwrite(out, sizeof(float), outputs, stdout);
        }
    }
    free(room);
    return code == 0 ? 0 : refused(code);
}

int main(int count, char **words)
{
    usnet_model model;
    size_t size = 0, x_size = 0;
    uint8_t *weights = count > 2 ? whole(words[1], &size) : NULL;
    uint8_t *x = count > 2 ? whole(words[2], &x_size) : NULL;
    const size_t patches = count > 3 ? (size_t)strtoul(words[3], NULL, 10) : 0;
    float *out;
    int status = 2;
    if (weights != NULL && x != NULL) {
        const int32_t code = usnet_open(&model, weights, size);
        status = code == 0 ? 0 : refused(code);
    }
    if (status == 0) {
        out = (float *)malloc(usnet_outputs(&model) * sizeof(float));
        status = out == NULL ? 2
            : answer(&model, (const float *)(const void *)x, x_size / sizeof(float) / usnet_inputs(&model), patches,
                     out);
        free(out);
    }
    free(weights);
    free(x);
    return status;
}
