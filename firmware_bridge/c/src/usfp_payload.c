/* USFP version 1: the payload formats packed-12 and delta-Rice, and the reading of payloads. See usfp.h.
 * SPDX-License-Identifier: Apache-2.0 */
#include "usfp_bytes.h"

/* ---- packed-12 --------------------------------------------------------------------------------------- */

static int fits_12_bits(int16_t sample)
{
    return sample >= -2048 && sample <= 2047;
}

static int16_t from_12_bits(uint32_t value)
{
    return (int16_t)(value < 0x800u ? (int32_t)value : (int32_t)value - 0x1000);
}

int32_t usfp_pack12(uint8_t *out, size_t capacity, const int16_t *samples, uint16_t n_samples)
{
    if (n_samples > 0 && (out == NULL || samples == NULL)) {
        return USFP_ERR_NULL;
    }
    if (capacity < USFP_PACKED12_SIZE(n_samples)) {
        return USFP_ERR_CAPACITY;
    }
    uint8_t *to = out;
    for (size_t i = 0; i < n_samples; i += 2) {
        /* Both are read before anything is written: out may be the samples themselves. */
        const int has_second = i + 1 < n_samples;
        const int16_t first = samples[i];
        const int16_t second = has_second ? samples[i + 1] : (int16_t)0;
        if (!fits_12_bits(first) || !fits_12_bits(second)) {
            return USFP_ERR_RANGE;
        }
        *to++ = (uint8_t)((uint16_t)first & 0xFFu);
        *to++ = (uint8_t)((((uint16_t)first >> 8) & 15u) | (((uint16_t)second & 15u) << 4));
        if (has_second) {
            *to++ = (uint8_t)(((uint16_t)second >> 4) & 0xFFu);
        }
    }
    return (int32_t)USFP_PACKED12_SIZE(n_samples);
}

int32_t usfp_unpack12(int16_t *samples, size_t capacity, const uint8_t *payload, size_t payload_len,
                      uint16_t n_samples)
{
    if ((samples == NULL && n_samples > 0) || (payload == NULL && payload_len > 0)) {
        return USFP_ERR_NULL;
    }
    if (capacity < n_samples) {
        return USFP_ERR_CAPACITY;
    }
    if (payload_len != USFP_PACKED12_SIZE(n_samples)
        || (n_samples % 2u == 1u && payload[payload_len - 1] > 15u)) {
        return USFP_ERR_PAYLOAD;
    }
    for (size_t i = 0; i < n_samples; i += 2, payload += 3) {
        samples[i] = from_12_bits(payload[0] | ((payload[1] & 15u) << 8));
        if (i + 1 < n_samples) {
            samples[i + 1] = from_12_bits(((uint32_t)payload[1] >> 4) | ((uint32_t)payload[2] << 4));
        }
    }
    return (int32_t)n_samples;
}

/* ---- delta-Rice --------------------------------------------------------------------------------------
 * Three planes of bits, least significant first: K the blocks' parameters, R the codes' low bits, U their
 * high parts in unary. Planes, because a host without a compiler decodes each of them as one array. */

#define LARGEST_K 15u
#define LARGEST_CODE 0xFFFFu

/* Writes bits one behind another; what is not yet a whole byte waits. */
typedef struct {
    uint8_t *out;
    uint32_t waiting;
    uint32_t n_waiting;
} bit_writer;

/* At most 16 bits. */
static void put_bits(bit_writer *writer, uint32_t bits, uint32_t count)
{
    writer->waiting |= bits << writer->n_waiting;
    writer->n_waiting += count;
    while (writer->n_waiting >= 8u) {
        *writer->out++ = (uint8_t)(writer->waiting & 0xFFu);
        writer->waiting >>= 8;
        writer->n_waiting -= 8u;
    }
}

static void pad_to_byte(bit_writer *writer)
{
    if (writer->n_waiting > 0) {
        put_bits(writer, 0, 8u - writer->n_waiting);
    }
}

static size_t block_length(size_t start, size_t n_samples)
{
    return n_samples - start < USFP_RICE_BLOCK ? n_samples - start : USFP_RICE_BLOCK;
}

static size_t k_plane_length(size_t n_samples)
{
    return ((n_samples + USFP_RICE_BLOCK - 1u) / USFP_RICE_BLOCK + 1u) / 2u;
}

static uint32_t parameter_of(const uint8_t *k_plane, size_t start)
{
    const size_t block = start / USFP_RICE_BLOCK;
    return ((uint32_t)k_plane[block / 2u] >> (block % 2u * 4u)) & 15u;
}

/* The sample's difference from the one before it, modulo 2^16 and zigzag: 0, -1, 1, -2 become 0, 1, 2, 3. */
static uint32_t code_of(const int16_t *samples, size_t i)
{
    const uint32_t before = i > 0 ? (uint16_t)samples[i - 1] : 0u;
    const uint32_t difference = ((uint16_t)samples[i] - before) & 0xFFFFu;
    return difference < 0x8000u ? difference << 1 : ((0xFFFFu - difference) << 1) | 1u;
}

static uint32_t best_parameter(const int16_t *samples, size_t start, size_t length)
{
    uint32_t sum = 0;
    uint32_t k = 0;
    for (size_t i = start; i < start + length; i++) {
        sum += code_of(samples, i);
    }
    while (k < LARGEST_K && ((uint32_t)length << k) < sum) {
        k++;
    }
    return k;
}

/* Fill the K plane; return the bytes of the two other planes. */
static size_t choose_parameters(uint8_t *k_plane, const int16_t *samples, size_t n_samples, size_t *r_length)
{
    uint32_t r_bits = 0;
    uint32_t u_bits = 0;
    bit_writer k_bits = {0};
    k_bits.out = k_plane;
    for (size_t start = 0; start < n_samples; start += USFP_RICE_BLOCK) {
        const size_t length = block_length(start, n_samples);
        const uint32_t k = best_parameter(samples, start, length);
        put_bits(&k_bits, k, 4);
        r_bits += k * (uint32_t)length;
        for (size_t i = start; i < start + length; i++) {
            u_bits += (code_of(samples, i) >> k) + 1u;
        }
    }
    pad_to_byte(&k_bits);
    *r_length = (size_t)((r_bits + 7u) / 8u);
    return *r_length + (size_t)((u_bits + 7u) / 8u);
}

static void write_codes(uint8_t *k_plane, size_t r_length, const int16_t *samples, size_t n_samples)
{
    bit_writer low = {0};
    bit_writer high = {0};
    low.out = k_plane + k_plane_length(n_samples);
    high.out = low.out + r_length;
    for (size_t i = 0; i < n_samples; i++) {
        const uint32_t k = parameter_of(k_plane, i);
        const uint32_t code = code_of(samples, i);
        put_bits(&low, code & ((1u << k) - 1u), k);
        for (uint32_t zeros = code >> k; zeros > 0; zeros--) {
            put_bits(&high, 0, 1);
        }
        put_bits(&high, 1, 1);
    }
    pad_to_byte(&low);
    pad_to_byte(&high);
}

int32_t usfp_rice_encode(uint8_t *out, size_t capacity, const int16_t *samples, uint16_t n_samples)
{
    const size_t k_length = k_plane_length(n_samples);
    size_t r_length = 0;
    if (n_samples == 0) {
        return 0;
    }
    if (out == NULL || samples == NULL) {
        return USFP_ERR_NULL;
    }
    if (capacity < k_length) {
        return USFP_ERR_CAPACITY;
    }
    const size_t length = k_length + choose_parameters(out, samples, n_samples, &r_length);
    if (length >= 2u * (size_t)n_samples) {
        return USFP_ERR_LENGTH;
    }
    if (capacity < length) {
        return USFP_ERR_CAPACITY;
    }
    write_codes(out, r_length, samples, n_samples);
    return (int32_t)length;
}

/* A plane that is read bit by bit: at and end in bits. */
typedef struct {
    const uint8_t *bytes;
    uint32_t at;
    uint32_t end;
} bit_reader;

/* The caller knows that they are there. */
static uint32_t get_bits(bit_reader *reader, uint32_t count)
{
    uint32_t bits = 0;
    for (uint32_t got = 0; got < count;) {
        const uint32_t offset = reader->at % 8u;
        const uint32_t step = count - got < 8u - offset ? count - got : 8u - offset;
        const uint32_t part = ((uint32_t)reader->bytes[reader->at / 8u] >> offset) & ((1u << step) - 1u);
        bits |= part << got;
        got += step;
        reader->at += step;
    }
    return bits;
}

/* Zeros before the next one; more than most when there are too many of them, or no one at all. */
static uint32_t get_unary(bit_reader *reader, uint32_t most)
{
    uint32_t zeros = 0;
    while (zeros <= most) {
        if (reader->at >= reader->end) {
            return most + 1u;
        }
        if (get_bits(reader, 1) == 1u) {
            return zeros;
        }
        zeros++;
    }
    return zeros;
}

/* Whether nothing is left but less than a byte of zeros. */
static int only_padding_left(bit_reader *reader)
{
    const uint32_t left = reader->end - reader->at;
    return left < 8u && get_bits(reader, left) == 0;
}

/* Where the planes lie; 0 when the payload is too short for them. */
static int find_planes(const uint8_t *payload, size_t payload_len, size_t n_samples, bit_reader *low,
                       bit_reader *high)
{
    const size_t k_length = k_plane_length(n_samples);
    uint32_t r_bits = 0;
    if (payload_len < k_length || payload_len > 2u * n_samples) {
        return 0;
    }
    for (size_t start = 0; start < n_samples; start += USFP_RICE_BLOCK) {
        r_bits += parameter_of(payload, start) * (uint32_t)block_length(start, n_samples);
    }
    const size_t r_length = (size_t)((r_bits + 7u) / 8u);
    if (payload_len - k_length < r_length) {
        return 0;
    }
    low->bytes = payload + k_length;
    low->at = 0;
    low->end = 8u * (uint32_t)r_length;
    high->bytes = low->bytes + r_length;
    high->at = 0;
    high->end = 8u * (uint32_t)(payload_len - k_length - r_length);
    /* An odd number of blocks leaves half a byte of padding. */
    return ((n_samples + USFP_RICE_BLOCK - 1u) / USFP_RICE_BLOCK) % 2u == 0 || payload[k_length - 1] <= 15u;
}

int32_t usfp_rice_decode(int16_t *samples, size_t capacity, const uint8_t *payload, size_t payload_len,
                         uint16_t n_samples)
{
    bit_reader low;
    bit_reader high;
    uint32_t sample = 0;
    if ((samples == NULL && n_samples > 0) || (payload == NULL && payload_len > 0)) {
        return USFP_ERR_NULL;
    }
    if (capacity < n_samples) {
        return USFP_ERR_CAPACITY;
    }
    if (n_samples == 0) {
        return payload_len == 0 ? 0 : USFP_ERR_PAYLOAD;
    }
    if (!find_planes(payload, payload_len, n_samples, &low, &high)) {
        return USFP_ERR_PAYLOAD;
    }
    for (size_t i = 0; i < n_samples; i++) {
        const uint32_t k = parameter_of(payload, i);
        const uint32_t zeros = get_unary(&high, LARGEST_CODE >> k);
        if (zeros > LARGEST_CODE >> k) {
            return USFP_ERR_PAYLOAD;
        }
        const uint32_t code = (zeros << k) | get_bits(&low, k);
        sample += code % 2u == 0 ? code >> 1 : ~(code >> 1);
        samples[i] = as_int16((uint16_t)(sample & 0xFFFFu));
    }
    return only_padding_left(&low) && only_padding_left(&high) ? (int32_t)n_samples : USFP_ERR_PAYLOAD;
}

/* ---- Reading  ---------------------------------------------------------------------------------------- */

/* Bytes past the known ones belong to later revisions. */
static int32_t check_message(const usfp_frame *frame, uint8_t type, size_t known)
{
    if (frame->type != type) {
        return USFP_ERR_FORMAT;
    }
    return frame->payload_len < known ? USFP_ERR_PAYLOAD : 0;
}

int32_t usfp_read_command(const usfp_frame *frame, usfp_command *command)
{
    if (frame == NULL || command == NULL) {
        return USFP_ERR_NULL;
    }
    const int32_t fault = check_message(frame, (uint8_t)USFP_TYPE_COMMAND, USFP_COMMAND_SIZE);
    if (fault < 0) {
        return fault;
    }
    command->seq = frame->seq;
    command->opcode = frame->payload[0];
    command->payload_format = frame->payload[1];
    command->prf_mhz = get32(frame->payload + 4);
    command->count = get32(frame->payload + 8);
    return 0;
}

int32_t usfp_read_info(const usfp_frame *frame, usfp_info *info)
{
    if (frame == NULL || info == NULL) {
        return USFP_ERR_NULL;
    }
    const int32_t fault = check_message(frame, (uint8_t)USFP_TYPE_INFO, USFP_INFO_SIZE);
    if (fault < 0) {
        return fault;
    }
    info->session_id = get32(frame->payload);
    info->adc_bits = frame->payload[4];
    info->firmware[0] = frame->payload[5];
    info->firmware[1] = frame->payload[6];
    info->firmware[2] = frame->payload[7];
    info->fs_hz = get32(frame->payload + 8);
    info->n_samples = get16(frame->payload + 12);
    info->payload_formats = get16(frame->payload + 14);
    info->prf_mhz = get32(frame->payload + 16);
    info->t0_ns = as_int32(get32(frame->payload + 20));
    copy_name((uint8_t *)info->name, frame->payload + 24);
    return 0;
}

int32_t usfp_read_ack(const usfp_frame *frame, usfp_ack *ack)
{
    if (frame == NULL || ack == NULL) {
        return USFP_ERR_NULL;
    }
    const int32_t fault = check_message(frame, (uint8_t)USFP_TYPE_ACK, USFP_ACK_SIZE);
    if (fault < 0) {
        return fault;
    }
    ack->seq = frame->seq;
    ack->opcode = frame->payload[0];
    ack->status = frame->payload[1];
    ack->detail = get32(frame->payload + 4);
    return 0;
}

static int32_t read_int16(const usfp_frame *frame, int16_t *samples, size_t capacity)
{
    if (samples == NULL && frame->n_samples > 0) {
        return USFP_ERR_NULL;
    }
    if (capacity < frame->n_samples) {
        return USFP_ERR_CAPACITY;
    }
    if (frame->payload_len != 2u * (size_t)frame->n_samples) {
        return USFP_ERR_PAYLOAD;
    }
    for (size_t i = 0; i < frame->n_samples; i++) {
        samples[i] = as_int16(get16(frame->payload + 2u * i));
    }
    return (int32_t)frame->n_samples;
}

int32_t usfp_read_samples(const usfp_frame *frame, int16_t *samples, size_t capacity)
{
    if (frame == NULL) {
        return USFP_ERR_NULL;
    }
    if (frame->type != USFP_TYPE_ASCAN) {
        return USFP_ERR_FORMAT;
    }
    const size_t payload_len = (size_t)frame->payload_len;
    switch (frame->format) {
    case USFP_FORMAT_INT16:
        return read_int16(frame, samples, capacity);
    case USFP_FORMAT_PACKED12:
        return usfp_unpack12(samples, capacity, frame->payload, payload_len, frame->n_samples);
    case USFP_FORMAT_DELTA_RICE:
        return usfp_rice_decode(samples, capacity, frame->payload, payload_len, frame->n_samples);
    default:
        return USFP_ERR_FORMAT;
    }
}
