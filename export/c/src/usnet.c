/* usnet: checks the weights and runs the network. See usnet.h. SPDX-License-Identifier: Apache-2.0 */
#include "usnet.h"

#include "usnet_blob.h"
#include "usnet_matrix.h"
#include "usnet_rows.h"
#include "usnet_stem.h"

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
    uint32_t version, rest = 0;
    if (size < USNET_HEADER_SIZE) {
        return USNET_ERR_SIZE;
    }
    for (size_t i = 0; i < sizeof magic; i++) {
        if (at[i] != magic[i]) {
            return USNET_ERR_MAGIC;
        }
    }
    version = get32(at + 8);
    if (version == 0 || version > USNET_VERSION) {
        return USNET_ERR_VERSION;
    }
    for (size_t i = version == 1u ? 30 : 46; i < USNET_HEADER_SIZE; i++) {
        rest |= at[i];
    }
    n->patch = get16(at + 16);
    n->length = get16(at + 18);
    n->d_model = get16(at + 20);
    n->heads = get16(at + 22);
    n->d_head = get16(at + 24);
    n->hidden = get16(at + 26);
    n->layers = get16(at + 28);
    n->frame = get16(at + 30);
    n->hop = get16(at + 32);
    n->kernel = get16(at + 34);
    n->joined = get16(at + 36);
    n->narrow = get16(at + 38);
    n->wide = get16(at + 40);
    n->narrow_blocks = get16(at + 42);
    n->wide_blocks = get16(at + 44);
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

/* Lays `scratch` out, or only measures where it is null. The stem has done before the layers begin. */
static size_t lay_out(const usnet_dims *n, uint8_t *scratch, arena *a, stem_arena *b)
{
    const size_t l = n->length, d = n->d_model, head = n->d_head, f = sizeof(float);
    size_t total = 0, before;
    uint8_t *behind;
    a->z = (float *)carve(&scratch, &total, l * d * f);
    behind = scratch;
    before = total;
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
    if (usnet_has_stem(n)) {
        b->room = (float *)carve(&behind, &before, stem_room(n) * f);
        b->window = (float *)carve(&behind, &before, stem_window(n) * f);
        b->act = (usnet_act *)carve(&behind, &before, stem_act(n));
    }
    return larger(total, before);
}

size_t usnet_scratch_size(const usnet_model *model)
{
    arena a;
    stem_arena b;
    return lay_out(&model->dims, NULL, &a, &b);
}

/* ---- Attention ----------------------------------------------------------------------------------------- */

static void project_head(const arena *a, const usnet_dims *n, matrix part)
{
    multiply(a->act, n->d_model, a->act_scale, n->length, n->d_model, part, n->d_head, a->plain, n->d_head, STORE);
}

/* Each of these takes `plain` (l, D) as int16, and returns its scale. */
static float keep_queries(const arena *a, size_t n)
{
    const float peak = peak_of(a->plain, n);
    whole16(a->plain, n, reciprocal((float)QK_PEAK, peak), QK_PEAK, a->q);
    return peak / (float)QK_PEAK;
}

static float keep_keys(const arena *a, size_t l, size_t d)
{
    const float peak = peak_of(a->plain, l * d), rate = reciprocal((float)QK_PEAK, peak);
    for (size_t j = 0; j < l; j += USNET_LANES) {
        panel16(a->plain + j * d, d, rate, QK_PEAK, (int16_t *)(void *)a->scores, a->k + j * d);
    }
    return peak / (float)QK_PEAK;
}

static float keep_values(const arena *a, size_t l, size_t d)
{
    const float peak = peak_of(a->plain, l * d), rate = reciprocal((float)V_PEAK, peak);
    for (size_t i = 0; i < d; i += USNET_LANES) {
        for (size_t j = 0; j < l; j += 2u) {
            pairs16(a->plain + j * d + i, d, rate, V_PEAK, a->v + i * l + USNET_LANES * j);
        }
    }
    return peak / (float)V_PEAK;
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
        for (size_t i = 0; i < head; i += USNET_LANES) {
            for (size_t c = 0; c < USNET_LANES; c++) {
                out[i + c] = (float)sums[i + c];
            }
        }
        a->few_scale[r] = quantise8(out, head, a->few + r * head) * scale[r];
    }
    multiply(a->few, head, a->few_scale, USNET_ROWS, head, proj, d, a->z + row * d, d, ADD);
}

static void attention(const usnet_model *model, const usnet_dims *n, const usnet_layer *layer, const arena *a)
{
    const size_t l = n->length, d = n->d_model, head = n->d_head;
    const float *gains = floats(model, layer->norm1);
    const matrix qkv = matrix_at(model, layer->qkv), proj = matrix_at(model, layer->proj);
    const float octaves = 1.44269504f * usnet_rsqrt((float)head);
    for (size_t t = 0; t < l; t++) {
        float *restrict z = a->z + t * d;
        a->act_scale[t] = normalise8(z, gains, d, a->plain, a->act + t * d);
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

static void mlp(const usnet_model *model, const usnet_dims *n, const usnet_layer *layer, const arena *a)
{
    const size_t d = n->d_model, hidden = n->hidden;
    const float *gains = floats(model, layer->norm2);
    const matrix fc1 = matrix_at(model, layer->fc1), fc2 = matrix_at(model, layer->fc2);
    for (size_t t = 0; t < n->length; t += CHUNK) {
        for (size_t r = 0; r < CHUNK; r++) {
            float *restrict z = a->z + (t + r) * d;
            a->act_scale[r] = normalise8(z, gains, d, a->plain, a->act + r * d);
            for (size_t i = 0; i < d; i++) {
                z[i] += fc2.bias[i];
            }
        }
        multiply(a->act, d, a->act_scale, CHUNK, d, fc1, hidden, a->plain, hidden, GELU);
        for (size_t r = 0; r < CHUNK; r++) {
            a->few_scale[r] = quantise8(a->plain + r * hidden, hidden, a->few + r * hidden);
        }
        multiply(a->few, hidden, a->few_scale, CHUNK, hidden, fc2, d, a->z + t * d, d, ADD);
    }
}

/* Patches stay float: they are a thousandth of the work, and all the resolution that a gate has. */
static void embed(const usnet_model *model, const usnet_ends *at, const float *x, const uint16_t *places,
                  size_t count, float *z)
{
    const size_t d = model->dims.d_model, patch = model->dims.patch;
    const float *w = floats(model, at->embed), *positions = floats(model, at->place);
    for (size_t t = 0; t < count; t++) {
        const size_t place = places == NULL ? t : places[t];
        combined(x + place * patch, patch, w, d, positions + place * d, z + t * d);
    }
}

static void point(const usnet_model *model, const usnet_ends *at, size_t l, const arena *a, float *out)
{
    const size_t d = model->dims.d_model;
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

static int32_t refusal(const usnet_model *model, const float *x, const float *out, const void *scratch, size_t size)
{
    if (model == NULL || model->weights == NULL || x == NULL || out == NULL || scratch == NULL) {
        return USNET_ERR_NULL;
    }
    if (!is_aligned(scratch)) {
        return USNET_ERR_ALIGN;
    }
    if (usnet_scratch_size(model) > size) {
        return USNET_ERR_SCRATCH;
    }
    return peak_of(x, usnet_inputs(model)) <= FLT_MAX ? 0 : USNET_ERR_INPUT;
}

/* `places` null: all patches, and count is their number. */
static void forward(const usnet_model *model, const float *x, const uint16_t *places, size_t count, float *out,
                    void *scratch)
{
    usnet_dims n = model->dims;
    uint64_t at = USNET_HEADER_SIZE;
    usnet_ends ends;
    stem_arena b;
    arena a;
    n.length = (uint16_t)count;
    usnet_take_first(&model->dims, &at, &ends);
    (void)lay_out(&model->dims, (uint8_t *)scratch, &a, &b);
    embed(model, &ends, x, places, count, a.z);
    if (usnet_has_stem(&n)) {
        stem(model, &ends, &b, x, places, count, a.z);
    }
    for (size_t i = 0; i < n.layers; i++) {
        const usnet_layer layer = usnet_take_layer(&n, &at);
        attention(model, &n, &layer, &a);
        mlp(model, &n, &layer, &a);
    }
    usnet_take_last(&n, &at, &ends);
    point(model, &ends, count, &a, out);
}

int32_t usnet_infer(const usnet_model *model, const float *x, float *out, void *scratch, size_t size)
{
    const int32_t fault = refusal(model, x, out, scratch, size);
    if (fault == 0) {
        forward(model, x, NULL, model->dims.length, out, scratch);
    }
    return fault;
}

int32_t usnet_infer_some(const usnet_model *model, const float *x, const uint16_t *places, size_t count, float *out,
                         void *scratch, size_t size)
{
    const int32_t fault = places == NULL ? USNET_ERR_NULL : refusal(model, x, out, scratch, size);
    if (fault != 0) {
        return fault;
    }
    if (count == 0 || count % USNET_SOME != 0 || count > model->dims.length) {
        return USNET_ERR_PLACES;
    }
    for (size_t i = 0; i < count; i++) {
        if (places[i] >= model->dims.length || (i > 0 && places[i] <= places[i - 1u])) {
            return USNET_ERR_PLACES;
        }
    }
    forward(model, x, places, count, out, scratch);
    return 0;
}
