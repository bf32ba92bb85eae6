/* Fields to and from the wire's bytes, which are little-endian whatever the machine is.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef USFP_BYTES_H
#define USFP_BYTES_H

#include "usfp.h"

static inline void put16(uint8_t *out, uint16_t value)
{
    out[0] = (uint8_t)(value & 0xFFu);
    out[1] = (uint8_t)(value >> 8);
}

static inline void put32(uint8_t *out, uint32_t value)
{
    put16(out, (uint16_t)(value & 0xFFFFu));
    put16(out + 2, (uint16_t)(value >> 16));
}

static inline void put64(uint8_t *out, uint64_t value)
{
    put32(out, (uint32_t)(value & 0xFFFFFFFFu));
    put32(out + 4, (uint32_t)(value >> 32));
}

static inline uint16_t get16(const uint8_t *in)
{
    return (uint16_t)(in[0] | ((uint32_t)in[1] << 8));
}

static inline uint32_t get32(const uint8_t *in)
{
    return get16(in) | ((uint32_t)get16(in + 2) << 16);
}

static inline uint64_t get64(const uint8_t *in)
{
    return get32(in) | ((uint64_t)get32(in + 4) << 32);
}

/* Two's complement without a conversion that C leaves to the compiler. */
static inline int16_t as_int16(uint16_t value)
{
    return (int16_t)(value < 0x8000u ? (int32_t)value : (int32_t)value - 0x10000);
}

static inline int32_t as_int32(uint32_t value)
{
    return value < 0x80000000u ? (int32_t)value : -(int32_t)(0xFFFFFFFFu - value) - 1;
}

/* Whatever lies behind the NUL in the sender's memory stays there. */
static inline void copy_name(uint8_t *out, const uint8_t *name)
{
    int ended = 0;
    for (size_t i = 0; i < USFP_NAME_SIZE; i++) {
        ended = ended || name[i] == 0;
        out[i] = ended ? (uint8_t)0 : name[i];
    }
}

#endif
