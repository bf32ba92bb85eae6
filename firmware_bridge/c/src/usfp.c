/* USFP version 1: frames, messages and the decoder. See usfp.h. SPDX-License-Identifier: Apache-2.0 */
#include "usfp.h"

#ifdef USFP_CONFIG
#include USFP_CONFIG
#endif

#include "usfp_bytes.h"
#include "usfp_crc.h"

static const uint8_t SYNC[4] = {0x55u, 0x53u, 0xA5u, 0x5Au};

/* ---- Encoding ---------------------------------------------------------------------------------------- */

/* An A-scan states its length twice; nothing else does. */
static int length_agrees(uint8_t type, uint8_t format, uint16_t n_samples, size_t payload_len)
{
    const size_t as_int16_len = 2u * (size_t)n_samples;
    if (type != USFP_TYPE_ASCAN || format > USFP_FORMAT_DELTA_RICE) {
        return 1;
    }
    if (format == USFP_FORMAT_DELTA_RICE) {
        return payload_len <= as_int16_len;
    }
    return payload_len == (format == USFP_FORMAT_INT16 ? as_int16_len : USFP_PACKED12_SIZE(n_samples));
}

static void put_header(uint8_t *out, uint8_t type, uint8_t format, const usfp_ascan *ascan,
                       uint16_t n_samples, size_t payload_len)
{
    for (size_t i = 0; i < sizeof SYNC; i++) {
        out[i] = SYNC[i];
    }
    out[4] = (uint8_t)USFP_VERSION;
    out[5] = type;
    out[6] = format;
    out[7] = ascan->channel;
    put16(out + 8, ascan->flags);
    put16(out + 10, n_samples);
    put32(out + 12, (uint32_t)payload_len);
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
    put32(out + covered, crc32(0, out, covered));
    return (int32_t)(covered + USFP_TRAILER_SIZE);
}

/* Every frame but an A-scan has these two header fields only; the rest is zero. */
static void put_plain_header(uint8_t *out, uint8_t type, uint64_t t_us, uint32_t seq, size_t payload_len)
{
    usfp_ascan plain = {0};
    plain.t_us = t_us;
    plain.seq = seq;
    put_header(out, type, (uint8_t)USFP_FORMAT_INT16, &plain, 0, payload_len);
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
    put_header(out, (uint8_t)USFP_TYPE_ASCAN, (uint8_t)USFP_FORMAT_INT16, ascan, n_samples, payload_len);
    for (size_t i = 0; i < n_samples; i++) {
        put16(out + USFP_HEADER_SIZE + 2u * i, (uint16_t)samples[i]);
    }
    return put_trailer(out, payload_len);
}

int32_t usfp_encode_ascan_as(uint8_t *out, size_t capacity, const usfp_ascan *ascan, uint8_t format,
                             const int16_t *samples, uint16_t n_samples)
{
    int32_t length = USFP_ERR_FORMAT;
    if (format == USFP_FORMAT_INT16) {
        return usfp_encode_ascan(out, capacity, ascan, samples, n_samples);
    }
    if (out == NULL || ascan == NULL) {
        return USFP_ERR_NULL;
    }
    if (capacity < USFP_OVERHEAD) {
        return USFP_ERR_CAPACITY;
    }
    if (format == USFP_FORMAT_PACKED12) {
        length = usfp_pack12(out + USFP_HEADER_SIZE, capacity - USFP_OVERHEAD, samples, n_samples);
    } else if (format == USFP_FORMAT_DELTA_RICE) {
        length = usfp_rice_encode(out + USFP_HEADER_SIZE, capacity - USFP_OVERHEAD, samples, n_samples);
    }
    if (length < 0) {
        return length;
    }
    put_header(out, (uint8_t)USFP_TYPE_ASCAN, format, ascan, n_samples, (size_t)length);
    return put_trailer(out, (size_t)length);
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
    copy_name(payload + 24, (const uint8_t *)info->name);
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

int32_t usfp_encode_command(uint8_t *out, size_t capacity, const usfp_command *command)
{
    if (out == NULL || command == NULL) {
        return USFP_ERR_NULL;
    }
    if (capacity < USFP_COMMAND_FRAME_SIZE) {
        return USFP_ERR_CAPACITY;
    }
    uint8_t *payload = out + USFP_HEADER_SIZE;
    put_plain_header(out, (uint8_t)USFP_TYPE_COMMAND, 0, command->seq, USFP_COMMAND_SIZE);
    payload[0] = command->opcode;
    payload[1] = command->payload_format;
    put16(payload + 2, 0);
    put32(payload + 4, command->prf_mhz);
    put32(payload + 8, command->count);
    return put_trailer(out, USFP_COMMAND_SIZE);
}

int32_t usfp_encode_ack(uint8_t *out, size_t capacity, uint64_t t_us, const usfp_ack *ack)
{
    if (out == NULL || ack == NULL) {
        return USFP_ERR_NULL;
    }
    if (capacity < USFP_ACK_FRAME_SIZE) {
        return USFP_ERR_CAPACITY;
    }
    uint8_t *payload = out + USFP_HEADER_SIZE;
    put_plain_header(out, (uint8_t)USFP_TYPE_ACK, t_us, ack->seq, USFP_ACK_SIZE);
    payload[0] = ack->opcode;
    payload[1] = ack->status;
    put16(payload + 2, 0);
    put32(payload + 4, ack->detail);
    return put_trailer(out, USFP_ACK_SIZE);
}

int32_t usfp_gather_ascan(usfp_gather *out, const usfp_ascan *ascan, const int16_t *samples,
                          uint16_t n_samples)
{
    const uint16_t one = 1;
    if (*(const uint8_t *)&one != 1) {
        return USFP_ERR_BYTE_ORDER;
    }
    return usfp_gather_payload(out, ascan, (uint8_t)USFP_FORMAT_INT16, (const uint8_t *)samples,
                               2u * (size_t)n_samples, n_samples);
}

int32_t usfp_gather_payload(usfp_gather *out, const usfp_ascan *ascan, uint8_t format, const uint8_t *payload,
                            size_t payload_len, uint16_t n_samples)
{
    if (out == NULL || ascan == NULL || (payload == NULL && payload_len > 0)) {
        return USFP_ERR_NULL;
    }
    if (format > USFP_FORMAT_DELTA_RICE) {
        return USFP_ERR_FORMAT;
    }
    if (!length_agrees((uint8_t)USFP_TYPE_ASCAN, format, n_samples, payload_len)) {
        return USFP_ERR_LENGTH;
    }
    put_header(out->header, (uint8_t)USFP_TYPE_ASCAN, format, ascan, n_samples, payload_len);
    put32(out->trailer, crc32(crc32(0, out->header, USFP_HEADER_SIZE), payload, payload_len));
    out->piece[0].bytes = out->header;
    out->piece[0].length = USFP_HEADER_SIZE;
    out->piece[1].bytes = payload;
    out->piece[1].length = payload_len;
    out->piece[2].bytes = out->trailer;
    out->piece[2].length = USFP_TRAILER_SIZE;
    return (int32_t)(USFP_OVERHEAD + payload_len);
}

/* ---- Decoding ---------------------------------------------------------------------------------------- */

int32_t usfp_decoder_init(usfp_decoder *decoder, uint8_t *buffer, size_t capacity)
{
    static const usfp_stats none = {0};
    if (decoder == NULL || buffer == NULL) {
        return USFP_ERR_NULL;
    }
    if (capacity < USFP_OVERHEAD) {
        return USFP_ERR_CAPACITY;
    }
    decoder->stats = none;
    decoder->buffer = buffer;
    decoder->capacity = capacity;
    decoder->at = decoder->filled = decoder->frame_size = 0;
    decoder->in_sync = 0;
    return 0;
}

size_t usfp_decoder_pending(const usfp_decoder *decoder)
{
    return decoder == NULL ? 0 : decoder->filled - decoder->at;
}

size_t usfp_decoder_put(usfp_decoder *decoder, const uint8_t *bytes, size_t length)
{
    if (decoder == NULL || bytes == NULL) {
        return 0;
    }
    /* Moved once for every frame begun, not for every byte that comes: at is 0 after it. */
    if (decoder->at > 0) {
        const size_t kept = usfp_decoder_pending(decoder);
        for (size_t i = 0; i < kept; i++) {
            decoder->buffer[i] = decoder->buffer[decoder->at + i];
        }
        decoder->at = 0;
        decoder->filled = kept;
    }
    const size_t room = decoder->capacity - decoder->filled;
    const size_t taken = length < room ? length : room;
    for (size_t i = 0; i < taken; i++) {
        decoder->buffer[decoder->filled + i] = bytes[i];
    }
    decoder->filled += taken;
    return taken;
}

/* Pass over bytes that are no frame; the first of them after a sound frame means that sync is lost. */
static void skip(usfp_decoder *decoder, size_t count)
{
    if (count == 0) {
        return;
    }
    decoder->stats.skipped_bytes += (uint32_t)count;
    decoder->stats.resyncs += decoder->in_sync;
    decoder->in_sync = 0;
    decoder->at += count;
    decoder->frame_size = 0;
}

/* Whether a sync word begins here, as far as its bytes have come. */
static int sync_begins(const uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length && i < sizeof SYNC; i++) {
        if (bytes[i] != SYNC[i]) {
            return 0;
        }
    }
    return 1;
}

static void skip_to_sync(usfp_decoder *decoder)
{
    size_t position = decoder->at;
    while (position < decoder->filled
           && !sync_begins(decoder->buffer + position, decoder->filled - position)) {
        position++;
    }
    skip(decoder, position - decoder->at);
}

static int header_sound(const usfp_decoder *decoder, const uint8_t *header)
{
    const uint32_t payload_len = get32(header + 12);
    return get16(header + 38) == crc16(header, 38) && header[4] == USFP_VERSION
           && payload_len <= USFP_MAX_PAYLOAD && payload_len <= decoder->capacity - USFP_OVERHEAD
           && length_agrees(header[5], header[6], get16(header + 10), (size_t)payload_len);
}

/* Stand on a sound header and remember it: at small reads it must not be checked at every read. */
static int find_header(usfp_decoder *decoder)
{
    while (decoder->frame_size == 0) {
        skip_to_sync(decoder);
        if (usfp_decoder_pending(decoder) < USFP_HEADER_SIZE) {
            return 0;
        }
        const uint8_t *header = decoder->buffer + decoder->at;
        if (header_sound(decoder, header)) {
            decoder->frame_size = USFP_FRAME_SIZE(get32(header + 12));
        } else {
            decoder->stats.header_errors++;
            skip(decoder, sizeof SYNC);
        }
    }
    return 1;
}

static void read_frame(usfp_frame *frame, const uint8_t *bytes)
{
    frame->type = bytes[5];
    frame->format = bytes[6];
    frame->channel = bytes[7];
    frame->flags = get16(bytes + 8);
    frame->n_samples = get16(bytes + 10);
    frame->payload_len = get32(bytes + 12);
    frame->t_us = get64(bytes + 16);
    frame->seq = get32(bytes + 24);
    frame->fs_hz = get32(bytes + 28);
    frame->t0_ns = as_int32(get32(bytes + 32));
    frame->gain_cdb = as_int16(get16(bytes + 36));
    frame->payload = bytes + USFP_HEADER_SIZE;
}

static int is_known(const uint8_t *header)
{
    return header[5] >= USFP_TYPE_ASCAN && header[5] <= USFP_TYPE_ACK && header[6] <= USFP_FORMAT_DELTA_RICE;
}

/* Judge the whole frame that the decoder stands on, and pass over it; 1 when it is one to return. */
static int take_frame(usfp_decoder *decoder, usfp_frame *frame)
{
    const uint8_t *bytes = decoder->buffer + decoder->at;
    const size_t size = decoder->frame_size;
    const size_t covered = size - USFP_TRAILER_SIZE;
    if (get32(bytes + covered) != crc32(0, bytes, covered)) {
        decoder->stats.crc_errors++;
        skip(decoder, sizeof SYNC);
        return 0;
    }
    decoder->in_sync = 1;
    decoder->at += size;
    decoder->frame_size = 0;
    if (!is_known(bytes)) {
        decoder->stats.unsupported++;
        decoder->stats.skipped_bytes += (uint32_t)size;
        return 0;
    }
    decoder->stats.frames++;
    read_frame(frame, bytes);
    return 1;
}

int32_t usfp_decoder_next(usfp_decoder *decoder, usfp_frame *frame)
{
    if (decoder == NULL || frame == NULL) {
        return USFP_ERR_NULL;
    }
    while (find_header(decoder) && usfp_decoder_pending(decoder) >= decoder->frame_size) {
        if (take_frame(decoder, frame)) {
            return 1;
        }
    }
    return 0;
}

int32_t usfp_decoder_finish(usfp_decoder *decoder, usfp_frame *frame)
{
    if (decoder == NULL || frame == NULL) {
        return USFP_ERR_NULL;
    }
    while (usfp_decoder_next(decoder, frame) == 0) {
        const size_t pending = usfp_decoder_pending(decoder);
        decoder->in_sync = 0;
        if (pending == 0) {
            decoder->at = decoder->filled = 0;
            return 0;
        }
        decoder->stats.truncated += pending >= sizeof SYNC;
        skip(decoder, pending < sizeof SYNC ? pending : sizeof SYNC);
    }
    return 1;
}

void usfp_decoder_reset(usfp_decoder *decoder)
{
    if (decoder == NULL) {
        return;
    }
    decoder->stats.skipped_bytes += (uint32_t)usfp_decoder_pending(decoder);
    decoder->at = decoder->filled = decoder->frame_size = 0;
    decoder->in_sync = 0;
}
