/* A plugin of qemu that counts the instructions which the emulated program executes, in the first eight bytes of a file.

   The program itself maps that file (sim/device/board_time.py). Declared here is what it needs of qemu-plugin.h, version 1. */

#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PUBLIC __attribute__((visibility("default")))
enum { ADD_U64 };
struct block;
extern size_t qemu_plugin_tb_n_insns(const struct block *);
extern void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t, void (*)(uint64_t, struct block *));
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct block *, int, void *, uint64_t);

PUBLIC int qemu_plugin_version = 1;
static uint64_t *count;

static void translated(uint64_t id, struct block *block)
{
    qemu_plugin_register_vcpu_tb_exec_inline(block, ADD_U64, count, qemu_plugin_tb_n_insns(block));
}

/* Its argument: count=PATH, which is there and has at least eight bytes. */
PUBLIC int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv)
{
    int f = argc == 1 && !strncmp(argv[0], "count=", 6) ? open(argv[0] + 6, O_RDWR) : -1;
    if (f < 0)
        return 1;
    count = mmap(0, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED, f, 0);
    close(f);
    if (count == MAP_FAILED)
        return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
