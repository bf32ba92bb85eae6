/* What the device tells the host of itself. The vendor id is Raspberry Pi's, its product id that of the
 * SDK's own CDC device: take your own before you give a device away. USB CDC 1.2, PSTN 1.2.
 * SPDX-License-Identifier: Apache-2.0 */
#include "tusb.h"

enum { INTERFACE_CDC, INTERFACE_CDC_BULK, N_INTERFACES };
enum { ENDPOINT_NOTIFY = 0x81, ENDPOINT_OUT = 0x02, ENDPOINT_IN = 0x82 };

static const tusb_desc_device_t DEVICE = {
    .bLength = sizeof(tusb_desc_device_t),
    .bDescriptorType = TUSB_DESC_DEVICE,
    .bcdUSB = 0x0200,
    .bDeviceClass = TUSB_CLASS_MISC,
    .bDeviceSubClass = MISC_SUBCLASS_COMMON,
    .bDeviceProtocol = MISC_PROTOCOL_IAD,
    .bMaxPacketSize0 = CFG_TUD_ENDPOINT0_SIZE,
    .idVendor = 0x2E8A,
    .idProduct = 0x000A,
    .bcdDevice = 0x0100,
    .iManufacturer = 1,
    .iProduct = 2,
    .iSerialNumber = 0,
    .bNumConfigurations = 1,
};

static const uint8_t CONFIGURATION[] = {
    TUD_CONFIG_DESCRIPTOR(1, N_INTERFACES, 0, TUD_CONFIG_DESC_LEN + TUD_CDC_DESC_LEN, 0, 100),
    TUD_CDC_DESCRIPTOR(INTERFACE_CDC, 0, ENDPOINT_NOTIFY, 8, ENDPOINT_OUT, ENDPOINT_IN, 64),
};

static const char *const STRINGS[] = {NULL, "usedge", "USFP front end"};

const uint8_t *tud_descriptor_device_cb(void)
{
    return (const uint8_t *)&DEVICE;
}

const uint8_t *tud_descriptor_configuration_cb(uint8_t index)
{
    (void)index;
    return CONFIGURATION;
}

const uint16_t *tud_descriptor_string_cb(uint8_t index, uint16_t langid)
{
    static uint16_t out[32];
    size_t length = 1;
    (void)langid;
    if (index == 0) {
        out[length++] = 0x0409; /* English */
    } else if (index < sizeof STRINGS / sizeof STRINGS[0]) {
        for (const char *at = STRINGS[index]; *at != '\0' && length < sizeof out / sizeof out[0]; at++) {
            out[length++] = (uint8_t)*at;
        }
    } else {
        return NULL;
    }
    out[0] = (uint16_t)((TUSB_DESC_STRING << 8) | (2u * length));
    return out;
}
