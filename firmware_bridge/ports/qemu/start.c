/* From reset to main, and the four functions that a compiler calls for. SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>
#include <stdint.h>

#include "cortex_m.h"

/* Set by the linker script. */
extern const uint32_t initial_start[];
extern uint32_t initialised_start[];
extern uint32_t initialised_end[];
extern uint32_t zeroed_start[];
extern uint32_t zeroed_end[];

int main(void);
void *memcpy(void *restrict to, const void *restrict from, size_t length);
void *memmove(void *to, const void *from, size_t length);
void *memset(void *to, int value, size_t length);
int memcmp(const void *left, const void *right, size_t length);

void *memcpy(void *restrict to, const void *restrict from, size_t length)
{
    uint8_t *out = to;
    const uint8_t *in = from;
    for (size_t i = 0; i < length; i++) {
        out[i] = in[i];
    }
    return to;
}

void *memmove(void *to, const void *from, size_t length)
{
    uint8_t *out = to;
    const uint8_t *in = from;
    if ((uintptr_t)out <= (uintptr_t)in) {
        return memcpy(to, from, length);
    }
    for (size_t i = length; i > 0; i--) {
        out[i - 1] = in[i - 1];
    }
    return to;
}

void *memset(void *to, int value, size_t length)
{
    uint8_t *out = to;
    for (size_t i = 0; i < length; i++) {
        out[i] = (uint8_t)value;
    }
    return to;
}

int memcmp(const void *left, const void *right, size_t length)
{
    const uint8_t *a = left;
    const uint8_t *b = right;
    for (size_t i = 0; i < length; i++) {
        if (a[i] != b[i]) {
            return a[i] - b[i];
        }
    }
    return 0;
}

void halt(void)
{
    for (;;) {
        wait_for_interrupt();
    }
}

void reset(void)
{
    const size_t initialised = (size_t)((uintptr_t)initialised_end - (uintptr_t)initialised_start);
    memcpy(initialised_start, initial_start, initialised);
    memset(zeroed_start, 0, (size_t)((uintptr_t)zeroed_end - (uintptr_t)zeroed_start));
    (void)main();
    halt();
}
