/* CRC-32 by the DMA sniffer, for -DUSFP_CRC32=usfp_pico_crc32. SPDX-License-Identifier: Apache-2.0 */
#ifndef USFP_PICO_H
#define USFP_PICO_H

#include <stddef.h>
#include <stdint.h>

/* Claims the DMA channel; before the first frame. */
void usfp_pico_crc32_init(void);
uint32_t usfp_pico_crc32(uint32_t crc, const uint8_t *bytes, size_t length);

#endif
