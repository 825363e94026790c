/* Modem lines for the ptys of one process, which have none: preload it. The lines, their counters and what the
 * "driver" lacks are in a file that the other side maps too. Built by tests/modem_shim.py. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define MGET 0x5415
#define MBIS 0x5416
#define MBIC 0x5417
#define MIWAIT 0x545C
#define GICOUNT 0x545D

enum { NO_MIWAIT = 1, NO_GICOUNT = 2, GONE = 4 };
struct state {
    uint32_t seq, inputs, outputs, counts[4] /* cts dsr rng dcd */, lacks, waiting, looks;
};
static const uint32_t BITS[4] = {0x020, 0x100, 0x080, 0x040};
static struct state *shared;

static int (*real_ioctl)(int, unsigned long, ...);

__attribute__((constructor)) static void begin(void) {
    real_ioctl = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
    const char *path = getenv("IVMA_MODEM_SHIM");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *at = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at != MAP_FAILED) shared = at;
    close(fd);
}

static int is_pty(int fd) {
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) && major(st.st_rdev) >= 136 && major(st.st_rdev) <= 143;
}

static int fail(int error) {
    errno = error;
    return -1;
}

static int wait_for(uint32_t mask) {
    struct state before = *shared;
    __atomic_add_fetch(&shared->waiting, 1, __ATOMIC_SEQ_CST);
    int result = 0;
    for (;;) {
        uint32_t seq = __atomic_load_n(&shared->seq, __ATOMIC_SEQ_CST);
        if (shared->lacks & GONE) { result = fail(EIO); break; }
        int moved = 0;
        for (int i = 0; i < 4; i++) moved |= (mask & BITS[i]) && shared->counts[i] != before.counts[i];
        if (moved) break;
        if (syscall(SYS_futex, &shared->seq, FUTEX_WAIT, seq, NULL, NULL, 0) < 0 && errno == EINTR) {
            result = fail(EINTR);
            break;
        }
    }
    int error = errno;
    __atomic_sub_fetch(&shared->waiting, 1, __ATOMIC_SEQ_CST);
    errno = error;
    return result;
}

int ioctl(int fd, unsigned long request, ...) {
    va_list list;
    va_start(list, request);
    void *arg = va_arg(list, void *);
    va_end(list);
    int ours = request == MGET || request == MBIS || request == MBIC || request == MIWAIT || request == GICOUNT;
    if (!shared || !ours || !is_pty(fd)) return real_ioctl(fd, request, arg);
    if (shared->lacks & GONE) return fail(EIO);
    switch (request) {
    case MGET:
        shared->looks++;
        *(int *)arg = (int)(shared->inputs | shared->outputs);
        return 0;
    case MBIS:
        shared->outputs |= *(uint32_t *)arg;
        return 0;
    case MBIC:
        shared->outputs &= ~*(uint32_t *)arg;
        return 0;
    case MIWAIT:
        return shared->lacks & NO_MIWAIT ? fail(ENOTTY) : wait_for((uint32_t)(uintptr_t)arg);
    default:
        if (shared->lacks & NO_GICOUNT) return fail(EINVAL);
        memset(arg, 0, 80);
        memcpy(arg, shared->counts, sizeof shared->counts);
        return 0;
    }
}
