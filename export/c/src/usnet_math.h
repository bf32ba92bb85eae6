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

/* 2^t for t in -30 ... 0, to 3e-6 of it. Polynomial of degree 4 for the fraction in -0.5 ... 0.5. */
#define USNET_EXP2 {9.685711380e-3f, 5.592202568e-2f, 2.402186550e-1f, 6.931210359e-1f, 1.000000151f}
#define USNET_EXP2_TERMS 5u

static inline float usnet_exp2(float t)
{
    static const float terms[USNET_EXP2_TERMS] = USNET_EXP2;
    usnet_bits power;
    const int32_t whole = usnet_round(t);
    const float f = t - (float)whole;
    float p = terms[0];
    for (int i = 1; i < (int)USNET_EXP2_TERMS; i++) {
        p = p * f + terms[i];
    }
    power.i = (whole + 127) * 0x800000;
    return p * power.f;
}

/* GELU x * Phi(x), to 1.1e-4, since int8 is made of it: relu(x) - u * Phi(-u) of u = |x|, Phi(-u) by a polynomial
 * of degree 8 up to 4.25, where u * Phi(-u) is 4.5e-5. */
#define USNET_GELU {1.382867429e-2f, 5.156161984e-3f, -8.656062091e-2f, 7.118060248e-2f, 1.034901666e-1f, \
                    -2.368759270e-1f, 2.016239982e-1f, -8.858205101e-2f, 1.676433978e-2f}
#define USNET_GELU_TERMS 9u
#define USNET_GELU_END 4.25f
#define USNET_GELU_RATE 0.470588235f /* 2 / 4.25 */

static inline float usnet_gelu(float x)
{
    static const float terms[USNET_GELU_TERMS] = USNET_GELU;
    const float u = usnet_min(usnet_abs(x), USNET_GELU_END);
    const float s = u * USNET_GELU_RATE - 1.0f;
    float p = terms[0];
    for (int i = 1; i < (int)USNET_GELU_TERMS; i++) {
        p = p * s + terms[i];
    }
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
