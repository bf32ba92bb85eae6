/* Only what ports/pico uses, declared by us so that it can be compiled without the Pico SDK.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef HARDWARE_SYNC_H
#define HARDWARE_SYNC_H

#include "pico/stdlib.h"

uint32_t save_and_disable_interrupts(void);
void restore_interrupts(uint32_t status);
void __wfi(void);

#endif
