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
#if defined(USNET_AVX512)
#include "usnet_avx512.h"
#endif

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
#if defined(USNET_AVX512)

static inline float peak_of(const float *restrict x, size_t n)
{
    __m512i even = _mm512_setzero_si512(), odd = even;
    size_t i = 0;
    for (; i + 2u * USNET_LANES <= n; i += 2u * USNET_LANES) {
        even = _mm512_max_epi32(even, v_magnitude(_mm512_loadu_ps(x + i)));
        odd = _mm512_max_epi32(odd, v_magnitude(_mm512_loadu_ps(x + i + USNET_LANES)));
    }
    for (; i < n; i++) {
        even = _mm512_max_epi32(even, v_magnitude(_mm512_set1_ps(x[i])));
    }
    return v_peak(_mm512_max_epi32(even, odd));
}

#else

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

#endif

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

/* combined: `start` and the sum of n rows of w, each times its sample.
 * whole16: n floats as int16. panel16: 16 rows of d floats as a panel of 16 columns, `room` being for as many
 * int16. pairs16: of two rows d apart, 16 columns of a panel. None is beyond `peak`, for which `rate` is.
 * quantise8: a row as int8; returns its scale. normalise8: of its LayerNorm, `room` being for d floats.
 * softmax: weights 0 ... full of a row of scores, `rate` octaves each; returns their sum; `room` is for l floats:
 * two loops, because compilers make a branch of the limit where it is used at once, and then no vectors. */
#if defined(USNET_AVX512)

static inline void combined(const float *x, size_t n, const float *w, size_t columns, const float *start, float *out)
{
    for (size_t c = 0; c < columns; c += USNET_LANES) {
        __m512 sum = _mm512_loadu_ps(start + c);
        for (size_t j = 0; j < n; j++) {
            sum = _mm512_add_ps(sum, _mm512_mul_ps(_mm512_set1_ps(x[j]), _mm512_loadu_ps(w + j * columns + c)));
        }
        _mm512_storeu_ps(out + c, sum);
    }
}

static inline void whole16(const float *restrict x, size_t n, float rate, int32_t peak, int16_t *restrict out)
{
    const __m512 rates = _mm512_set1_ps(rate);
    (void)peak;
    for (size_t i = 0; i < n; i += USNET_LANES) {
        const __m512i whole = v_rounded(_mm512_loadu_ps(x + i), rates);
        _mm256_storeu_si256((__m256i *)(void *)(out + i), _mm512_cvtsepi32_epi16(whole));
    }
}

static inline void panel16(const float *restrict x, size_t d, float rate, int32_t peak, int16_t *room, int16_t *out)
{
    const int32_t *pairs = (const int32_t *)(const void *)room;
    int32_t *to = (int32_t *)(void *)out;
    const size_t words = d / 2u, whole = words / USNET_LANES * USNET_LANES;
    whole16(x, USNET_LANES * d, rate, peak, room);
    for (size_t w = 0; w < whole; w += USNET_LANES) {
        v_transpose(pairs + w, words, to + USNET_LANES * w);
    }
    for (size_t w = whole; w < words; w++) {
        for (size_t c = 0; c < USNET_LANES; c++) {
            to[USNET_LANES * w + c] = pairs[words * c + w];
        }
    }
}

static inline void pairs16(const float *restrict x, size_t d, float rate, int32_t peak, int16_t *restrict out)
{
    const __m512 rates = _mm512_set1_ps(rate);
    const __m512i low = v_rounded(_mm512_loadu_ps(x), rates), high = v_rounded(_mm512_loadu_ps(x + d), rates);
    (void)peak;
    _mm512_storeu_si512(out, _mm512_mask_blend_epi16(0xAAAAAAAAu, low, _mm512_slli_epi32(high, 16)));
}

static inline float quantise8(const float *restrict x, size_t n, usnet_act *restrict out)
{
    const float peak = peak_of(x, n);
    const __m512 rate = _mm512_set1_ps(reciprocal((float)ACT_PEAK, peak));
    for (size_t i = 0; i < n; i += USNET_LANES) {
        v_store8(out + i, v_rounded(_mm512_loadu_ps(x + i), rate));
    }
    return peak / (float)ACT_PEAK;
}

static inline float normalise8(const float *restrict z, const float *restrict gains, size_t d, float *restrict room,
                               usnet_act *restrict out)
{
    __m512 sum = _mm512_setzero_ps(), squares = sum, mean, rate;
    for (size_t i = 0; i < d; i += USNET_LANES) {
        sum = _mm512_add_ps(sum, _mm512_loadu_ps(z + i));
    }
    mean = _mm512_set1_ps(v_joined(sum) / (float)d);
    for (size_t i = 0; i < d; i += USNET_LANES) {
        const __m512 x = _mm512_sub_ps(_mm512_loadu_ps(z + i), mean);
        squares = _mm512_add_ps(squares, _mm512_mul_ps(x, x));
    }
    rate = _mm512_set1_ps(usnet_rsqrt(v_joined(squares) / (float)d + EPSILON));
    for (size_t i = 0; i < d; i += USNET_LANES) {
        const __m512 x = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(z + i), mean), rate);
        const __m512 gained = _mm512_mul_ps(x, _mm512_loadu_ps(gains + i));
        _mm512_storeu_ps(room + i, _mm512_add_ps(gained, _mm512_loadu_ps(gains + d + i)));
    }
    return quantise8(room, d, out);
}

static inline int32_t softmax(const int32_t *restrict scores, size_t l, float rate, float full, float *restrict room,
                              int16_t *restrict p)
{
    const __m512 rates = _mm512_set1_ps(rate), whole = _mm512_set1_ps(full), least = _mm512_set1_ps(-30.0f);
    __m512i top = _mm512_loadu_si512(scores), sum = _mm512_setzero_si512();
    (void)room;
    for (size_t j = USNET_LANES; j < l; j += USNET_LANES) {
        top = _mm512_max_epi32(top, _mm512_loadu_si512(scores + j));
    }
    top = _mm512_set1_epi32(_mm512_reduce_max_epi32(top));
    for (size_t j = 0; j < l; j += USNET_LANES) {
        const __m512 below = _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_loadu_si512(scores + j), top));
        const __m512i weight = v_rounded(v_exp2(_mm512_max_ps(_mm512_mul_ps(below, rates), least)), whole);
        _mm256_storeu_si256((__m256i *)(void *)(p + j), _mm512_cvtepi32_epi16(weight));
        sum = _mm512_add_epi32(sum, weight);
    }
    return _mm512_reduce_add_epi32(sum);
}

#else

static inline void combined(const float *x, size_t n, const float *w, size_t columns, const float *start, float *out)
{
    for (size_t c = 0; c < columns; c += USNET_LANES) {
        float sum[USNET_LANES];
        for (size_t i = 0; i < USNET_LANES; i++) {
            sum[i] = start[c + i];
        }
        for (size_t j = 0; j < n; j++) {
            const float *restrict row = w + j * columns + c;
            for (size_t i = 0; i < USNET_LANES; i++) {
                sum[i] += x[j] * row[i];
            }
        }
        for (size_t i = 0; i < USNET_LANES; i++) {
            out[c + i] = sum[i];
        }
    }
}

static inline int16_t as_int16(float x, float rate, int32_t peak)
{
    return (int16_t)usnet_clamp(usnet_round(x * rate), peak);
}

static inline void whole16(const float *restrict x, size_t n, float rate, int32_t peak, int16_t *restrict out)
{
    for (size_t i = 0; i < n; i++) {
        out[i] = as_int16(x[i], rate, peak);
    }
}

static inline void panel16(const float *restrict x, size_t d, float rate, int32_t peak, int16_t *room,
                           int16_t *restrict out)
{
    (void)room;
    for (size_t i = 0; i < d; i += 2u) {
        for (size_t c = 0; c < USNET_LANES; c++) {
            out[USNET_LANES * i + 2u * c] = as_int16(x[c * d + i], rate, peak);
            out[USNET_LANES * i + 2u * c + 1u] = as_int16(x[c * d + i + 1u], rate, peak);
        }
    }
}

static inline void pairs16(const float *restrict x, size_t d, float rate, int32_t peak, int16_t *restrict out)
{
    for (size_t c = 0; c < USNET_LANES; c++) {
        out[2u * c] = as_int16(x[c], rate, peak);
        out[2u * c + 1u] = as_int16(x[d + c], rate, peak);
    }
}

static inline float quantise8(const float *restrict x, size_t n, usnet_act *restrict out)
{
    const float peak = peak_of(x, n), rate = reciprocal((float)ACT_PEAK, peak);
    for (size_t i = 0; i < n; i++) {
        out[i] = (usnet_act)(usnet_clamp(usnet_round(x[i] * rate), ACT_PEAK) + USNET_BIAS);
    }
    return peak / (float)ACT_PEAK;
}

static inline float normalise8(const float *restrict z, const float *restrict gains, size_t d, float *restrict room,
                               usnet_act *restrict out)
{
    normalise(z, gains, d, room);
    return quantise8(room, d, out);
}

static inline int32_t softmax(const int32_t *restrict scores, size_t l, float rate, float full, float *restrict t,
                              int16_t *restrict p)
{
    int32_t top = scores[0], sum = 0;
    for (size_t j = 1; j < l; j++) {
        top = scores[j] > top ? scores[j] : top;
    }
    for (size_t j = 0; j < l; j++) {
        t[j] = usnet_max((float)(scores[j] - top) * rate, -30.0f);
    }
    for (size_t j = 0; j < l; j++) {
        const int32_t weight = usnet_round(full * usnet_exp2(t[j]));
        p[j] = (int16_t)weight;
        sum += weight;
    }
    return sum;
}

#endif

#endif
