/* Netduino Plus 2: STM32F405, Cortex-M4, 168 MHz. ST RM0090: memory map 2.3, RCC 7.3, GPIO 8.4, interrupts
 * 12.2, USART 30.6; DS8626 table 9 for the pins. The emulator starts at 168 MHz; silicon comes out of reset at
 * 16 MHz and must set up its PLL before this. SPDX-License-Identifier: Apache-2.0 */
#include "board.h"
#include "cortex_m.h"
#include "systick.h"

#define CORE_HZ 168000000u
#define USART_CLOCK_HZ 84000000u
#define BAUD 921600u
#define USART1_IRQ 37u
#define RCC_AHB1ENR REGISTER(0x40023830u)
#define RCC_APB2ENR REGISTER(0x40023844u)
#define GPIOA_MODER REGISTER(0x40020000u)
#define GPIOA_AFRH REGISTER(0x40020024u)
#define USART1_SR REGISTER(0x40011000u)
#define USART1_DR REGISTER(0x40011004u)
#define USART1_BRR REGISTER(0x40011008u)
#define USART1_CR1 REGISTER(0x4001100Cu)
#define SR_RXNE (1u << 5)
#define SR_TXE (1u << 7)

const char board_name[] = "netduinoplus2";

static void usart1_isr(void)
{
    while ((USART1_SR & SR_RXNE) != 0u) {
        on_receive((uint8_t)USART1_DR);
    }
}

extern const vector_table vectors;
__attribute__((section(".vectors"), used)) const vector_table vectors = {
    .stack_top = stack_top,
    .exception = {[RESET] = reset, [NMI] = halt, [HARD_FAULT] = halt, [SYSTICK] = systick_isr},
    .interrupt = {[USART1_IRQ] = usart1_isr},
};

void board_init(void)
{
    systick_init(CORE_HZ);
    RCC_AHB1ENR |= 1u;      /* GPIOA */
    RCC_APB2ENR |= 1u << 4; /* USART1 */
    GPIOA_MODER = (GPIOA_MODER & ~(0xFu << 18)) | (0xAu << 18); /* PA9, PA10: alternate function ... */
    GPIOA_AFRH = (GPIOA_AFRH & ~(0xFFu << 4)) | (0x77u << 4);   /* ... 7 */
    USART1_BRR = (USART_CLOCK_HZ + BAUD / 2u) / BAUD;
    USART1_CR1 = (1u << 13) | (1u << 5) | (1u << 3) | (1u << 2); /* on, RXNE interrupt, TX, RX */
    enable_irq(USART1_IRQ);
}

uint64_t board_clock_us(void)
{
    return systick_us();
}

void board_write(const uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        while ((USART1_SR & SR_TXE) == 0u) {
        }
        USART1_DR = bytes[i];
    }
}

/* Silicon has a generator (RM0090, 24); the emulated part does not. */
uint32_t board_random(void)
{
    return systick_random();
}
