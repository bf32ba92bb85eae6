/* Only what ports/pico uses, declared by us so that it can be compiled without the Pico SDK.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef HARDWARE_DMA_H
#define HARDWARE_DMA_H

#include "pico/stdlib.h"

#define DMA_SNIFF_CTRL_CALC_VALUE_CRC32R 1u
#define DREQ_ADC 36u

enum dma_channel_transfer_size { DMA_SIZE_8 = 0, DMA_SIZE_16 = 1, DMA_SIZE_32 = 2 };
typedef struct {
    uint32_t ctrl;
} dma_channel_config;

int dma_claim_unused_channel(bool required);
dma_channel_config dma_channel_get_default_config(uint channel);
void channel_config_set_transfer_data_size(dma_channel_config *c, enum dma_channel_transfer_size size);
void channel_config_set_read_increment(dma_channel_config *c, bool incr);
void channel_config_set_write_increment(dma_channel_config *c, bool incr);
void channel_config_set_dreq(dma_channel_config *c, uint dreq);
void channel_config_set_sniff_enable(dma_channel_config *c, bool sniff_enable);
void dma_channel_configure(uint channel, const dma_channel_config *config, volatile void *write_addr,
                           const volatile void *read_addr, uint transfer_count, bool trigger);
void dma_channel_wait_for_finish_blocking(uint channel);
void dma_channel_set_irq0_enabled(uint channel, bool enabled);
void dma_channel_acknowledge_irq0(uint channel);
void dma_sniffer_enable(uint channel, uint mode, bool force_channel_enable);
void dma_sniffer_set_output_reverse_enabled(bool enabled);
void dma_sniffer_set_output_invert_enabled(bool enabled);
void dma_sniffer_set_data_accumulator(uint32_t seed_value);
uint32_t dma_sniffer_get_data_accumulator(void);

#endif
