/* USFP version 1 for firmware and hosts: encode A-scans and messages, decode a byte stream.
 *
 * C99, nothing beyond <stdint.h> and <stddef.h>: no heap, no libc call, no state but what the caller owns.
 * Every buffer is the caller's. Byte order and alignment of the machine do not matter, but for
 * usfp_gather_ascan. The byte tables are in PROTOCOL.md.
 *
 * Settings, by -D or in a file of your own named by -DUSFP_CONFIG='"my_usfp_config.h"':
 *   USFP_CRC_TABLE  16 (default: 96 bytes of tables) or 256 (1.5 KB of tables, about twice as fast)
 *   USFP_CRC32      name of a function of yours that replaces the table, as for a CRC peripheral:
 *                   uint32_t f(uint32_t crc, const uint8_t *bytes, size_t length), which continues a CRC-32
 *                   as zlib's crc32() does: 0 before the first byte, the CRC itself after the last
 *   USFP_CRC16      likewise uint16_t f(const uint8_t *bytes, size_t length): CRC-16/CCITT-FALSE, seed 0xFFFF
 *
 * Functions that can fail return a negative USFP_ERR_ code and have then written nothing that matters.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef USFP_H
#define USFP_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define USFP_VERSION 1u
#define USFP_HEADER_SIZE 40u
#define USFP_TRAILER_SIZE 4u
#define USFP_OVERHEAD (USFP_HEADER_SIZE + USFP_TRAILER_SIZE)
#define USFP_NAME_SIZE 24u
#define USFP_INFO_SIZE 48u
#define USFP_COMMAND_SIZE 12u
#define USFP_ACK_SIZE 8u
#define USFP_MAX_PAYLOAD 131070u
/* Longest command payload a device need take; later revisions may append to the 12 bytes known today. */
#define USFP_COMMAND_MAX 32u
/* Samples that share one parameter in the delta-Rice format. */
#define USFP_RICE_BLOCK 64u

/* Buffer bytes that a frame of each kind needs. */
#define USFP_FRAME_SIZE(payload_len) (USFP_OVERHEAD + (size_t)(payload_len))
#define USFP_ASCAN_FRAME_SIZE(n_samples) USFP_FRAME_SIZE(2u * (size_t)(n_samples))
#define USFP_LOG_FRAME_SIZE(length) USFP_FRAME_SIZE(length)
#define USFP_INFO_FRAME_SIZE USFP_FRAME_SIZE(USFP_INFO_SIZE)
#define USFP_COMMAND_FRAME_SIZE USFP_FRAME_SIZE(USFP_COMMAND_SIZE)
#define USFP_ACK_FRAME_SIZE USFP_FRAME_SIZE(USFP_ACK_SIZE)
/* Payload bytes of a packed 12-bit A-scan. */
#define USFP_PACKED12_SIZE(n_samples) ((3u * (size_t)(n_samples) + 1u) / 2u)
/* Buffer of a decoder on a device, which receives commands only. */
#define USFP_COMMAND_BUFFER USFP_FRAME_SIZE(USFP_COMMAND_MAX)

/* Frame types. */
#define USFP_TYPE_ASCAN 1u
#define USFP_TYPE_INFO 2u
#define USFP_TYPE_LOG 3u
#define USFP_TYPE_COMMAND 4u
#define USFP_TYPE_ACK 5u

/* Payload formats of an A-scan. */
#define USFP_FORMAT_INT16 0u
#define USFP_FORMAT_PACKED12 1u
#define USFP_FORMAT_DELTA_RICE 2u

/* Opcodes of a command. */
#define USFP_OPCODE_START 1u
#define USFP_OPCODE_STOP 2u
#define USFP_OPCODE_INFO 3u

/* Status of an acknowledgement. */
#define USFP_STATUS_OK 0u
#define USFP_STATUS_UNKNOWN_OPCODE 1u
#define USFP_STATUS_BAD_ARGUMENT 2u

/* Errors. */
#define USFP_ERR_NULL (-1)       /* a pointer that must lead somewhere is null */
#define USFP_ERR_CAPACITY (-2)   /* the output buffer is too small */
#define USFP_ERR_LENGTH (-3)     /* a text, payload or n_samples is longer than its field or its format allows */
#define USFP_ERR_RANGE (-4)      /* a sample does not fit 12 bits */
#define USFP_ERR_FORMAT (-5)     /* an unknown payload format, or a frame of another type than asked for */
#define USFP_ERR_PAYLOAD (-6)    /* a payload that its format cannot have produced, or one that is too short */
#define USFP_ERR_BYTE_ORDER (-7) /* this machine is big-endian, so its samples are not the wire's bytes */

/* One A-scan's header fields. t_us: device clock, microseconds. t0_ns: trigger (main bang) to first sample,
 * may be negative. gain_cdb: hundredths of a dB. */
typedef struct {
    uint64_t t_us;
    uint32_t seq;
    uint32_t fs_hz;
    int32_t t0_ns;
    int16_t gain_cdb;
    uint16_t flags;
    uint8_t channel;
} usfp_ascan;

/* What an INFO frame tells. session_id: random at every boot. payload_formats: bit n set when the device can
 * send payload format n. prf_mhz: the device's own PRF in millihertz, 0 = as fast as the link takes.
 * name: at most USFP_NAME_SIZE bytes of UTF-8, ended by a NUL unless it fills the field. */
typedef struct {
    uint32_t session_id;
    uint32_t fs_hz;
    uint32_t prf_mhz;
    int32_t t0_ns;
    uint16_t n_samples;
    uint16_t payload_formats;
    uint8_t adc_bits;
    uint8_t firmware[3];
    char name[USFP_NAME_SIZE];
} usfp_info;

/* A command from the host. seq: the host's own number, which the answer repeats. opcode: may be one that
 * this version does not know; answer USFP_STATUS_UNKNOWN_OPCODE. For USFP_OPCODE_START: payload_format as
 * the A-scans shall be sent, prf_mhz in millihertz (0 = the device's own), count of A-scans (0 = until
 * stopped); answer USFP_STATUS_BAD_ARGUMENT to what this device cannot do. */
typedef struct {
    uint32_t seq;
    uint32_t prf_mhz;
    uint32_t count;
    uint8_t opcode;
    uint8_t payload_format;
} usfp_command;

/* The answer to a command. detail: for START the seq of the A-scan that comes next, for STOP the A-scans
 * sent since START. */
typedef struct {
    uint32_t seq;
    uint32_t detail;
    uint8_t opcode;
    uint8_t status;
} usfp_ack;

/* ---- Encoding ----------------------------------------------------------------------------------------
 * Each encoder returns the frame's length in bytes, or an error; out then holds no frame. */

/* Encode an A-scan of n_samples RF counts in format int16. Needs USFP_ASCAN_FRAME_SIZE(n_samples) bytes.
 * samples may be null when n_samples is 0. Errors: NULL, CAPACITY. */
int32_t usfp_encode_ascan(uint8_t *out, size_t capacity, const usfp_ascan *ascan, const int16_t *samples,
                          uint16_t n_samples);

/* Likewise in any payload format, coded straight into out, which may then be as small as the coded frame.
 * Errors: NULL, CAPACITY, FORMAT; RANGE from packed12; LENGTH from delta-Rice when int16 would be no longer. */
int32_t usfp_encode_ascan_as(uint8_t *out, size_t capacity, const usfp_ascan *ascan, uint8_t format,
                             const int16_t *samples, uint16_t n_samples);

/* Encode an INFO frame; seq is that of the next A-scan. Errors: NULL, CAPACITY. */
int32_t usfp_encode_info(uint8_t *out, size_t capacity, uint64_t t_us, uint32_t seq, const usfp_info *info);

/* Encode a LOG frame of length bytes of UTF-8; seq is that of the next A-scan. text may be null when length
 * is 0. Errors: NULL, CAPACITY, LENGTH above USFP_MAX_PAYLOAD. */
int32_t usfp_encode_log(uint8_t *out, size_t capacity, uint64_t t_us, uint32_t seq, const char *text,
                        size_t length);

/* Encode a command; for hosts. Errors: NULL, CAPACITY. */
int32_t usfp_encode_command(uint8_t *out, size_t capacity, const usfp_command *command);

/* Encode the answer to a command. Errors: NULL, CAPACITY. */
int32_t usfp_encode_ack(uint8_t *out, size_t capacity, uint64_t t_us, const usfp_ack *ack);

/* ---- Encoding without a copy -------------------------------------------------------------------------
 * Three pieces to send one behind another, as by three DMA transfers: header, payload where it lies, trailer.
 * The payload must not change until it is sent. Two of the pieces lead into the usfp_gather itself: it must
 * not move or be copied before that either. */
typedef struct {
    const uint8_t *bytes;
    size_t length;
} usfp_piece;

typedef struct {
    usfp_piece piece[3];
    uint8_t header[USFP_HEADER_SIZE];
    uint8_t trailer[USFP_TRAILER_SIZE];
} usfp_gather;

/* Frame samples where they lie, in format int16. Returns the frame's length in bytes.
 * Errors: NULL; BYTE_ORDER on a big-endian machine. */
int32_t usfp_gather_ascan(usfp_gather *out, const usfp_ascan *ascan, const int16_t *samples,
                          uint16_t n_samples);

/* Frame a payload that usfp_pack12 or usfp_rice_encode made. Returns the frame's length in bytes.
 * Errors: NULL, FORMAT, LENGTH when payload_len cannot be that of n_samples in this format. */
int32_t usfp_gather_payload(usfp_gather *out, const usfp_ascan *ascan, uint8_t format, const uint8_t *payload,
                            size_t payload_len, uint16_t n_samples);

/* ---- Payload formats ---------------------------------------------------------------------------------
 * The coders return the payload's length, the decoders the number of samples. */

/* Two samples of -2048 … 2047 in three bytes. out may be the samples themselves: it packs in place.
 * Errors: NULL, CAPACITY, RANGE (out is then partly written, and samples packed in place are lost). */
int32_t usfp_pack12(uint8_t *out, size_t capacity, const int16_t *samples, uint16_t n_samples);

/* Errors: NULL, CAPACITY (in samples), PAYLOAD. */
int32_t usfp_unpack12(int16_t *samples, size_t capacity, const uint8_t *payload, size_t payload_len,
                      uint16_t n_samples);

/* Differences, zigzag, Rice codes with a parameter for each USFP_RICE_BLOCK samples; 0.2 to 0.4 of int16 on
 * echoes. Errors: NULL, CAPACITY, LENGTH when the payload would not be shorter than int16: send that. */
int32_t usfp_rice_encode(uint8_t *out, size_t capacity, const int16_t *samples, uint16_t n_samples);

/* Errors: NULL, CAPACITY (in samples), PAYLOAD. */
int32_t usfp_rice_decode(int16_t *samples, size_t capacity, const uint8_t *payload, size_t payload_len,
                         uint16_t n_samples);

/* ---- Decoding ----------------------------------------------------------------------------------------
 * Put bytes in as they come, in pieces of any length, and take frames out:
 *
 *     while (length > 0) {
 *         const size_t taken = usfp_decoder_put(&decoder, bytes, length);
 *         bytes += taken;
 *         length -= taken;
 *         while (usfp_decoder_next(&decoder, &frame) == 1) {
 *             use(&frame);
 *         }
 *     }
 */

/* One frame. payload leads into the decoder's buffer and holds until the next call of usfp_decoder_put,
 * usfp_decoder_finish or usfp_decoder_reset. */
typedef struct {
    const uint8_t *payload;
    uint64_t t_us;
    uint32_t payload_len;
    uint32_t seq;
    uint32_t fs_hz;
    int32_t t0_ns;
    int16_t gain_cdb;
    uint16_t flags;
    uint16_t n_samples;
    uint8_t type;
    uint8_t format;
    uint8_t channel;
} usfp_frame;

/* What a decoder has met since usfp_decoder_init; they wrap at 2^32.
 * frames: returned. crc_errors: header sound, CRC-32 not. header_errors: sync words followed by a bad header
 * CRC, an unknown version or an impossible length. unsupported: sound frames of an unknown type or format.
 * resyncs: times sync was lost after a sound frame. truncated: frames cut off by the end of the stream.
 * skipped_bytes: bytes that are part of no returned frame.
 * Bytes put = bytes of returned frames + skipped_bytes + usfp_decoder_pending. */
typedef struct {
    uint32_t frames;
    uint32_t crc_errors;
    uint32_t header_errors;
    uint32_t unsupported;
    uint32_t resyncs;
    uint32_t truncated;
    uint32_t skipped_bytes;
} usfp_stats;

/* stats may be read; the rest is the decoder's own. */
typedef struct {
    usfp_stats stats;
    uint8_t *buffer;
    size_t capacity;
    size_t at;
    size_t filled;
    size_t frame_size;
    uint8_t in_sync;
} usfp_decoder;

/* Make a decoder ready. The buffer bounds the frames it takes: a header that announces more than
 * capacity - USFP_OVERHEAD payload bytes is a header error. Returns 0. Errors: NULL; CAPACITY below
 * USFP_OVERHEAD. */
int32_t usfp_decoder_init(usfp_decoder *decoder, uint8_t *buffer, size_t capacity);

/* Take as many bytes as there is room for, and return how many: at least 1 of a length above 0 once
 * usfp_decoder_next has returned 0. 0 for null pointers. */
size_t usfp_decoder_put(usfp_decoder *decoder, const uint8_t *bytes, size_t length);

/* Return 1 with a frame in *frame, or 0 when more bytes are needed. Errors: NULL. */
int32_t usfp_decoder_next(usfp_decoder *decoder, usfp_frame *frame);

/* End the stream: call it until it returns 0. Returns 1 with a sound frame found inside what is cut off.
 * Afterwards the decoder is empty and can take a new stream. Errors: NULL. */
int32_t usfp_decoder_finish(usfp_decoder *decoder, usfp_frame *frame);

/* Forget the bytes held back, as after a reconnect; they count as skipped, not as a resync. */
void usfp_decoder_reset(usfp_decoder *decoder);

/* Bytes held back until more arrive; 0 for a null pointer. */
size_t usfp_decoder_pending(const usfp_decoder *decoder);

/* Read what a frame carries; bytes past the known ones belong to later revisions and are ignored. Return 0,
 * usfp_read_samples the number of samples, from any payload format.
 * Errors: NULL, FORMAT (another type of frame), PAYLOAD, and CAPACITY (in samples). */
int32_t usfp_read_command(const usfp_frame *frame, usfp_command *command);
int32_t usfp_read_info(const usfp_frame *frame, usfp_info *info);
int32_t usfp_read_ack(const usfp_frame *frame, usfp_ack *ack);
int32_t usfp_read_samples(const usfp_frame *frame, int16_t *samples, size_t capacity);

#ifdef __cplusplus
}
#endif

#endif
