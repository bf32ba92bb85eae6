/* CRC-32 by the DMA sniffer. RP2040 datasheet, 2.5.5.2 "CRC calculation", and the registers SNIFF_CTRL and
 * SNIFF_DATA in 2.5.7; RP2350 datasheet, 12.6. SPDX-License-Identifier: Apache-2.0 */
#include "usfp_pico.h"

#include "hardware/dma.h"

static uint channel;

void usfp_pico_crc32_init(void)
{
    channel = (uint)dma_claim_unused_channel(true);
}

static uint32_t reversed(uint32_t value)
{
    uint32_t out = 0;
    for (int i = 0; i < 32; i++) {
        out = (out << 1) | (value & 1u);
        value >>= 1;
    }
    return out;
}

/* The sniffer keeps the remainder unreversed and uninverted, and turns it round as it is read: so does a CRC
 * that goes on from `crc` have to be turned back. */
uint32_t usfp_pico_crc32(uint32_t crc, const uint8_t *bytes, size_t length)
{
    static uint8_t nowhere;
    if (length == 0) {
        return crc;
    }
    dma_channel_config config = dma_channel_get_default_config(channel);
    channel_config_set_transfer_data_size(&config, DMA_SIZE_8);
    channel_config_set_read_increment(&config, true);
    channel_config_set_write_increment(&config, false);
    channel_config_set_sniff_enable(&config, true);
    dma_sniffer_enable(channel, DMA_SNIFF_CTRL_CALC_VALUE_CRC32R, true);
    dma_sniffer_set_output_reverse_enabled(true);
    dma_sniffer_set_output_invert_enabled(true);
    dma_sniffer_set_data_accumulator(reversed(~crc));
    dma_channel_configure(channel, &config, &nowhere, bytes, (uint)length, true);
    dma_channel_wait_for_finish_blocking(channel);
    return dma_sniffer_get_data_accumulator();
}
