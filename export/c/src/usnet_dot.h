/* Sums of products of int8 and of int16, for the vector units that the compiler may use.
 *
 * Both functions fill `tile`, USNET_ROWS rows of 16 * panels int32, `wide` apart: the products of USNET_ROWS rows of `a`
 * (`stride` elements apart, k of them used) with the columns of one to three panels. A panel holds 16 columns,
 * `group` values of each beside one another: w[k / group][16][group]; group is 4 for int8, 2 for int16, and
 * a panel begins 16 * k values after the one before. Every kernel gives the same sums, exactly.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef USNET_DOT_H
#define USNET_DOT_H

#include <stddef.h>
#include <stdint.h>

#define USNET_ROWS 8u
#define USNET_LANES 16u

#if defined(USNET_PLAIN)
#define USNET_KERNEL "plain"
#elif defined(__AVX512VNNI__) && defined(__AVX512BW__)
#define USNET_KERNEL "avx512-vnni"
#define USNET_VNNI 1
#define USNET_AVX512 1
#include <immintrin.h>
#elif defined(__AVXVNNI__)
#define USNET_KERNEL "avx-vnni"
#define USNET_VNNI 1
#include <immintrin.h>
#elif defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
#define USNET_KERNEL "neon-dot"
#define USNET_NEON 1
#include <arm_neon.h>
#elif defined(__aarch64__) && defined(__ARM_NEON)
#define USNET_KERNEL "neon"
#define USNET_NEON 1
#include <arm_neon.h>
#else
#define USNET_KERNEL "plain"
#endif

/* What is inlined so that sizes are known there, and the panels that are multiplied at once: vectors gain by
 * both; on a microcontroller it would be flash for nothing. */
#if defined(USNET_VNNI) || defined(USNET_NEON)
#define USNET_INLINE static inline __attribute__((always_inline))
#define USNET_PANELS 3u
#else
#if defined(__ARM_ARCH_PROFILE) && __ARM_ARCH_PROFILE == 'M'
#define USNET_INLINE static __attribute__((noinline, unused))
#else
#define USNET_INLINE static inline
#endif
#define USNET_PANELS 1u
#endif

/* x86 multiplies unsigned by signed bytes: there activations carry 128, and `usnet_debias` takes it out. */
#if defined(USNET_VNNI)
typedef uint8_t usnet_act;
#define USNET_BIAS 128
#else
typedef int8_t usnet_act;
#define USNET_BIAS 0
#endif

/* The sum of products of unbiased activations; wraps where `column_sum` is no sum of a column. */
static inline int32_t usnet_debias(int32_t sum, int32_t column_sum)
{
#if USNET_BIAS
    return (int32_t)((uint32_t)sum - (uint32_t)USNET_BIAS * (uint32_t)column_sum);
#else
    (void)column_sum;
    return sum;
#endif
}

#if defined(USNET_VNNI)
static inline int32_t usnet_word(const void *at)
{
    int32_t word;
    __builtin_memcpy(&word, at, sizeof word);
    return word;
}
#endif

#if defined(USNET_AVX512)

/* Sums as the type that the instructions work on, and no loop that may not run: else gcc 12 copies each of them in
 * every round. 8 rows of 3 panels' sums are 24 of the 32 registers. */
typedef int32_t usnet_sums __attribute__((vector_size(64)));
typedef int32_t usnet_sums_at __attribute__((vector_size(64), aligned(4), may_alias));

#define USNET_X86_TILE(NAME, PANELS, TYPE, WEIGHT, GROUP, DOT, START)                                        \
    static __attribute__((noinline, unused)) void NAME##_##PANELS(                                           \
        const TYPE *a, size_t stride, size_t k, const WEIGHT *w, const int32_t *column, int32_t *tile, size_t wide)\
    {                                                                                                        \
        const size_t second = (PANELS) > 1 ? USNET_LANES * k : 0u, third = (PANELS) > 2 ? 2u * second : 0u;  \
        const usnet_sums start = START(0u), start1 = START((PANELS) > 1 ? 1u : 0u), start2 = START((PANELS) - 1u);\
        usnet_sums sum[USNET_ROWS][3];                                                                       \
        size_t i = 0;                                                                                        \
        (void)column;                                                                                        \
        for (size_t r = 0; r < USNET_ROWS; r++) {                                                            \
            sum[r][0] = start;                                                                               \
            sum[r][1] = start1;                                                                              \
            sum[r][2] = start2;                                                                              \
        }                                                                                                    \
        do {                                                                                                 \
            const __m512i w0 = _mm512_loadu_si512(w + USNET_LANES * i);                                      \
            const __m512i w1 = _mm512_loadu_si512(w + second + USNET_LANES * i);                             \
            const __m512i w2 = _mm512_loadu_si512(w + third + USNET_LANES * i);                              \
            const TYPE *low = a + i, *high = low + 4u * stride;                                              \
            for (size_t r = 0; r < USNET_ROWS; r++) {                                                        \
                const __m512i x = _mm512_set1_epi32(usnet_word((r < 4u ? low : high) + (r % 4u) * stride));  \
                sum[r][0] = (usnet_sums)DOT((__m512i)sum[r][0], x, w0);                                      \
                if ((PANELS) > 1) {                                                                          \
                    sum[r][1] = (usnet_sums)DOT((__m512i)sum[r][1], x, w1);                                  \
                }                                                                                            \
                if ((PANELS) > 2) {                                                                          \
                    sum[r][2] = (usnet_sums)DOT((__m512i)sum[r][2], x, w2);                                  \
                }                                                                                            \
            }                                                                                                \
            i += (GROUP);                                                                                    \
        } while (i < k);                                                                                     \
        for (size_t r = 0; r < USNET_ROWS; r++) {                                                            \
            for (size_t p = 0; p < (PANELS); p++) {                                                          \
                *(usnet_sums_at *)(void *)(tile + wide * r + USNET_LANES * p) = sum[r][p];                   \
            }                                                                                                \
        }                                                                                                    \
    }

/* Less 128 of each weight: then the sum is unbiased. */
#define USNET_UNBIASED(p) \
    (usnet_sums)_mm512_slli_epi32( \
        _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_loadu_si512(column + USNET_LANES * (p))), 7)
#define USNET_ZERO(p) (usnet_sums)_mm512_setzero_si512()

USNET_X86_TILE(usnet_tile8, 1, usnet_act, int8_t, 4u, _mm512_dpbusd_epi32, USNET_UNBIASED)
USNET_X86_TILE(usnet_tile8, 2, usnet_act, int8_t, 4u, _mm512_dpbusd_epi32, USNET_UNBIASED)
USNET_X86_TILE(usnet_tile8, 3, usnet_act, int8_t, 4u, _mm512_dpbusd_epi32, USNET_UNBIASED)
USNET_X86_TILE(usnet_tile16, 1, int16_t, int16_t, 2u, _mm512_dpwssd_epi32, USNET_ZERO)
USNET_X86_TILE(usnet_tile16, 2, int16_t, int16_t, 2u, _mm512_dpwssd_epi32, USNET_ZERO)

/* Unbiased at once, with the sums of the columns. */
USNET_INLINE void usnet_unbiased8(const usnet_act *a, size_t stride, size_t k, const int8_t *w, size_t panels,
                                  const int32_t *column, int32_t *tile, size_t wide)
{
    if (panels == 1u) {
        usnet_tile8_1(a, stride, k, w, column, tile, wide);
    } else if (panels == 2u) {
        usnet_tile8_2(a, stride, k, w, column, tile, wide);
    } else {
        usnet_tile8_3(a, stride, k, w, column, tile, wide);
    }
}

USNET_INLINE void usnet_tile16(const int16_t *a, size_t stride, size_t k, const int16_t *w, size_t panels,
                               int32_t *tile, size_t wide)
{
    if (panels == 1u) {
        usnet_tile16_1(a, stride, k, w, NULL, tile, wide);
    } else {
        usnet_tile16_2(a, stride, k, w, NULL, tile, wide);
    }
}

#elif defined(USNET_VNNI)

/* Four rows at a time: 8 sums, 2 columns' halves and a row's word fit the 16 registers. */
#define USNET_X86_TILE(NAME, TYPE, WEIGHT, GROUP, DOT)                                                       \
    USNET_INLINE void NAME(const TYPE *a, size_t stride, size_t k, const WEIGHT *w, size_t panels,          \
                            int32_t *tile, size_t wide)                                                      \
    {                                                                                                        \
        for (size_t part = 0; part < 2u * panels; part++) {                                                  \
            const size_t p = part / 2u, first = 4u * (part % 2u);                                            \
            __m256i sum[4][2];                                                                               \
            for (size_t r = 0; r < 4u; r++) {                                                                \
                sum[r][0] = sum[r][1] = _mm256_setzero_si256();                                              \
            }                                                                                                \
            for (size_t i = 0; i < k; i += (GROUP)) {                                                        \
                const WEIGHT *at = w + USNET_LANES * (p * k + i);                                            \
                const __m256i w0 = _mm256_loadu_si256((const __m256i *)(const void *)at);                    \
                const __m256i w1 = _mm256_loadu_si256((const __m256i *)(const void *)(at + 8u * (GROUP)));   \
                for (size_t r = 0; r < 4u; r++) {                                                            \
                    const __m256i x = _mm256_set1_epi32(usnet_word(a + (first + r) * stride + i));           \
                    sum[r][0] = DOT(sum[r][0], x, w0);                                                       \
                    sum[r][1] = DOT(sum[r][1], x, w1);                                                       \
                }                                                                                            \
            }                                                                                                \
            for (size_t r = 0; r < 4u; r++) {                                                                \
                int32_t *to = tile + wide * (first + r) + USNET_LANES * p;                               \
                _mm256_storeu_si256((__m256i *)(void *)to, sum[r][0]);                                       \
                _mm256_storeu_si256((__m256i *)(void *)(to + 8), sum[r][1]);                                 \
            }                                                                                                \
        }                                                                                                    \
    }

USNET_X86_TILE(usnet_tile8, usnet_act, int8_t, 4u, _mm256_dpbusd_avx_epi32)
USNET_X86_TILE(usnet_tile16, int16_t, int16_t, 2u, _mm256_dpwssd_avx_epi32)

#elif defined(USNET_NEON)

#if defined(__ARM_FEATURE_DOTPROD)
USNET_INLINE void usnet_tile8(const int8_t *a, size_t stride, size_t k, const int8_t *w, size_t panels,
                               int32_t *tile, size_t wide)
{
    for (size_t part = 0; part < 2u * panels; part++) {
        const size_t p = part / 2u, first = 4u * (part % 2u);
        int32x4_t sum[4][4];
        for (size_t r = 0; r < 16u; r++) {
            sum[r / 4u][r % 4u] = vdupq_n_s32(0);
        }
        for (size_t i = 0; i < k; i += 4u) {
            const int8x16x4_t columns = vld1q_s8_x4(w + USNET_LANES * (p * k + i));
            for (size_t r = 0; r < 4u; r++) {
                const int8x16_t x = vreinterpretq_s8_s32(
                    vld1q_dup_s32((const int32_t *)(const void *)(a + (first + r) * stride + i)));
                for (size_t q = 0; q < 4u; q++) {
                    sum[r][q] = vdotq_s32(sum[r][q], x, columns.val[q]);
                }
            }
        }
        for (size_t r = 0; r < 16u; r++) {
            int32_t *to = tile + wide * (first + r / 4u) + USNET_LANES * p + 4u * (r % 4u);
            vst1q_s32(to, sum[r / 4u][r % 4u]);
        }
    }
}
#else
/* Two groups of products fit int16, activations and weights being at most 127; then pairs go to int32. */
USNET_INLINE void usnet_tile8(const int8_t *a, size_t stride, size_t k, const int8_t *w, size_t panels,
                               int32_t *tile, size_t wide)
{
    for (size_t part = 0; part < 4u * panels; part++) {
        const size_t p = part / 4u, first = 2u * (part % 4u);
        int32x4_t sum[2][8];
        for (size_t r = 0; r < 16u; r++) {
            sum[r / 8u][r % 8u] = vdupq_n_s32(0);
        }
        for (size_t i = 0; i < k; i += 8u) {
            const int8_t *at = w + USNET_LANES * (p * k + i);
            for (size_t r = 0; r < 2u; r++) {
                const int8_t *row = a + (first + r) * stride + i;
                const int8x8_t x0 =
                    vreinterpret_s8_s32(vld1_dup_s32((const int32_t *)(const void *)row));
                const int8x8_t x1 =
                    vreinterpret_s8_s32(vld1_dup_s32((const int32_t *)(const void *)(row + 4)));
                for (size_t q = 0; q < 8u; q++) {
                    int16x8_t both = vmull_s8(x0, vld1_s8(at + 8u * q));
                    both = vmlal_s8(both, x1, vld1_s8(at + 64u + 8u * q));
                    sum[r][q] = vpadalq_s16(sum[r][q], both);
                }
            }
        }
        for (size_t r = 0; r < 8u; r++) {
            int32_t *to = tile + wide * (first + r / 4u) + USNET_LANES * p + 4u * (r % 4u);
            vst1q_s32(to, vpaddq_s32(sum[r / 4u][2u * (r % 4u)], sum[r / 4u][2u * (r % 4u) + 1u]));
        }
    }
}
#endif

USNET_INLINE void usnet_tile16(const int16_t *a, size_t stride, size_t k, const int16_t *w, size_t panels,
                                int32_t *tile, size_t wide)
{
    for (size_t part = 0; part < 2u * panels; part++) {
        const size_t p = part / 2u, first = 4u * (part % 2u);
        int32x4_t sum[4][4];
        for (size_t r = 0; r < 16u; r++) {
            sum[r / 4u][r % 4u] = vdupq_n_s32(0);
        }
        for (size_t i = 0; i < k; i += 2u) {
            const int16_t *at = w + USNET_LANES * (p * k + i);
            const int16x8x2_t low = vld2q_s16(at), high = vld2q_s16(at + 16);
            for (size_t r = 0; r < 4u; r++) {
                const int16_t *row = a + (first + r) * stride + i;
                for (size_t j = 0; j < 2u; j++) {
                    sum[r][0] = vmlal_n_s16(sum[r][0], vget_low_s16(low.val[j]), row[j]);
                    sum[r][1] = vmlal_n_s16(sum[r][1], vget_high_s16(low.val[j]), row[j]);
                    sum[r][2] = vmlal_n_s16(sum[r][2], vget_low_s16(high.val[j]), row[j]);
                    sum[r][3] = vmlal_n_s16(sum[r][3], vget_high_s16(high.val[j]), row[j]);
                }
            }
        }
        for (size_t r = 0; r < 16u; r++) {
            int32_t *to = tile + wide * (first + r / 4u) + USNET_LANES * p + 4u * (r % 4u);
            vst1q_s32(to, sum[r / 4u][r % 4u]);
        }
    }
}

#else

USNET_INLINE void usnet_tile8(const int8_t *a, size_t stride, size_t k, const int8_t *w, size_t panels,
                               int32_t *tile, size_t wide)
{
    for (size_t part = 0; part < panels * USNET_ROWS; part++) {
        const int8_t *restrict row = a + (part / panels) * stride;
        const int8_t *restrict at = w + USNET_LANES * k * (part % panels);
        int32_t *restrict to = tile + wide * (part / panels) + USNET_LANES * (part % panels);
        int32_t sum[USNET_LANES] = {0};
        for (size_t i = 0; i < k; i += 4u, at += 4u * USNET_LANES) {
            const int32_t x0 = row[i], x1 = row[i + 1u], x2 = row[i + 2u], x3 = row[i + 3u];
            for (size_t c = 0; c < USNET_LANES; c++) {
                sum[c] += x0 * at[4u * c] + x1 * at[4u * c + 1u] + x2 * at[4u * c + 2u] + x3 * at[4u * c + 3u];
            }
        }
        for (size_t c = 0; c < USNET_LANES; c++) {
            to[c] = sum[c];
        }
    }
}

USNET_INLINE void usnet_tile16(const int16_t *a, size_t stride, size_t k, const int16_t *w, size_t panels,
                               int32_t *tile, size_t wide)
{
    for (size_t part = 0; part < panels * USNET_ROWS; part++) {
        const int16_t *restrict row = a + (part / panels) * stride;
        const int16_t *restrict at = w + USNET_LANES * k * (part % panels);
        int32_t *restrict to = tile + wide * (part / panels) + USNET_LANES * (part % panels);
        int32_t sum[USNET_LANES] = {0};
        for (size_t i = 0; i < k; i += 2u, at += 2u * USNET_LANES) {
            const int32_t x0 = row[i], x1 = row[i + 1u];
            for (size_t c = 0; c < USNET_LANES; c++) {
                sum[c] += x0 * at[2u * c] + x1 * at[2u * c + 1u];
            }
        }
        for (size_t c = 0; c < USNET_LANES; c++) {
            to[c] = sum[c];
        }
    }
}

#endif
#endif
