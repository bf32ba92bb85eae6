/* Only what ports/pico uses, declared by us so that it can be compiled without the Pico SDK.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef PICO_STDLIB_H
#define PICO_STDLIB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef unsigned int uint;
typedef struct repeating_timer {
    void *user_data;
} repeating_timer_t;

uint64_t time_us_64(void);
void busy_wait_us_32(uint32_t delay_us);
bool add_repeating_timer_us(int64_t delay_us, bool (*callback)(repeating_timer_t *), void *user_data,
                            repeating_timer_t *out);

#endif
