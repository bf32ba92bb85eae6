/* A USFP device on the STM32 HAL, for a project that CubeMX has made. SPDX-License-Identifier: Apache-2.0
 *
 * In CubeMX: USART1 asynchronous, its TX on a DMA channel in normal mode, its global interrupt on; TIM2
 * counting microseconds to 2^32 - 1, internal clock (where TIM2 has 16 bits, as on F1, G0x0 and L0, another
 * timer of 32 or a clock_us of your own); ADC1 with DMA in normal mode, 16-bit words, continuous conversion,
 * triggered by the timer that fires your pulser; RNG; CRC, for usfp_stm32_crc32. In main.c, behind the
 * MX_..._Init calls: usfp_stm32_run(). SysTick's interrupt, which the HAL keeps at 1 kHz, is the tick.
 */
#ifndef USFP_STM32_H
#define USFP_STM32_H

#include <stddef.h>
#include <stdint.h>

/* Never returns. */
void usfp_stm32_run(void);

/* CRC-32 by the CRC unit, for -DUSFP_CRC32=usfp_stm32_crc32: parts whose unit takes bytes, any initial value
 * and turns bits round, which are F0, F3, F7, G0, G4, H5, H7, L0, L4, L5, U5, WB, WL. Not F1, F2, F4 and L1:
 * theirs takes whole words only, so keep the table there. */
void usfp_stm32_crc32_init(void);
uint32_t usfp_stm32_crc32(uint32_t crc, const uint8_t *bytes, size_t length);

#endif
