/* The CRC hooks of the ports against units that work as their manuals say: bit by bit, unreversed inside.
 * Reads bytes from stdin; prints CRC-32 by the RP2040's sniffer and by the STM32's unit, in two steps each.
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>

#include "hardware/dma.h"
#include "main.h"
#include "usfp_pico.h"
#include "usfp_stm32.h"

static uint32_t turned(uint32_t value, int bits)
{
    uint32_t out = 0;
    for (int i = 0; i < bits; i++) {
        out = (out << 1) | ((value >> i) & 1u);
    }
    return out;
}

/* Polynomial 0x04C11DB7, most significant bit first, each byte turned round on its way in. */
static uint32_t shifted_in(uint32_t remainder, const uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        remainder ^= turned(bytes[i], 8) << 24;
        for (int bit = 0; bit < 8; bit++) {
            remainder = (remainder << 1) ^ ((remainder & 0x80000000u) != 0u ? 0x04C11DB7u : 0u);
        }
    }
    return remainder;
}

/* ---- RP2040 -------------------------------------------------------------------------------------------- */

static struct {
    uint32_t remainder;
    uint channel;
    bool enabled, reverse, invert;
} sniffer;

int dma_claim_unused_channel(bool required)
{
    (void)required;
    return 3;
}

dma_channel_config dma_channel_get_default_config(uint channel)
{
    (void)channel;
    return (dma_channel_config){0};
}

void channel_config_set_transfer_data_size(dma_channel_config *c, enum dma_channel_transfer_size size)
{
    c->ctrl |= size == DMA_SIZE_8 ? 1u : 0u;
}

void channel_config_set_read_increment(dma_channel_config *c, bool incr)
{
    c->ctrl |= incr ? 2u : 0u;
}

void channel_config_set_write_increment(dma_channel_config *c, bool incr)
{
    c->ctrl |= incr ? 0u : 4u;
}

void channel_config_set_sniff_enable(dma_channel_config *c, bool sniff_enable)
{
    c->ctrl |= sniff_enable ? 8u : 0u;
}

void dma_channel_configure(uint channel, const dma_channel_config *config, volatile void *write_addr,
                           const volatile void *read_addr, uint transfer_count, bool trigger)
{
    (void)write_addr;
    if (config->ctrl == 15u && trigger && sniffer.enabled && sniffer.channel == channel) {
        sniffer.remainder = shifted_in(sniffer.remainder, (const uint8_t *)(uintptr_t)read_addr, transfer_count);
    }
}

void dma_channel_wait_for_finish_blocking(uint channel)
{
    (void)channel;
}

void dma_sniffer_enable(uint channel, uint mode, bool force_channel_enable)
{
    (void)force_channel_enable;
    sniffer.channel = channel;
    sniffer.enabled = mode == DMA_SNIFF_CTRL_CALC_VALUE_CRC32R;
}

void dma_sniffer_set_output_reverse_enabled(bool enabled)
{
    sniffer.reverse = enabled;
}

void dma_sniffer_set_output_invert_enabled(bool enabled)
{
    sniffer.invert = enabled;
}

void dma_sniffer_set_data_accumulator(uint32_t seed_value)
{
    sniffer.remainder = seed_value;
}

uint32_t dma_sniffer_get_data_accumulator(void)
{
    const uint32_t out = sniffer.reverse ? turned(sniffer.remainder, 32) : sniffer.remainder;
    return sniffer.invert ? ~out : out;
}

/* ---- STM32 --------------------------------------------------------------------------------------------- */

CRC_TypeDef crc_unit;
CRC_HandleTypeDef hcrc;

HAL_StatusTypeDef HAL_CRC_Init(CRC_HandleTypeDef *handle)
{
    handle->Instance->INIT = 0xFFFFFFFFu;
    return handle->Init.InputDataInversionMode == CRC_INPUTDATA_INVERSION_BYTE
                   && handle->Init.OutputDataInversionMode == CRC_OUTPUTDATA_INVERSION_ENABLE
                   && handle->InputDataFormat == CRC_INPUTDATA_FORMAT_BYTES
               ? HAL_OK
               : HAL_ERROR;
}

uint32_t HAL_CRC_Calculate(CRC_HandleTypeDef *handle, uint32_t *from, uint32_t length)
{
    return turned(shifted_in(handle->Instance->INIT, (const uint8_t *)from, length), 32);
}

uint32_t __RBIT(uint32_t value)
{
    return turned(value, 32);
}

void Error_Handler(void)
{
    exit(1);
}

/* ---- */

int main(int argc, char **argv)
{
    static uint8_t bytes[65536];
    const size_t length = fread(bytes, 1, sizeof bytes, stdin);
    size_t first = argc > 1 ? (size_t)strtoul(argv[1], NULL, 10) : 0;
    first = first < length ? first : length;
    usfp_pico_crc32_init();
    usfp_stm32_crc32_init();
    const uint32_t pico = usfp_pico_crc32(usfp_pico_crc32(0, bytes, first), bytes + first, length - first);
    const uint32_t stm32 = usfp_stm32_crc32(usfp_stm32_crc32(0, bytes, first), bytes + first, length - first);
    printf("%08lx %08lx\n", (unsigned long)pico, (unsigned long)stm32);
    return 0;
}
