/* usnet: checks the weights and runs the network. See usnet.h. SPDX-License-Identifier: Apache-2.0 */
#include "usnet.h"

#include "usnet_blob.h"
#include "usnet_dot.h"
#include "usnet_rows.h"

#define QK_PEAK 4095 /* 4095 * 4095 * 128 < 2^31 */
#define V_PEAK 2047
#define CHUNK 16u /* tokens that go through the MLP together */

/* What lies in scratch. Shapes: l tokens, d = d_model, D = d_head. */
typedef struct {
    float *z;         /* (l, d) residual stream */
    float *plain;     /* (l, D) or (CHUNK, hidden) or (1, d): what is to be quantised next */
    float *act_scale; /* (l) */
    float *few_scale; /* (CHUNK) */
    int32_t *scores;  /* (8, l) or (8, D) */
    usnet_act *act;   /* (l, d) */
    usnet_act *few;   /* (CHUNK, hidden) or (8, D) */
    int16_t *q;       /* (l, D) */
    int16_t *k;       /* panels of l columns */
    int16_t *v;       /* panels of D columns */
    int16_t *p;       /* (8, l) softmax */
} arena;

typedef struct {
    const int8_t *w;
    const float *scale, *bias;
    const int32_t *sum;
} matrix;

typedef enum { STORE, STORE_GELU, ADD } emission;

/* ---- Weights ------------------------------------------------------------------------------------------- */

static uint32_t get32(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static uint16_t get16(const uint8_t *at)
{
    return (uint16_t)(at[0] | at[1] << 8);
}

static int is_aligned(const void *at)
{
    return (uintptr_t)at % USNET_LEAST_ALIGN == 0;
}

static int little_endian(void)
{
    const union {
        uint32_t word;
        uint8_t bytes[4];
    } one = {1u};
    return one.bytes[0] == 1u;
}

static int32_t check_header(const uint8_t *at, size_t size, usnet_dims *n)
{
    static const uint8_t magic[8] = {'U', 'S', 'N', 'E', 'T', '-', 'w', '8'};
    uint32_t rest = 0;
    if (size < USNET_HEADER_SIZE) {
        return USNET_ERR_SIZE;
    }
    for (size_t i = 0; i < sizeof magic; i++) {
        if (at[i] != magic[i]) {
            return USNET_ERR_MAGIC;
        }
    }
    if (get32(at + 8) != USNET_VERSION) {
        return USNET_ERR_VERSION;
    }
    for (size_t i = 30; i < USNET_HEADER_SIZE; i++) {
        rest |= at[i];
    }
    n->patch = get16(at + 16);
    n->length = get16(at + 18);
    n->d_model = get16(at + 20);
    n->heads = get16(at + 22);
    n->d_head = get16(at + 24);
    n->hidden = get16(at + 26);
    n->layers = get16(at + 28);
    if (rest != 0 || !usnet_dims_fit(n)) {
        return USNET_ERR_DIMS;
    }
    return get32(at + 12) == size && usnet_blob_size(n) == size ? 0 : USNET_ERR_SIZE;
}

int32_t usnet_open(usnet_model *model, const void *weights, size_t size)
{
    const uint8_t *at = (const uint8_t *)weights;
    usnet_dims dims;
    int32_t fault;
    if (model == NULL || weights == NULL) {
        return USNET_ERR_NULL;
    }
    if (!is_aligned(weights)) {
        return USNET_ERR_ALIGN;
    }
    if (!little_endian()) {
        return USNET_ERR_MACHINE;
    }
    fault = check_header(at, size, &dims);
    if (fault != 0) {
        return fault;
    }
    if (usnet_crc32(at, size - 4u) != get32(at + size - 4u)) {
        return USNET_ERR_CHECKSUM;
    }
    model->weights = at;
    model->dims = dims;
    return 0;
}

size_t usnet_inputs(const usnet_model *model)
{
    return (size_t)model->dims.patch * model->dims.length;
}

size_t usnet_outputs(const usnet_model *model)
{
    return 3u * (size_t)model->dims.length + 1u;
}

const char *usnet_kernel(void)
{
    return USNET_KERNEL;
}

uint32_t usnet_version(void)
{
    return USNET_VERSION;
}

static const float *floats(const usnet_model *model, size_t offset)
{
    return (const float *)(const void *)(model->weights + offset);
}

static matrix matrix_at(const usnet_model *model, usnet_matrix at)
{
    matrix m;
    m.w = (const int8_t *)(model->weights + at.w);
    m.scale = floats(model, at.scale);
    m.sum = (const int32_t *)(const void *)(model->weights + at.sum);
    m.bias = floats(model, at.bias);
    return m;
}

/* The columns from `first` on of a matrix whose columns have k values. */
static matrix columns_from(matrix m, size_t first, size_t k)
{
    m.w += first * k;
    m.scale += first;
    m.sum += first;
    m.bias += first;
    return m;
}

/* ---- Scratch ------------------------------------------------------------------------------------------- */

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static void *carve(uint8_t **at, size_t *total, size_t bytes)
{
    uint8_t *begin = *at;
    const size_t whole = (bytes + USNET_ALIGN - 1u) / USNET_ALIGN * USNET_ALIGN;
    *total += whole;
    *at = begin == NULL ? NULL : begin + whole;
    return begin;
}

/* Lays `scratch` out, or only measures where it is null. */
static size_t lay_out(const usnet_dims *n, uint8_t *scratch, arena *a)
{
    const size_t l = n->length, d = n->d_model, head = n->d_head, f = sizeof(float);
    size_t total = 0;
    a->z = (float *)carve(&scratch, &total, l * d * f);
    a->plain = (float *)carve(&scratch, &total, larger(larger(l * head, CHUNK * (size_t)n->hidden), d) * f);
    a->act_scale = (float *)carve(&scratch, &total, l * f);
    a->few_scale = (float *)carve(&scratch, &total, CHUNK * f);
    a->scores = (int32_t *)carve(&scratch, &total, USNET_ROWS * larger(l, head) * sizeof(int32_t));
    a->act = (usnet_act *)carve(&scratch, &total, l * d);
    a->few = (usnet_act *)carve(&scratch, &total, larger(CHUNK * (size_t)n->hidden, USNET_ROWS * head));
    a->q = (int16_t *)carve(&scratch, &total, l * head * sizeof(int16_t));
    a->k = (int16_t *)carve(&scratch, &total, l * head * sizeof(int16_t));
    a->v = (int16_t *)carve(&scratch, &total, l * head * sizeof(int16_t));
    a->p = (int16_t *)carve(&scratch, &total, USNET_ROWS * l * sizeof(int16_t));
    return total;
}

size_t usnet_scratch_size(const usnet_model *model)
{
    arena a;
    return lay_out(&model->dims, NULL, &a);
}

/* ---- Matrices ------------------------------------------------------------------------------------------ */

static inline void emit(const int32_t *restrict tile, size_t width, const float *restrict row_scale,
                        const matrix *m, float *restrict out, size_t stride, emission how)
{
    for (size_t r = 0; r < USNET_ROWS; r++) {
        for (size_t c = 0; c < width; c++) {
            const float sum = (float)usnet_debias(tile[r * width + c], m->sum[c]);
            const float value = sum * (row_scale[r] * m->scale[c]);
            float *to = out + r * stride + c;
            if (how == ADD) {
                *to += value;
            } else {
                *to = how == STORE_GELU ? usnet_gelu(value + m->bias[c]) : value + m->bias[c];
            }
        }
    }
}

/* out (rows, columns) of a (rows, k) and a matrix of k by columns; rows are a multiple of 8. */
static inline void multiply(const usnet_act *a, size_t a_stride, const float *row_scale, size_t rows, size_t k,
                            matrix m, size_t columns, float *out, size_t stride, emission how)
{
    int32_t tile[2u * USNET_ROWS * USNET_LANES];
    for (size_t c = 0; c < columns;) {
        const size_t width = columns - c >= 2u * USNET_LANES ? 2u * USNET_LANES : USNET_LANES;
        const matrix part = columns_from(m, c, k);
        for (size_t r = 0; r < rows; r += USNET_ROWS) {
            if (width > USNET_LANES) {
                usnet_tile8(a + r * a_stride, a_stride, k, part.w, 2u, tile, 2u * USNET_LANES);
                emit(tile, 2u * USNET_LANES, row_scale + r, &part, out + r * stride + c, stride, how);
            } else {
                usnet_tile8(a + r * a_stride, a_stride, k, part.w, 1u, tile, USNET_LANES);
                emit(tile, USNET_LANES, row_scale + r, &part, out + r * stride + c, stride, how);
            }
        }
        c += width;
    }
}

/* Sums of products (8, columns) of int16 rows and panels. */
static void multiply16(const int16_t *a, size_t k, const int16_t *w, size_t columns, int32_t *out)
{
    size_t c = 0;
    for (; c + 2u * USNET_LANES <= columns; c += 2u * USNET_LANES) {
        usnet_tile16(a, k, k, w + c * k, 2u, out + c, columns);
    }
    if (c < columns) {
        usnet_tile16(a, k, k, w + c * k, 1u, out + c, columns);
    }
}

/* ---- Attention ----------------------------------------------------------------------------------------- */

static void project_head(const arena *a, const usnet_dims *n, matrix part)
{
    multiply(a->act, n->d_model, a->act_scale, n->length, n->d_model, part, n->d_head, a->plain, n->d_head, STORE);
}

/* Each of these takes `plain` (l, D) as int16, and returns its scale. */
static float keep_queries(const arena *a, size_t n)
{
    const float peak = peak_of(a->plain, n), rate = reciprocal((float)QK_PEAK, peak);
    const float *restrict from = a->plain;
    int16_t *restrict to = a->q;
    for (size_t i = 0; i < n; i++) {
        to[i] = as_int16(from[i], rate, QK_PEAK);
    }
    return peak / (float)QK_PEAK;
}

static float keep_keys(const arena *a, size_t l, size_t d)
{
    const float peak = peak_of(a->plain, l * d), rate = reciprocal((float)QK_PEAK, peak);
    for (size_t j = 0; j < l; j += USNET_LANES) {
        for (size_t i = 0; i < d; i += 2u) {
            const float *restrict from = a->plain + j * d + i;
            int16_t *restrict to = a->k + j * d + USNET_LANES * i;
            for (size_t c = 0; c < USNET_LANES; c++) {
                to[2u * c] = as_int16(from[c * d], rate, QK_PEAK);
                to[2u * c + 1u] = as_int16(from[c * d + 1u], rate, QK_PEAK);
            }
        }
    }
    return peak / (float)QK_PEAK;
}

static float keep_values(const arena *a, size_t l, size_t d)
{
    const float peak = peak_of(a->plain, l * d), rate = reciprocal((float)V_PEAK, peak);
    for (size_t i = 0; i < d; i += USNET_LANES) {
        for (size_t j = 0; j < l; j += 2u) {
            const float *restrict from = a->plain + j * d + i;
            int16_t *restrict to = a->v + i * l + USNET_LANES * j;
            for (size_t c = 0; c < USNET_LANES; c++) {
                to[2u * c] = as_int16(from[c], rate, V_PEAK);
                to[2u * c + 1u] = as_int16(from[d + c], rate, V_PEAK);
            }
        }
    }
    return peak / (float)V_PEAK;
}

/* Weights 0 ... full of a row of scores, `rate` octaves each; returns their sum. `t` is room for l floats:
 * two loops, because compilers make a branch of the limit where it is used at once, and then no vectors. */
static int32_t softmax(const int32_t *restrict scores, size_t l, float rate, float full, float *restrict t,
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

/* Eight tokens of one head, from scores to the residual stream. */
static void attend(const arena *a, const usnet_dims *n, size_t row, float rate, float v_scale, matrix proj)
{
    const size_t l = n->length, head = n->d_head, d = n->d_model;
    const size_t room = 1049088u / l; /* l * room * V_PEAK < 2^31 */
    const float full = (float)(room < 16383u ? room : 16383u);
    float scale[USNET_ROWS];
    multiply16(a->q + row * head, head, a->k, l, a->scores);
    for (size_t r = 0; r < USNET_ROWS; r++) {
        scale[r] = v_scale / (float)softmax(a->scores + r * l, l, rate, full, a->plain, a->p + r * l);
    }
    multiply16(a->p, l, a->v, head, a->scores);
    for (size_t r = 0; r < USNET_ROWS; r++) {
        const int32_t *restrict sums = a->scores + r * head;
        float *restrict out = a->plain;
        for (size_t i = 0; i < head; i++) {
            out[i] = (float)sums[i] * scale[r];
        }
        a->few_scale[r] = quantise8(out, head, a->few + r * head);
    }
    multiply(a->few, head, a->few_scale, USNET_ROWS, head, proj, d, a->z + row * d, d, ADD);
}

static void attention(const usnet_model *model, const usnet_layer *layer, const arena *a)
{
    const usnet_dims *n = &model->dims;
    const size_t l = n->length, d = n->d_model, head = n->d_head;
    const float *gains = floats(model, layer->norm1);
    const matrix qkv = matrix_at(model, layer->qkv), proj = matrix_at(model, layer->proj);
    const float octaves = 1.44269504f * usnet_rsqrt((float)head);
    for (size_t t = 0; t < l; t++) {
        float *restrict z = a->z + t * d;
        normalise(z, gains, d, a->plain);
        a->act_scale[t] = quantise8(a->plain, d, a->act + t * d);
        for (size_t i = 0; i < d; i++) {
            z[i] += proj.bias[i];
        }
    }
    for (size_t h = 0; h < n->heads; h++) {
        float q_scale, k_scale, v_scale;
        project_head(a, n, columns_from(qkv, 3u * h * head, d));
        q_scale = keep_queries(a, l * head);
        project_head(a, n, columns_from(qkv, (3u * h + 1u) * head, d));
        k_scale = keep_keys(a, l, head);
        project_head(a, n, columns_from(qkv, (3u * h + 2u) * head, d));
        v_scale = keep_values(a, l, head);
        for (size_t row = 0; row < l; row += USNET_ROWS) {
            matrix part = columns_from(proj, h * d, head);
            attend(a, n, row, q_scale * k_scale * octaves, v_scale, part);
        }
    }
}

/* ---- The rest ------------------------------------------------------------------------------------------ */

static void mlp(const usnet_model *model, const usnet_layer *layer, const arena *a)
{
    const usnet_dims *n = &model->dims;
    const size_t d = n->d_model, hidden = n->hidden;
    const float *gains = floats(model, layer->norm2);
    const matrix fc1 = matrix_at(model, layer->fc1), fc2 = matrix_at(model, layer->fc2);
    for (size_t t = 0; t < n->length; t += CHUNK) {
        for (size_t r = 0; r < CHUNK; r++) {
            float *restrict z = a->z + (t + r) * d;
            normalise(z, gains, d, a->plain);
            a->act_scale[r] = quantise8(a->plain, d, a->act + r * d);
            for (size_t i = 0; i < d; i++) {
                z[i] += fc2.bias[i];
            }
        }
        multiply(a->act, d, a->act_scale, CHUNK, d, fc1, hidden, a->plain, hidden, STORE_GELU);
        for (size_t r = 0; r < CHUNK; r++) {
            a->few_scale[r] = quantise8(a->plain + r * hidden, hidden, a->few + r * hidden);
        }
        multiply(a->few, hidden, a->few_scale, CHUNK, hidden, fc2, d, a->z + t * d, d, ADD);
    }
}

/* Patches stay float: they are a thousandth of the work, and all the resolution that a gate has. */
static void embed(const usnet_model *model, const usnet_ends *at, const float *x, const arena *a)
{
    const size_t d = model->dims.d_model, patch = model->dims.patch;
    const float *w = floats(model, at->embed), *place = floats(model, at->place);
    for (size_t t = 0; t < model->dims.length; t++) {
        float *restrict z = a->z + t * d;
        for (size_t i = 0; i < d; i++) {
            z[i] = place[t * d + i];
        }
        for (size_t j = 0; j < patch; j++) {
            const float *restrict row = w + j * d;
            const float sample = x[t * patch + j];
            for (size_t i = 0; i < d; i++) {
                z[i] += sample * row[i];
            }
        }
    }
}

static void point(const usnet_model *model, const usnet_ends *at, const arena *a, float *out)
{
    const size_t d = model->dims.d_model, l = model->dims.length;
    const float *gains = floats(model, at->norm), *w = floats(model, at->head), *b = floats(model, at->head_bias);
    float *restrict mean = a->z; /* the first token is read before it becomes the sum of all */
    for (size_t t = 0; t < l; t++) {
        const float *restrict token = a->plain;
        normalise(a->z + t * d, gains, d, a->plain);
        out[t] = dot_of(token, w, d) + b[0];
        out[l + 1u + t] = dot_of(token, w + d, d) + b[1];
        out[2u * l + 1u + t] = dot_of(token, w + 2u * d, d) + b[2];
        for (size_t i = 0; i < d; i++) {
            mean[i] = t == 0 ? token[i] : mean[i] + token[i];
        }
    }
    out[l] = dot_of(mean, w + 3u * d, d) / (float)l + b[3];
}

static int all_finite(const float *x, size_t n)
{
    return peak_of(x, n) <= FLT_MAX;
}

int32_t usnet_infer(const usnet_model *model, const float *x, float *out, void *scratch, size_t size)
{
    uint64_t at = USNET_HEADER_SIZE;
    usnet_ends ends;
    arena a;
    if (model == NULL || model->weights == NULL || x == NULL || out == NULL || scratch == NULL) {
        return USNET_ERR_NULL;
    }
    if (!is_aligned(scratch)) {
        return USNET_ERR_ALIGN;
    }
    if (lay_out(&model->dims, (uint8_t *)scratch, &a) > size) {
        return USNET_ERR_SCRATCH;
    }
    if (!all_finite(x, usnet_inputs(model))) {
        return USNET_ERR_INPUT;
    }
    usnet_take_first(&model->dims, &at, &ends);
    embed(model, &ends, x, &a);
    for (size_t i = 0; i < model->dims.layers; i++) {
        const usnet_layer layer = usnet_take_layer(&model->dims, &at);
        attention(model, &layer, &a);
        mlp(model, &layer, &a);
    }
    usnet_take_last(&model->dims, &at, &ends);
    point(model, &ends, &a, out);
    return 0;
}
