/* AVX-512: what plain loops do elsewhere, kept in registers. The same operations on the same lanes in the same
 * order, so the same bits.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef USNET_AVX512_H
#define USNET_AVX512_H

static inline __m512 v_polynomial(__m512 x, const float *terms, size_t n)
{
    __m512 p = _mm512_set1_ps(terms[0]);
    for (size_t i = 1; i < n; i++) {
        p = _mm512_add_ps(_mm512_mul_ps(p, x), _mm512_set1_ps(terms[i]));
    }
    return p;
}

static inline __m512 v_relu(__m512 x)
{
    return _mm512_max_ps(x, _mm512_setzero_ps());
}

static inline __m512 v_gelu(__m512 x)
{
    static const float terms[USNET_GELU_TERMS] = USNET_GELU;
    const __m512 u = _mm512_min_ps(_mm512_abs_ps(x), _mm512_set1_ps(USNET_GELU_END));
    const __m512 s = _mm512_sub_ps(_mm512_mul_ps(u, _mm512_set1_ps(USNET_GELU_RATE)), _mm512_set1_ps(1.0f));
    return _mm512_sub_ps(v_relu(x), _mm512_mul_ps(u, v_polynomial(s, terms, USNET_GELU_TERMS)));
}

/* 2^t as usnet_exp2: the whole part moves the exponent. */
static inline __m512 v_exp2(__m512 t)
{
    static const float terms[USNET_EXP2_TERMS] = USNET_EXP2;
    const __m512 whole = _mm512_roundscale_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    return _mm512_scalef_ps(v_polynomial(_mm512_sub_ps(t, whole), terms, USNET_EXP2_TERMS), whole);
}

static inline float v_joined(__m512 lanes)
{
    const __m256 high = _mm512_extractf32x8_ps(lanes, 1);
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(lanes), high);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

static inline __m512i v_rounded(__m512 x, __m512 rate)
{
    return _mm512_cvtps_epi32(_mm512_mul_ps(x, rate));
}

/* int8 of 16 whole numbers, with USNET_BIAS. */
static inline void v_store8(usnet_act *at, __m512i whole)
{
    const __m128i bytes = _mm512_cvtsepi32_epi8(whole);
    _mm_storeu_si128((__m128i *)(void *)at, _mm_xor_si128(bytes, _mm_set1_epi8((char)-128)));
}

static inline float v_peak(__m512i magnitudes)
{
    usnet_bits peak;
    peak.i = _mm512_reduce_max_epi32(magnitudes);
    return peak.f;
}

static inline __m512i v_magnitude(__m512 x)
{
    return _mm512_castps_si512(_mm512_abs_ps(x));
}

/* 16 rows of 16 words, `from` apart, as 16 columns. */
static inline void v_transpose(const int32_t *from, size_t stride, int32_t *to)
{
    __m512i a[16], b[16];
    for (size_t i = 0; i < 16u; i += 2u) {
        const __m512i x = _mm512_loadu_si512(from + i * stride), y = _mm512_loadu_si512(from + (i + 1u) * stride);
        a[i] = _mm512_unpacklo_epi32(x, y);
        a[i + 1u] = _mm512_unpackhi_epi32(x, y);
    }
    for (size_t i = 0; i < 16u; i += 4u) {
        for (size_t j = 0; j < 2u; j++) {
            b[i + 2u * j] = _mm512_unpacklo_epi64(a[i + j], a[i + j + 2u]);
            b[i + 2u * j + 1u] = _mm512_unpackhi_epi64(a[i + j], a[i + j + 2u]);
        }
    }
    for (size_t j = 0; j < 4u; j++) {
        const __m512i even = _mm512_shuffle_i32x4(b[j], b[j + 4u], 0x88);
        const __m512i odd = _mm512_shuffle_i32x4(b[j], b[j + 4u], 0xDD);
        const __m512i even2 = _mm512_shuffle_i32x4(b[j + 8u], b[j + 12u], 0x88);
        const __m512i odd2 = _mm512_shuffle_i32x4(b[j + 8u], b[j + 12u], 0xDD);
        _mm512_storeu_si512(to + 16u * j, _mm512_shuffle_i32x4(even, even2, 0x88));
        _mm512_storeu_si512(to + 16u * (j + 4u), _mm512_shuffle_i32x4(odd, odd2, 0x88));
        _mm512_storeu_si512(to + 16u * (j + 8u), _mm512_shuffle_i32x4(even, even2, 0xDD));
        _mm512_storeu_si512(to + 16u * (j + 12u), _mm512_shuffle_i32x4(odd, odd2, 0xDD));
    }
}

#endif
