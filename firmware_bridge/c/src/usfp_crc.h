/* The two checksums of usfp.c, by tables of 16 or 256 entries or by functions of the device's own.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef USFP_CRC_H
#define USFP_CRC_H

#include <stddef.h>
#include <stdint.h>

#ifndef USFP_CRC_TABLE
#define USFP_CRC_TABLE 16
#endif
#if USFP_CRC_TABLE != 16 && USFP_CRC_TABLE != 256
#error "USFP_CRC_TABLE is 16 or 256"
#endif

#if USFP_CRC_TABLE == 256
/* Either CRC is linear, so an entry is the sum of those of its index's bits. */
#define BIT(i, b, value) ((((i) >> (b)) & 1u) ? (value) : 0u)
#define BITS(i, a, b, c, d, e, f, g, h)                                                    \
    (BIT(i, 0, a) ^ BIT(i, 1, b) ^ BIT(i, 2, c) ^ BIT(i, 3, d) ^ BIT(i, 4, e) ^ BIT(i, 5, f) \
     ^ BIT(i, 6, g) ^ BIT(i, 7, h))
#define CRC32_OF(i)                                                                              \
    BITS(i, 0x77073096u, 0xEE0E612Cu, 0x076DC419u, 0x0EDB8832u, 0x1DB71064u, 0x3B6E20C8u, 0x76DC4190u, \
         0xEDB88320u)
#define CRC16_OF(i) BITS(i, 0x1021u, 0x2042u, 0x4084u, 0x8108u, 0x1231u, 0x2462u, 0x48C4u, 0x9188u)
#define FOUR(of, i) of(i), of((i) + 1u), of((i) + 2u), of((i) + 3u)
#define SIXTEEN(of, i) FOUR(of, i), FOUR(of, (i) + 4u), FOUR(of, (i) + 8u), FOUR(of, (i) + 12u)
#define SIXTY_FOUR(of, i) SIXTEEN(of, i), SIXTEEN(of, (i) + 16u), SIXTEEN(of, (i) + 32u), SIXTEEN(of, (i) + 48u)
#define TABLE(of) {SIXTY_FOUR(of, 0u), SIXTY_FOUR(of, 64u), SIXTY_FOUR(of, 128u), SIXTY_FOUR(of, 192u)}
#endif

#ifdef USFP_CRC32
uint32_t USFP_CRC32(uint32_t crc, const uint8_t *bytes, size_t length);
#define crc32 USFP_CRC32
#else
#if USFP_CRC_TABLE == 256
static const uint32_t CRC32_BYTE[256] = TABLE(CRC32_OF);
#else
static const uint32_t CRC32_NIBBLE[16] = {
    0x00000000u, 0x1DB71064u, 0x3B6E20C8u, 0x26D930ACu, 0x76DC4190u, 0x6B6B51F4u, 0x4DB26158u, 0x5005713Cu,
    0xEDB88320u, 0xF00F9344u, 0xD6D6A3E8u, 0xCB61B38Cu, 0x9B64C2B0u, 0x86D3D2D4u, 0xA00AE278u, 0xBDBDF21Cu,
};
#endif

static uint32_t crc32(uint32_t crc, const uint8_t *bytes, size_t length)
{
    crc = ~crc;
    for (size_t i = 0; i < length; i++) {
#if USFP_CRC_TABLE == 256
        crc = (crc >> 8) ^ CRC32_BYTE[(crc ^ bytes[i]) & 255u];
#else
        crc ^= bytes[i];
        crc = (crc >> 4) ^ CRC32_NIBBLE[crc & 15u];
        crc = (crc >> 4) ^ CRC32_NIBBLE[crc & 15u];
#endif
    }
    return ~crc;
}
#endif

#ifdef USFP_CRC16
uint16_t USFP_CRC16(const uint8_t *bytes, size_t length);
#define crc16 USFP_CRC16
#else
#if USFP_CRC_TABLE == 256
static const uint16_t CRC16_BYTE[256] = TABLE(CRC16_OF);
#else
static const uint16_t CRC16_NIBBLE[16] = {
    0x0000u, 0x1021u, 0x2042u, 0x3063u, 0x4084u, 0x50A5u, 0x60C6u, 0x70E7u,
    0x8108u, 0x9129u, 0xA14Au, 0xB16Bu, 0xC18Cu, 0xD1ADu, 0xE1CEu, 0xF1EFu,
};
#endif

static uint16_t crc16(const uint8_t *bytes, size_t length)
{
    uint32_t crc = 0xFFFFu;
    for (size_t i = 0; i < length; i++) {
#if USFP_CRC_TABLE == 256
        crc = ((crc << 8) ^ CRC16_BYTE[(crc >> 8) ^ bytes[i]]) & 0xFFFFu;
#else
        crc = ((crc << 4) ^ CRC16_NIBBLE[((crc >> 12) ^ ((uint32_t)bytes[i] >> 4)) & 15u]) & 0xFFFFu;
        crc = ((crc << 4) ^ CRC16_NIBBLE[((crc >> 12) ^ bytes[i]) & 15u]) & 0xFFFFu;
#endif
    }
    return (uint16_t)crc;
}
#endif

#endif
