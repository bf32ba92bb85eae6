/* USFP version 1 for firmware: encode the frames a front end sends, understand the commands it receives.
 *
 * C99, nothing beyond <stdint.h> and <stddef.h>: no heap, no libc call, no state but what the caller owns.
 * Every buffer is the caller's. Byte order and alignment of the machine do not matter. The byte tables are
 * in PROTOCOL.md.
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

/* Buffer bytes that a frame of each kind needs. */
#define USFP_ASCAN_FRAME_SIZE(n_samples) (USFP_OVERHEAD + 2u * (size_t)(n_samples))
#define USFP_LOG_FRAME_SIZE(length) (USFP_OVERHEAD + (size_t)(length))
#define USFP_INFO_FRAME_SIZE (USFP_OVERHEAD + USFP_INFO_SIZE)
#define USFP_ACK_FRAME_SIZE (USFP_OVERHEAD + USFP_ACK_SIZE)

/* Frame types. */
#define USFP_TYPE_ASCAN 1u
#define USFP_TYPE_INFO 2u
#define USFP_TYPE_LOG 3u
#define USFP_TYPE_COMMAND 4u
#define USFP_TYPE_ACK 5u

/* Payload formats of an A-scan. */
#define USFP_FORMAT_INT16 0u

/* Opcodes of a command. */
#define USFP_OPCODE_START 1u
#define USFP_OPCODE_STOP 2u
#define USFP_OPCODE_INFO 3u

/* Status of an acknowledgement. */
#define USFP_STATUS_OK 0u
#define USFP_STATUS_UNKNOWN_OPCODE 1u
#define USFP_STATUS_BAD_ARGUMENT 2u

/* What the encoders return when they cannot encode; otherwise they return the frame's length in bytes. */
#define USFP_ERR_NULL (-1)     /* a pointer that must lead somewhere is null */
#define USFP_ERR_CAPACITY (-2) /* the output buffer is too small; nothing was written */
#define USFP_ERR_LENGTH (-3)   /* a text is longer than its field or than a payload may be */

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

/* Encode an A-scan of n_samples RF counts. Needs USFP_ASCAN_FRAME_SIZE(n_samples) bytes at out.
 * samples may be null when n_samples is 0. Returns the frame's length, USFP_ERR_NULL or USFP_ERR_CAPACITY. */
int32_t usfp_encode_ascan(uint8_t *out, size_t capacity, const usfp_ascan *ascan, const int16_t *samples,
                          uint16_t n_samples);

/* Encode an INFO frame; seq is that of the next A-scan. Needs USFP_INFO_FRAME_SIZE bytes.
 * Returns the frame's length, USFP_ERR_NULL or USFP_ERR_CAPACITY. */
int32_t usfp_encode_info(uint8_t *out, size_t capacity, uint64_t t_us, uint32_t seq, const usfp_info *info);

/* Encode a LOG frame of length bytes of UTF-8; seq is that of the next A-scan. Needs
 * USFP_LOG_FRAME_SIZE(length) bytes. text may be null when length is 0. Returns the frame's length,
 * USFP_ERR_NULL, USFP_ERR_CAPACITY, or USFP_ERR_LENGTH above USFP_MAX_PAYLOAD. */
int32_t usfp_encode_log(uint8_t *out, size_t capacity, uint64_t t_us, uint32_t seq, const char *text,
                        size_t length);

/* Encode the answer to a command; seq repeats the command's. Needs USFP_ACK_FRAME_SIZE bytes.
 * detail: for START the seq of the A-scan that comes next, for STOP the A-scans sent since START.
 * Returns the frame's length, USFP_ERR_NULL or USFP_ERR_CAPACITY. */
int32_t usfp_encode_ack(uint8_t *out, size_t capacity, uint64_t t_us, uint32_t seq, uint8_t opcode,
                        uint8_t status, uint32_t detail);

/* A command from the host. opcode may be one that this version does not know: answer
 * USFP_STATUS_UNKNOWN_OPCODE.
 * For USFP_OPCODE_START: prf_mhz in millihertz (0 = the device's own), count of A-scans (0 = until
 * stopped). */
typedef struct {
    uint32_t seq;
    uint32_t prf_mhz;
    uint32_t count;
    uint8_t opcode;
} usfp_command;

/* Longest command payload the parser takes; later revisions may append to the 12 bytes known today. */
#define USFP_COMMAND_MAX 32u
#define USFP_PARSER_SIZE (USFP_OVERHEAD + USFP_COMMAND_MAX)

/* Finds commands in the bytes from the host, one byte at a time: call it from the receive interrupt or on a
 * drained buffer alike. Its fields are its own, but skipped_bytes may be read: bytes passed over in search
 * of a sound frame. */
typedef struct {
    uint32_t skipped_bytes;
    uint32_t filled;
    uint32_t header_sound;
    uint8_t bytes[USFP_PARSER_SIZE];
} usfp_parser;

/* Make a parser ready, or forget what it holds. A null parser is left alone. */
void usfp_parser_init(usfp_parser *parser);

/* Take one byte. Returns 1 when it completes a command, which is then in *command; otherwise 0.
 * Returns USFP_ERR_NULL for a null pointer. Never fails otherwise: damaged frames are passed over. */
int32_t usfp_parser_push(usfp_parser *parser, uint8_t byte, usfp_command *command);

#ifdef __cplusplus
}
#endif

#endif
