/* Elementary functions in float: no libc, no branch, the same bits on every machine.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef USNET_MATH_H
#define USNET_MATH_H

#include <float.h>
#include <stdint.h>

#if FLT_EVAL_METHOD != 0
#error "usnet needs float that is evaluated as float: on 32-bit x86 compile with -msse2 -mfpmath=sse"
#endif

typedef union {
    float f;
    int32_t i;
} usnet_bits;

static inline float usnet_min(float a, float b)
{
    return a < b ? a : b;
}

static inline float usnet_max(float a, float b)
{
    return a > b ? a : b;
}

static inline float usnet_abs(float x)
{
    return x < 0.0f ? -x : x;
}

/* Nearest whole number, ties to even, of |x| < 2^22: at 1.5 * 2^23 the last bit of a float is worth one. */
static inline int32_t usnet_round(float x)
{
    usnet_bits at;
    at.f = x + 12582912.0f;
    return (int32_t)((uint32_t)at.i - 0x4B400000u);
}

static inline int32_t usnet_clamp(int32_t value, int32_t limit)
{
    value = value > limit ? limit : value;
    return value < -limit ? -limit : value;
}

/* 2^t for t in -30 ... 0, to 3e-7 of it. Polynomial of degree 5 for the fraction in -0.5 ... 0.5. */
static inline float usnet_exp2(float t)
{
    usnet_bits power;
    const int32_t whole = usnet_round(t);
    const float f = t - (float)whole;
    float p = 1.340043217e-3f;
    p = p * f + 9.676037098e-3f;
    p = p * f + 5.550327215e-2f;
    p = p * f + 2.402210737e-1f;
    p = p * f + 6.931472070e-1f;
    p = p * f + 1.000000075f;
    power.i = (whole + 127) * 0x800000;
    return p * power.f;
}

/* GELU x * Phi(x), to 2e-6: relu(x) - u * Phi(-u) of u = |x|, Phi(-u) by a polynomial of degree 12 up to 5,
 * where u * Phi(-u) is 1.4e-6. */
static inline float usnet_gelu(float x)
{
    const float u = usnet_min(usnet_abs(x), 5.0f);
    const float s = u * 0.4f - 1.0f;
    float p = -9.871074930e-3f;
    p = p * s + 1.263884548e-2f;
    p = p * s + 3.900775313e-2f;
    p = p * s - 7.562970370e-2f;
    p = p * s - 2.371533588e-2f;
    p = p * s + 1.613865674e-1f;
    p = p * s - 1.311937571e-1f;
    p = p * s - 6.489983201e-2f;
    p = p * s + 2.326955497e-1f;
    p = p * s - 2.397003919e-1f;
    p = p * s + 1.368895024e-1f;
    p = p * s - 4.381819814e-2f;
    p = p * s + 6.210111547e-3f;
    return usnet_max(x, 0.0f) - u * p;
}

/* 1 / sqrt(x) of x > 0, to 2e-7 of it: three steps of Newton's from the exponent's guess. */
static inline float usnet_rsqrt(float x)
{
    usnet_bits guess;
    const float half = 0.5f * x;
    guess.f = x;
    guess.i = 0x5F375A86 - guess.i / 2;
    for (int step = 0; step < 3; step++) {
        guess.f = guess.f * (1.5f - half * guess.f * guess.f);
    }
    return guess.f;
}

#endif
