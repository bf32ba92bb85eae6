/* What every Cortex-M shares: registers, masks, the vector table and its start.
 * ARMv6-M and ARMv7-M Architecture Reference Manuals, B3.2 (system control), B3.3 (SysTick), B3.4 (NVIC).
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef CORTEX_M_H
#define CORTEX_M_H

#include <stdint.h>

#define REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))

#define SYST_CSR REGISTER(0xE000E010u)
#define SYST_RVR REGISTER(0xE000E014u)
#define SYST_CVR REGISTER(0xE000E018u)
#define NVIC_ISER(irq) REGISTER(0xE000E100u + 4u * ((irq) / 32u))

typedef void (*handler)(void);

/* 15 system exceptions from Reset on, then the interrupts that any of our boards uses. */
typedef struct {
    const void *stack_top;
    handler exception[15];
    handler interrupt[40];
} vector_table;

enum { RESET = 0, NMI = 1, HARD_FAULT = 2, SYSTICK = 14 };

/* Set by the linker script. */
extern const uint32_t stack_top[];

void reset(void);
void halt(void);

static inline void interrupts_off(void)
{
    __asm__ volatile("cpsid i" ::: "memory");
}

static inline void interrupts_on(void)
{
    __asm__ volatile("cpsie i" ::: "memory");
}

static inline void wait_for_interrupt(void)
{
    __asm__ volatile("wfi" ::: "memory");
}

static inline void enable_irq(uint32_t irq)
{
    NVIC_ISER(irq) = 1u << (irq % 32u);
}

#endif
