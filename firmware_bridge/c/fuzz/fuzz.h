/* What a fuzz target gives to libFuzzer and to replay.c. SPDX-License-Identifier: Apache-2.0 */
#ifndef USFP_FUZZ_H
#define USFP_FUZZ_H

#include "usfp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Ends the program where libFuzzer and the sanitizers see it, with the broken rule on standard error. */
#define HOLDS(condition)                                                                   \
    do {                                                                                   \
        if (!(condition)) {                                                                \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                                       \
        }                                                                                  \
    } while (0)

/* Try one input; ends the program when a rule does not hold. */
int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

/* Print what the library makes of an input, so that another implementation can be held to it. */
void describe(const uint8_t *input, size_t size);

/* Heap memory of exactly this size, so that the sanitizers see one byte too far. */
static inline void *exactly(size_t size)
{
    void *memory = malloc(size > 0 ? size : 1u);
    HOLDS(memory != NULL);
    return memory;
}

static inline void print_hex(const uint8_t *bytes, size_t length)
{
    putchar(' ');
    for (size_t i = 0; i < length; i++) {
        printf("%02x", bytes[i]);
    }
    if (length == 0) {
        putchar('-');
    }
}

#endif
