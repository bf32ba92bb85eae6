/* What the test files share. SPDX-License-Identifier: Apache-2.0 */
#ifndef USFP_EXPECT_H
#define USFP_EXPECT_H

#include "usfp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPECT(condition)                                                            \
    do {                                                                             \
        if (!(condition)) {                                                          \
            fprintf(stderr, "%s:%d: expected %s\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                                 \
        }                                                                            \
    } while (0)

/* Heap memory of exactly this size, so that one byte too far is an error and not luck. */
static inline void *exactly(size_t size)
{
    void *bytes = malloc(size > 0 ? size : 1u);
    EXPECT(bytes != NULL);
    memset(bytes, 0xEE, size);
    return bytes;
}

/* The parts of the test program. */
void test_payloads(void);
void test_decoder(void);

#endif
