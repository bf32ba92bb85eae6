/* Only what ports/pico uses, declared by us so that it can be compiled without the Pico SDK.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef TUSB_H
#define TUSB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OPT_MODE_DEVICE 1
#include "tusb_config.h"

typedef struct {
    uint8_t bLength;
    uint8_t bDescriptorType;
    uint16_t bcdUSB;
    uint8_t bDeviceClass;
    uint8_t bDeviceSubClass;
    uint8_t bDeviceProtocol;
    uint8_t bMaxPacketSize0;
    uint16_t idVendor;
    uint16_t idProduct;
    uint16_t bcdDevice;
    uint8_t iManufacturer;
    uint8_t iProduct;
    uint8_t iSerialNumber;
    uint8_t bNumConfigurations;
} tusb_desc_device_t;

#define TUSB_DESC_DEVICE 0x01
#define TUSB_DESC_STRING 0x03u
#define TUSB_CLASS_MISC 0xEF
#define MISC_SUBCLASS_COMMON 2
#define MISC_PROTOCOL_IAD 1
#define TUD_CONFIG_DESC_LEN 9
#define TUD_CDC_DESC_LEN 66
/* Not the bytes of a descriptor: the SDK's macros lay those out, and this only uses the arguments. */
#define TUD_CONFIG_DESCRIPTOR(config_num, itf_count, stridx, total_len, attribute, power_ma) \
    (config_num), (itf_count), (stridx), (total_len), (attribute), (power_ma)
#define TUD_CDC_DESCRIPTOR(itf, stridx, ep_notif, ep_notif_size, epout, epin, epsize) \
    (itf), (stridx), (ep_notif), (ep_notif_size), (epout), (epin), (epsize)

bool tusb_init(void);
void tud_task(void);
bool tud_task_event_ready(void);
uint32_t tud_cdc_read(void *buffer, uint32_t bufsize);
uint32_t tud_cdc_write(const void *buffer, uint32_t bufsize);
uint32_t tud_cdc_write_flush(void);
uint32_t tud_cdc_write_available(void);
bool tud_cdc_write_clear(void);

/* The application's own. */
void tud_cdc_rx_cb(uint8_t itf);
const uint8_t *tud_descriptor_device_cb(void);
const uint8_t *tud_descriptor_configuration_cb(uint8_t index);
const uint16_t *tud_descriptor_string_cb(uint8_t index, uint16_t langid);

#endif
