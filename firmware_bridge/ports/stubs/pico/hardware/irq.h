/* Only what ports/pico uses, declared by us so that it can be compiled without the Pico SDK.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef HARDWARE_IRQ_H
#define HARDWARE_IRQ_H

#include "pico/stdlib.h"

#define DMA_IRQ_0 11u

void irq_set_exclusive_handler(uint num, void (*handler)(void));
void irq_set_enabled(uint num, bool enabled);

#endif
