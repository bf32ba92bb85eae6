/* A microsecond clock from SysTick. ARMv7-M Architecture Reference Manual, B3.3.
 * SPDX-License-Identifier: Apache-2.0 */
#include "systick.h"

#include "board.h"
#include "cortex_m.h"

#define COUNTFLAG (1u << 16)

static volatile uint32_t ticks; /* ms since boot; one writer, the interrupt */
static uint32_t cycles_per_ms;
static uint64_t last_us;
static uint32_t ticks_seen;
static uint64_t ms_seen;

void systick_init(uint32_t core_hz)
{
    cycles_per_ms = core_hz / 1000u;
    SYST_RVR = cycles_per_ms - 1u;
    SYST_CVR = 0;
    SYST_CSR = 7u; /* core clock, interrupt, on */
}

void systick_isr(void)
{
    ticks++;
    on_tick();
}

uint64_t systick_us(void)
{
    uint32_t now;
    uint32_t left;
    do {
        now = ticks;
        left = SYST_CVR;
    } while (now != ticks);
    ms_seen += now - ticks_seen;
    ticks_seen = now;
    const uint64_t us = ms_seen * 1000u + (cycles_per_ms - left) * 1000u / cycles_per_ms;
    /* The counter may have wrapped with its interrupt still on the way: stand still for that moment. */
    if (us > last_us) {
        last_us = us;
    }
    return last_us;
}

/* Neither board has a random number generator here. What differs from boot to boot under emulation is how
 * often a loop runs in a millisecond; on silicon, and under -icount, that would be the same at every boot, so
 * take a generator or a counter in flash there. */
uint32_t systick_random(void)
{
    uint32_t mixed = 2166136261u;
    for (uint32_t i = 0; i < 8u; i++) {
        while ((SYST_CSR & COUNTFLAG) == 0u) {
            mixed = mixed * 1664525u + 1013904223u;
        }
        mixed ^= mixed >> 15;
    }
    return mixed;
}
