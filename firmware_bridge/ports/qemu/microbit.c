/* BBC micro:bit: nRF51822, Cortex-M0, 16 KB of RAM. Nordic nRF51 Series Reference Manual v3.0: TIMER 18,
 * RNG 21, UART 29. SPDX-License-Identifier: Apache-2.0 */
#include "board.h"
#include "cortex_m.h"

#define UART_IRQ 2u
#define TIMER1_IRQ 9u
#define UART(offset) REGISTER(0x40002000u + (offset))
#define UART_STARTRX UART(0x000u)
#define UART_STARTTX UART(0x008u)
#define UART_RXDRDY UART(0x108u)
#define UART_TXDRDY UART(0x11Cu)
#define UART_INTENSET UART(0x304u)
#define UART_ENABLE UART(0x500u)
#define UART_PSELTXD UART(0x50Cu)
#define UART_PSELRXD UART(0x514u)
#define UART_RXD UART(0x518u)
#define UART_TXD UART(0x51Cu)
#define UART_BAUDRATE UART(0x524u)
#define TIMER(n, offset) REGISTER(0x40008000u + 0x1000u * (n) + (offset))
#define TIMER_START(n) TIMER(n, 0x000u)
#define TIMER_CAPTURE0(n) TIMER(n, 0x040u)
#define TIMER_COMPARE0(n) TIMER(n, 0x140u)
#define TIMER_SHORTS(n) TIMER(n, 0x200u)
#define TIMER_INTENSET(n) TIMER(n, 0x304u)
#define TIMER_MODE(n) TIMER(n, 0x504u)
#define TIMER_BITMODE(n) TIMER(n, 0x508u)
#define TIMER_PRESCALER(n) TIMER(n, 0x510u)
#define TIMER_CC0(n) TIMER(n, 0x540u)
#define RNG(offset) REGISTER(0x4000D000u + (offset))
#define RNG_START RNG(0x000u)
#define RNG_STOP RNG(0x004u)
#define RNG_VALRDY RNG(0x100u)
#define RNG_VALUE RNG(0x508u)
#define TICK_US 1000u

const char board_name[] = "microbit";

static uint64_t clock_us;

static void uart_isr(void)
{
    while (UART_RXDRDY != 0u) {
        UART_RXDRDY = 0; /* before the byte: reading it may bring the next one's event */
        on_receive((uint8_t)UART_RXD);
    }
}

static void timer1_isr(void)
{
    TIMER_COMPARE0(1) = 0;
    on_tick();
}

extern const vector_table vectors;
__attribute__((section(".vectors"), used)) const vector_table vectors = {
    .stack_top = stack_top,
    .exception = {[RESET] = reset, [NMI] = halt, [HARD_FAULT] = halt},
    .interrupt = {[UART_IRQ] = uart_isr, [TIMER1_IRQ] = timer1_isr},
};

/* Timer 0 is the clock. Timer 1 ticks and clears itself: a comparison set anew in the interrupt would be
 * missed, and its tick with it, whenever the interrupt came later than its own period. */
static void timers_init(void)
{
    for (uint32_t n = 0; n < 2u; n++) {
        TIMER_MODE(n) = 0;
        TIMER_BITMODE(n) = n == 0 ? 3u : 0u; /* 32 and 16 bits */
        TIMER_PRESCALER(n) = 4u;             /* 16 MHz / 2^4: microseconds */
    }
    TIMER_CC0(1) = TICK_US;
    TIMER_SHORTS(1) = 1u; /* COMPARE[0] clears */
    TIMER_INTENSET(1) = 1u << 16;
    TIMER_START(0) = 1u;
    TIMER_START(1) = 1u;
}

static void uart_init(void)
{
    UART_PSELTXD = 24u;
    UART_PSELRXD = 25u;
    UART_BAUDRATE = 0x0EBEDFA4u; /* 921,600 */
    UART_ENABLE = 4u;
    UART_INTENSET = 1u << 2; /* RXDRDY */
    UART_STARTTX = 1u;
    UART_STARTRX = 1u;
}

void board_init(void)
{
    timers_init();
    uart_init();
    enable_irq(UART_IRQ);
    enable_irq(TIMER1_IRQ);
}

/* The tick sees to it that this is called, through the main loop, more than once in the timer's 71 minutes. */
uint64_t board_clock_us(void)
{
    TIMER_CAPTURE0(0) = 1u;
    clock_us += (uint32_t)(TIMER_CC0(0) - (uint32_t)clock_us);
    return clock_us;
}

void board_write(const uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        UART_TXDRDY = 0;
        UART_TXD = bytes[i];
        while (UART_TXDRDY == 0u) {
        }
    }
}

uint32_t board_random(void)
{
    uint32_t number = 0;
    RNG_START = 1u;
    for (uint32_t i = 0; i < 4u; i++) {
        RNG_VALRDY = 0;
        while (RNG_VALRDY == 0u) {
        }
        number = (number << 8) | (RNG_VALUE & 0xFFu);
    }
    RNG_STOP = 1u;
    return number;
}
