/* Arm MPS2 with image AN385: Cortex-M3 at 25 MHz. Memory map and interrupts: Arm DAI 0385, section 4; UART:
 * Cortex-M System Design Kit TRM (DDI 0479), 4.3 "APB UART". SPDX-License-Identifier: Apache-2.0 */
#include "board.h"
#include "cortex_m.h"
#include "systick.h"

#define CORE_HZ 25000000u
#define UART_RX_IRQ 0u
#define UART_DATA REGISTER(0x40004000u)
#define UART_STATE REGISTER(0x40004004u)
#define UART_CTRL REGISTER(0x40004008u)
#define UART_INTCLEAR REGISTER(0x4000400Cu)
#define UART_BAUDDIV REGISTER(0x40004010u)
#define TX_FULL 1u
#define RX_FULL 2u

const char board_name[] = "mps2-an385";

static void uart_rx_isr(void)
{
    UART_INTCLEAR = 2u;
    while ((UART_STATE & RX_FULL) != 0u) {
        on_receive((uint8_t)UART_DATA);
    }
}

extern const vector_table vectors;
__attribute__((section(".vectors"), used)) const vector_table vectors = {
    .stack_top = stack_top,
    .exception = {[RESET] = reset, [NMI] = halt, [HARD_FAULT] = halt, [SYSTICK] = systick_isr},
    .interrupt = {[UART_RX_IRQ] = uart_rx_isr},
};

void board_init(void)
{
    systick_init(CORE_HZ);
    UART_BAUDDIV = 27u; /* 925,926 baud; the emulator takes bytes as fast as they come */
    UART_CTRL = 1u | 2u | 8u; /* transmitter, receiver, receive interrupt */
    enable_irq(UART_RX_IRQ);
}

uint64_t board_clock_us(void)
{
    return systick_us();
}

void board_write(const uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        while ((UART_STATE & TX_FULL) != 0u) {
        }
        UART_DATA = bytes[i];
    }
}

uint32_t board_random(void)
{
    return systick_random();
}
