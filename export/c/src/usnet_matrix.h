/* Rows of int8 and int16 times the matrices of the weights, and what becomes of the sums.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef USNET_MATRIX_H
#define USNET_MATRIX_H

#include "usnet_blob.h"
#include "usnet_dot.h"
#include "usnet_math.h"
#if defined(USNET_AVX512)
#include "usnet_avx512.h"
#endif

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF /* a fused product rounds once where others round twice */
#endif

typedef struct {
    const int8_t *w;
    const float *scale, *bias;
    const int32_t *sum;
} matrix;

/* What is done with a product, its bias added but for ADD. RELU and GELU are stored; JOIN adds what is there,
 * and rectifies. */
typedef enum { STORE, RELU, GELU, ADD, JOIN } emission;

static inline const float *floats(const usnet_model *model, size_t offset)
{
    return (const float *)(const void *)(model->weights + offset);
}

static inline matrix matrix_at(const usnet_model *model, usnet_matrix at)
{
    matrix m;
    m.w = (const int8_t *)(model->weights + at.w);
    m.scale = floats(model, at.scale);
    m.sum = (const int32_t *)(const void *)(model->weights + at.sum);
    m.bias = floats(model, at.bias);
    return m;
}

/* The columns from `first` on of a matrix whose columns have k values. */
static inline matrix columns_from(matrix m, size_t first, size_t k)
{
    m.w += first * k;
    m.scale += first;
    m.sum += first;
    m.bias += first;
    return m;
}

/* Panels that are multiplied at once: as many as the registers hold sums of, none being left alone. */
static inline size_t together(size_t columns)
{
    const size_t panels = columns == 3u * USNET_LANES ? 3u : columns >= 2u * USNET_LANES ? 2u : 1u;
    return panels > USNET_PANELS ? USNET_PANELS : panels;
}

#if defined(USNET_AVX512)

USNET_INLINE void emit(__m512 value, const float *bias, float *out, emission how)
{
    const __m512 biased = how == ADD ? value : _mm512_add_ps(value, _mm512_loadu_ps(bias));
    if (how == ADD) {
        value = _mm512_add_ps(_mm512_loadu_ps(out), value);
    } else if (how == JOIN) {
        value = v_relu(_mm512_add_ps(_mm512_loadu_ps(out), biased));
    } else {
        value = how == RELU ? v_relu(biased) : how == GELU ? v_gelu(biased) : biased;
    }
    _mm512_storeu_ps(out, value);
}

USNET_INLINE void product(const usnet_act *a, size_t a_stride, const float *row_scale, size_t k, const matrix *m,
                          size_t panels, float *out, size_t stride, emission how)
{
    int32_t tile[USNET_ROWS * 3u * USNET_LANES];
    usnet_unbiased8(a, a_stride, k, m->w, panels, m->sum, tile, panels * USNET_LANES);
    for (size_t p = 0; p < panels; p++) {
        const __m512 scale = _mm512_loadu_ps(m->scale + USNET_LANES * p);
        for (size_t r = 0; r < USNET_ROWS; r++) {
            const __m512 both = _mm512_mul_ps(_mm512_set1_ps(row_scale[r]), scale);
            const __m512i sums = _mm512_loadu_si512(tile + USNET_LANES * (panels * r + p));
            const __m512 value = _mm512_mul_ps(_mm512_cvtepi32_ps(sums), both);
            emit(value, m->bias + USNET_LANES * p, out + r * stride + USNET_LANES * p, how);
        }
    }
}

#else

USNET_INLINE void emit(const int32_t *restrict tile, size_t width, const float *restrict row_scale,
                        const matrix *m, float *restrict out, size_t stride, emission how)
{
    for (size_t r = 0; r < USNET_ROWS; r++) {
        for (size_t c = 0; c < width; c++) {
            const float sum = (float)usnet_debias(tile[r * width + c], m->sum[c]);
            const float value = sum * (row_scale[r] * m->scale[c]);
            float *to = out + r * stride + c;
            if (how == ADD) {
                *to += value;
            } else if (how == JOIN) {
                *to = usnet_max(*to + (value + m->bias[c]), 0.0f);
            } else if (how == RELU) {
                *to = usnet_max(value + m->bias[c], 0.0f);
            } else {
                *to = how == GELU ? usnet_gelu(value + m->bias[c]) : value + m->bias[c];
            }
        }
    }
}

USNET_INLINE void product(const usnet_act *a, size_t a_stride, const float *row_scale, size_t k, const matrix *m,
                           size_t panels, float *out, size_t stride, emission how)
{
    int32_t tile[USNET_PANELS * USNET_ROWS * USNET_LANES];
    usnet_tile8(a, a_stride, k, m->w, panels, tile, panels * USNET_LANES);
    emit(tile, panels * USNET_LANES, row_scale, m, out, stride, how);
}

#endif

/* out (rows, columns) of a (rows, k) and a matrix of k by columns; rows are a multiple of 8. */
USNET_INLINE void multiply(const usnet_act *a, size_t a_stride, const float *row_scale, size_t rows, size_t k,
                            matrix m, size_t columns, float *out, size_t stride, emission how)
{
    for (size_t c = 0; c < columns;) {
        const size_t panels = together(columns - c);
        const matrix part = columns_from(m, c, k);
        for (size_t r = 0; r < rows; r += USNET_ROWS) {
            const usnet_act *from = a + r * a_stride;
            float *to = out + r * stride + c;
            if (USNET_PANELS > 2u && panels == 3u) {
                product(from, a_stride, row_scale + r, k, &part, 3u, to, stride, how);
            } else if (USNET_PANELS > 1u && panels == 2u) {
                product(from, a_stride, row_scale + r, k, &part, 2u, to, stride, how);
            } else {
                product(from, a_stride, row_scale + r, k, &part, 1u, to, stride, how);
            }
        }
        c += panels * USNET_LANES;
    }
}

/* Sums of products (8, columns) of int16 rows and panels. */
static inline void multiply16(const int16_t *a, size_t k, const int16_t *w, size_t columns, int32_t *out)
{
    size_t c = 0;
    for (; c + 2u * USNET_LANES <= columns; c += 2u * USNET_LANES) {
        usnet_tile16(a, k, k, w + c * k, 2u, out + c, columns);
    }
    if (c < columns) {
        usnet_tile16(a, k, k, w + c * k, 1u, out + c, columns);
    }
}

#endif
