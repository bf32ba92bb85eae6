/* Rows of floats: sums, peaks, LayerNorm, and what makes int8 and int16 of them.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef USNET_ROWS_H
#define USNET_ROWS_H

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF /* a fused product rounds once where others round twice */
#endif

#include "usnet_dot.h"
#include "usnet_math.h"

#define EPSILON 1e-5f /* torch's, in LayerNorm */
#define ACT_PEAK 127

/* Float sums run in 16 lanes, joined in one order: the same bits whatever the width of the vectors. */
static inline float joined(const float *lanes)
{
    float half[8];
    for (size_t i = 0; i < 8u; i++) {
        half[i] = lanes[i] + lanes[i + 8u];
    }
    for (size_t i = 0; i < 4u; i++) {
        half[i] += half[i + 4u];
    }
    return (half[0] + half[2]) + (half[1] + half[3]);
}

static inline float sum_of(const float *restrict x, size_t n)
{
    float lanes[USNET_LANES] = {0};
    for (size_t i = 0; i < n; i += USNET_LANES) {
        for (size_t c = 0; c < USNET_LANES; c++) {
            lanes[c] += x[i + c];
        }
    }
    return joined(lanes);
}

static inline float dot_of(const float *restrict x, const float *restrict y, size_t n)
{
    float lanes[USNET_LANES] = {0};
    for (size_t i = 0; i < n; i += USNET_LANES) {
        for (size_t c = 0; c < USNET_LANES; c++) {
            lanes[c] += x[i + c] * y[i + c];
        }
    }
    return joined(lanes);
}

/* Largest magnitude: the bits of floats without a sign are ordered as whole numbers. */
static inline float peak_of(const float *restrict x, size_t n)
{
    usnet_bits peak, each;
    peak.i = 0;
    for (size_t i = 0; i < n; i++) {
        each.f = x[i];
        each.i &= 0x7FFFFFFF;
        peak.i = peak.i > each.i ? peak.i : each.i;
    }
    return peak.f;
}

static inline float reciprocal(float full, float peak)
{
    return peak > 0.0f ? full / peak : 0.0f;
}

/* LayerNorm; `gains` holds d gains and d offsets. */
static inline void normalise(const float *restrict z, const float *restrict gains, size_t d, float *restrict out)
{
    const float mean = sum_of(z, d) / (float)d;
    float rate;
    for (size_t i = 0; i < d; i++) {
        out[i] = z[i] - mean;
    }
    rate = usnet_rsqrt(dot_of(out, out, d) / (float)d + EPSILON);
    for (size_t i = 0; i < d; i++) {
        out[i] = out[i] * rate * gains[i] + gains[d + i];
    }
}

/* A row as int8; returns its scale. */
static inline float quantise8(const float *restrict x, size_t n, usnet_act *restrict out)
{
    const float peak = peak_of(x, n), rate = reciprocal((float)ACT_PEAK, peak);
    for (size_t i = 0; i < n; i++) {
        out[i] = (usnet_act)(usnet_clamp(usnet_round(x[i] * rate), ACT_PEAK) + USNET_BIAS);
    }
    return peak / (float)ACT_PEAK;
}

static inline int16_t as_int16(float x, float rate, int32_t peak)
{
    return (int16_t)usnet_clamp(usnet_round(x * rate), peak);
}

#endif
