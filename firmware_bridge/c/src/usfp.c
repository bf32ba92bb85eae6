/* USFP version 1 for firmware. See usfp.h. SPDX-License-Identifier: Apache-2.0 */
#include "usfp.h"

static const uint8_t SYNC[4] = {0x55u, 0x53u, 0xA5u, 0x5Au};

/* Four bits a step: 96 bytes of flash for both tables instead of 1.5 KB, at half the speed. */
static const uint32_t CRC32_NIBBLE[16] = {
    0x00000000u, 0x1DB71064u, 0x3B6E20C8u, 0x26D930ACu, 0x76DC4190u, 0x6B6B51F4u, 0x4DB26158u, 0x5005713Cu,
    0xEDB88320u, 0xF00F9344u, 0xD6D6A3E8u, 0xCB61B38Cu, 0x9B64C2B0u, 0x86D3D2D4u, 0xA00AE278u, 0xBDBDF21Cu,
};
static const uint16_t CRC16_NIBBLE[16] = {
    0x0000u, 0x1021u, 0x2042u, 0x3063u, 0x4084u, 0x50A5u, 0x60C6u, 0x70E7u,
    0x8108u, 0x9129u, 0xA14Au, 0xB16Bu, 0xC18Cu, 0xD1ADu, 0xE1CEu, 0xF1EFu,
};

static uint32_t crc32(const uint8_t *bytes, size_t length)
{
    uint32_t crc = 0xFFFFFFFFu;
    for (size_t i = 0; i < length; i++) {
        crc ^= bytes[i];
        crc = (crc >> 4) ^ CRC32_NIBBLE[crc & 15u];
        crc = (crc >> 4) ^ CRC32_NIBBLE[crc & 15u];
    }
    return crc ^ 0xFFFFFFFFu;
}

static uint16_t crc16(const uint8_t *bytes, size_t length)
{
    uint32_t crc = 0xFFFFu;
    for (size_t i = 0; i < length; i++) {
        crc = ((crc << 4) ^ CRC16_NIBBLE[((crc >> 12) ^ ((uint32_t)bytes[i] >> 4)) & 15u]) & 0xFFFFu;
        crc = ((crc << 4) ^ CRC16_NIBBLE[((crc >> 12) ^ bytes[i]) & 15u]) & 0xFFFFu;
    }
    return (uint16_t)crc;
}

static void put16(uint8_t *out, uint16_t value)
{
    out[0] = (uint8_t)(value & 0xFFu);
    out[1] = (uint8_t)(value >> 8);
}

static void put32(uint8_t *out, uint32_t value)
{
    put16(out, (uint16_t)(value & 0xFFFFu));
    put16(out + 2, (uint16_t)(value >> 16));
}

static void put64(uint8_t *out, uint64_t value)
{
    put32(out, (uint32_t)(value & 0xFFFFFFFFu));
    put32(out + 4, (uint32_t)(value >> 32));
}

static uint32_t get16(const uint8_t *in)
{
    return (uint32_t)in[0] | ((uint32_t)in[1] << 8);
}

static uint32_t get32(const uint8_t *in)
{
    return get16(in) | (get16(in + 2) << 16);
}

static void put_header(uint8_t *out, uint8_t type, const usfp_ascan *ascan, uint16_t n_samples,
                       uint32_t payload_len)
{
    for (size_t i = 0; i < sizeof SYNC; i++) {
        out[i] = SYNC[i];
    }
    out[4] = (uint8_t)USFP_VERSION;
    out[5] = type;
    out[6] = (uint8_t)USFP_FORMAT_INT16;
    out[7] = ascan->channel;
    put16(out + 8, ascan->flags);
    put16(out + 10, n_samples);
    put32(out + 12, payload_len);
    put64(out + 16, ascan->t_us);
    put32(out + 24, ascan->seq);
    put32(out + 28, ascan->fs_hz);
    put32(out + 32, (uint32_t)ascan->t0_ns);
    put16(out + 36, (uint16_t)ascan->gain_cdb);
    put16(out + 38, crc16(out, 38));
}

static int32_t put_trailer(uint8_t *out, size_t payload_len)
{
    const size_t covered = USFP_HEADER_SIZE + payload_len;
    put32(out + covered, crc32(out, covered));
    return (int32_t)(covered + USFP_TRAILER_SIZE);
}

/* Every frame but an A-scan has these two header fields only; the rest is zero. */
static void put_plain_header(uint8_t *out, uint8_t type, uint64_t t_us, uint32_t seq, size_t payload_len)
{
    usfp_ascan plain = {0};
    plain.t_us = t_us;
    plain.seq = seq;
    put_header(out, type, &plain, 0, (uint32_t)payload_len);
}

int32_t usfp_encode_ascan(uint8_t *out, size_t capacity, const usfp_ascan *ascan, const int16_t *samples,
                          uint16_t n_samples)
{
    if (out == NULL || ascan == NULL || (samples == NULL && n_samples > 0)) {
        return USFP_ERR_NULL;
    }
    if (capacity < USFP_ASCAN_FRAME_SIZE(n_samples)) {
        return USFP_ERR_CAPACITY;
    }
    const size_t payload_len = 2u * (size_t)n_samples;
    put_header(out, (uint8_t)USFP_TYPE_ASCAN, ascan, n_samples, (uint32_t)payload_len);
    for (size_t i = 0; i < n_samples; i++) {
        put16(out + USFP_HEADER_SIZE + 2u * i, (uint16_t)samples[i]);
    }
    return put_trailer(out, payload_len);
}

int32_t usfp_encode_info(uint8_t *out, size_t capacity, uint64_t t_us, uint32_t seq, const usfp_info *info)
{
    if (out == NULL || info == NULL) {
        return USFP_ERR_NULL;
    }
    if (capacity < USFP_INFO_FRAME_SIZE) {
        return USFP_ERR_CAPACITY;
    }
    uint8_t *payload = out + USFP_HEADER_SIZE;
    int ended = 0;
    put_plain_header(out, (uint8_t)USFP_TYPE_INFO, t_us, seq, USFP_INFO_SIZE);
    put32(payload, info->session_id);
    payload[4] = info->adc_bits;
    payload[5] = info->firmware[0];
    payload[6] = info->firmware[1];
    payload[7] = info->firmware[2];
    put32(payload + 8, info->fs_hz);
    put16(payload + 12, info->n_samples);
    put16(payload + 14, info->payload_formats);
    put32(payload + 16, info->prf_mhz);
    put32(payload + 20, (uint32_t)info->t0_ns);
    for (size_t i = 0; i < USFP_NAME_SIZE; i++) {
        /* Whatever lies behind the NUL in the caller's memory stays there. */
        ended = ended || info->name[i] == '\0';
        payload[24 + i] = ended ? (uint8_t)0 : (uint8_t)info->name[i];
    }
    return put_trailer(out, USFP_INFO_SIZE);
}

int32_t usfp_encode_log(uint8_t *out, size_t capacity, uint64_t t_us, uint32_t seq, const char *text,
                        size_t length)
{
    if (out == NULL || (text == NULL && length > 0)) {
        return USFP_ERR_NULL;
    }
    if (length > USFP_MAX_PAYLOAD) {
        return USFP_ERR_LENGTH;
    }
    if (capacity < USFP_LOG_FRAME_SIZE(length)) {
        return USFP_ERR_CAPACITY;
    }
    put_plain_header(out, (uint8_t)USFP_TYPE_LOG, t_us, seq, length);
    for (size_t i = 0; i < length; i++) {
        out[USFP_HEADER_SIZE + i] = (uint8_t)text[i];
    }
    return put_trailer(out, length);
}

int32_t usfp_encode_ack(uint8_t *out, size_t capacity, uint64_t t_us, uint32_t seq, uint8_t opcode,
                        uint8_t status, uint32_t detail)
{
    if (out == NULL) {
        return USFP_ERR_NULL;
    }
    if (capacity < USFP_ACK_FRAME_SIZE) {
        return USFP_ERR_CAPACITY;
    }
    uint8_t *payload = out + USFP_HEADER_SIZE;
    put_plain_header(out, (uint8_t)USFP_TYPE_ACK, t_us, seq, USFP_ACK_SIZE);
    payload[0] = opcode;
    payload[1] = status;
    put16(payload + 2, 0);
    put32(payload + 4, detail);
    return put_trailer(out, USFP_ACK_SIZE);
}

void usfp_parser_init(usfp_parser *parser)
{
    if (parser != NULL) {
        parser->skipped_bytes = 0;
        parser->filled = 0;
        parser->header_sound = 0;
    }
}

static void discard(usfp_parser *parser, uint32_t count)
{
    parser->filled -= count;
    parser->header_sound = 0;
    for (uint32_t i = 0; i < parser->filled; i++) {
        parser->bytes[i] = parser->bytes[i + count];
    }
}

/* What the parser's bytes are, judged from the first one on. */
typedef enum { INCOMPLETE, NO_FRAME, WHOLE_FRAME } verdict;

static uint32_t frame_length(const usfp_parser *parser)
{
    return USFP_OVERHEAD + get32(parser->bytes + 12);
}

static int sync_holds(const usfp_parser *parser)
{
    for (uint32_t i = 0; i < parser->filled && i < sizeof SYNC; i++) {
        if (parser->bytes[i] != SYNC[i]) {
            return 0;
        }
    }
    return 1;
}

static verdict judge(usfp_parser *parser)
{
    const uint8_t *bytes = parser->bytes;
    if (!sync_holds(parser)) {
        return NO_FRAME;
    }
    if (parser->filled < USFP_HEADER_SIZE) {
        return INCOMPLETE;
    }
    /* Remembered, because a receive interrupt has no time to check the header again at every byte. */
    if (!parser->header_sound) {
        if (bytes[4] != USFP_VERSION || get32(bytes + 12) > USFP_COMMAND_MAX
            || get16(bytes + 38) != crc16(bytes, 38)) {
            return NO_FRAME;
        }
        parser->header_sound = 1;
    }
    const uint32_t length = frame_length(parser);
    if (parser->filled < length) {
        return INCOMPLETE;
    }
    const uint32_t covered = length - USFP_TRAILER_SIZE;
    return get32(bytes + covered) == crc32(bytes, covered) ? WHOLE_FRAME : NO_FRAME;
}

static int32_t read_command(const uint8_t *bytes, usfp_command *command)
{
    const uint8_t *payload = bytes + USFP_HEADER_SIZE;
    if (bytes[5] != USFP_TYPE_COMMAND || get32(bytes + 12) < USFP_COMMAND_SIZE) {
        return 0;
    }
    command->seq = get32(bytes + 24);
    command->opcode = payload[0];
    command->prf_mhz = get32(payload + 4);
    command->count = get32(payload + 8);
    return 1;
}

int32_t usfp_parser_push(usfp_parser *parser, uint8_t byte, usfp_command *command)
{
    if (parser == NULL || command == NULL) {
        return USFP_ERR_NULL;
    }
    /* There is room: a whole frame or a false start leaves the buffer as soon as it is recognised. */
    parser->bytes[parser->filled++] = byte;
    for (;;) {
        const verdict found = judge(parser);
        if (found == INCOMPLETE || parser->filled == 0) {
            return 0;
        }
        if (found == NO_FRAME) {
            discard(parser, 1);
            parser->skipped_bytes++;
            continue;
        }
        const uint32_t length = frame_length(parser);
        const int32_t is_command = read_command(parser->bytes, command);
        discard(parser, length);
        return is_command;
    }
}
