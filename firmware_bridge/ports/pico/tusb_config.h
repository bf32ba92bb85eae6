/* TinyUSB: one CDC interface. SPDX-License-Identifier: Apache-2.0 */
#ifndef TUSB_CONFIG_H
#define TUSB_CONFIG_H

#define CFG_TUSB_RHPORT0_MODE OPT_MODE_DEVICE
#define CFG_TUD_ENDPOINT0_SIZE 64
#define CFG_TUD_CDC 1
#define CFG_TUD_CDC_RX_BUFSIZE 256
/* Room for the USB stack to send from while an A-scan is framed. */
#define CFG_TUD_CDC_TX_BUFSIZE 4096

#endif
