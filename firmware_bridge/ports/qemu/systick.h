/* A microsecond clock from SysTick, for boards that have one. SPDX-License-Identifier: Apache-2.0 */
#ifndef SYSTICK_H
#define SYSTICK_H

#include <stdint.h>

void systick_init(uint32_t core_hz);
void systick_isr(void);
uint64_t systick_us(void);
uint32_t systick_random(void);

#endif
