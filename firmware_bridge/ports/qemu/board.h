/* What main.c asks of a board, and what a board's interrupts tell main.c. SPDX-License-Identifier: Apache-2.0 */
#ifndef BOARD_H
#define BOARD_H

#include <stddef.h>
#include <stdint.h>

extern const char board_name[];

/* Receive interrupt, transmitter and a tick of at least 1 kHz. */
void board_init(void);

/* Microseconds since board_init; never goes back. Not for interrupts. */
uint64_t board_clock_us(void);

void board_write(const uint8_t *bytes, size_t length);

/* A number that differs from boot to boot as far as this board can make one. */
uint32_t board_random(void);

/* main.c's end of the interrupts. */
void on_receive(uint8_t byte);
void on_tick(void);

#endif
