/* A plugin of QEMU's user mode that counts the instructions of a program by kind, for AArch64 and ARM.
 *
 * QEMU 6 to 8 (plugin API 1); only what is used of its interface is declared here. Arguments of the plugin: none.
 * At the end it prints one line on stderr: total vector load_registers store_registers branch.
 * Kinds by the top of an AArch64 instruction (Arm DDI 0487, C4.1 "A64 instruction set encoding"); of ARM
 * instructions only the total is told. Loads and stores are counted by the registers that they fill or empty,
 * since cores take LD1 of four registers apart.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef struct {
    const char *target_name;
    struct {
        int min, cur;
    } version;
    /* what follows is of no use here */
} qemu_info_t;

extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
extern const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t,
                                                  void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, void (*)(unsigned, void *), int, void *);
extern void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, void *), void *);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

typedef struct {
    uint64_t total, vector, loads, stores, branch;
} counts;

static counts all;
static int is_a64;

/* Registers of a vector structure load or store: LD1 to LD4 of whole structures name them in bits 15:12. */
static unsigned structure_registers(uint32_t w)
{
    switch (w >> 12 & 15u) {
    case 0: /* LD4 */
    case 2: /* LD1, four */
        return 4;
    case 4: /* LD3 */
    case 6: /* LD1, three */
        return 3;
    case 8:  /* LD2 */
    case 10: /* LD1, two */
        return 2;
    default:
        return 1;
    }
}

static void count_memory(uint32_t w, counts *c)
{
    const uint32_t form = w >> 27 & 7u; /* bits 29:27 */
    const unsigned vector = w >> 26 & 1u, bit22 = w >> 22 & 1u, bit23 = w >> 23 & 1u;
    unsigned registers = 1, load = bit22;
    if (form == 5) { /* pairs, bits 29:27 = 101 */
        registers = 2;
    } else if (form == 1 && vector && !(w >> 24 & 1u)) { /* structures, bits 29:24 = 001100 */
        registers = structure_registers(w);
    } else if (form == 3) { /* literals */
        load = 1;
    } else if (form == 7 && !vector) { /* sign-extending loads have bits 23:22 = 1x */
        load = bit22 | bit23;
    }
    *(load ? &c->loads : &c->stores) += registers;
}

static void count_one(uint32_t w, counts *c)
{
    const uint32_t top = w >> 25 & 15u;
    if ((top & 7u) == 7u) {
        c->vector++;
    } else if ((top & 5u) == 4u) {
        count_memory(w, c);
    } else if ((top & 14u) == 10u) {
        c->branch++;
    }
}

static void executed(unsigned cpu, void *data)
{
    const counts *c = (const counts *)data;
    (void)cpu;
    all.total += c->total;
    all.vector += c->vector;
    all.loads += c->loads;
    all.stores += c->stores;
    all.branch += c->branch;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    counts *c = (counts *)calloc(1, sizeof *c); /* kept: a block may run until the end */
    (void)id;
    if (c == NULL) {
        abort();
    }
    c->total = qemu_plugin_tb_n_insns(tb);
    for (size_t i = 0; is_a64 && i < c->total; i++) {
        uint32_t word;
        memcpy(&word, qemu_plugin_insn_data(qemu_plugin_tb_get_insn(tb, i)), sizeof word);
        count_one(word, c);
    }
    qemu_plugin_register_vcpu_tb_exec_cb(tb, executed, 0, c);
}

static void ended(qemu_plugin_id_t id, void *data)
{
    (void)id;
    (void)data;
    fprintf(stderr, "%llu %llu %llu %llu %llu\n", (unsigned long long)all.total, (unsigned long long)all.vector,
            (unsigned long long)all.loads, (unsigned long long)all.stores, (unsigned long long)all.branch);
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info,
                                                               int argc, char **argv)
{
    (void)argc;
    (void)argv;
    is_a64 = strcmp(info->target_name, "aarch64") == 0;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
