/* Preloaded: a disk that ends the process at a write, refuses one, is full, or does not answer.

   IVMA_DISK_KILL=n     SIGKILL before the n-th write, sync, rename or unlink of a file under IVMA_DISK_FOLDER
   IVMA_DISK_FAIL=n     that one fails with EIO
   IVMA_DISK_FULL=n     a write that would end beyond byte n of such a file fails with ENOSPC
   IVMA_DISK_STALL=fifo while the file <fifo>.on exists, a sync of such a file says "s" into the fifo <fifo>.up
                        and waits in open(2) of <fifo> until somebody opens it for writing */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static long number(const char *name) {
    const char *word = getenv(name);
    return word ? strtol(word, NULL, 10) : 0;
}

static int below(const char *path) {
    const char *folder = getenv("IVMA_DISK_FOLDER");
    return folder && strncmp(path, folder, strlen(folder)) == 0;
}

static int ours(int fd) {
    char name[64], path[PATH_MAX];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(name, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = 0;
    return below(path);
}

long disk_operations;

/* Whether the operation at hand fails. */
static int counted(void) {
    ++disk_operations;
    if (disk_operations == number("IVMA_DISK_KILL")) kill(getpid(), SIGKILL);
    if (disk_operations != number("IVMA_DISK_FAIL")) return 0;
    errno = EIO;
    return 1;
}

static int full(off_t end) {
    long limit = number("IVMA_DISK_FULL");
    return limit && end > limit;
}

static void stalled(void) {
    const char *fifo = getenv("IVMA_DISK_STALL");
    char name[PATH_MAX];
    if (!fifo) return;
    snprintf(name, sizeof name, "%s.on", fifo);
    if (access(name, F_OK)) return;
    snprintf(name, sizeof name, "%s.up", fifo);
    int up = open(name, O_WRONLY);
    if (up >= 0) {
        if (write(up, "s", 1) < 0) abort();
        close(up);
    }
    int fd;
    while ((fd = open(fifo, O_RDONLY)) < 0 && errno == EINTR) continue;
    if (fd >= 0) close(fd);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    if (ours(fd)) {
        if (counted()) return -1;
        if (full(at + (off_t)size)) { errno = ENOSPC; return -1; }
    }
    return REAL(pwrite64)(fd, data, size, at);
}

int ftruncate64(int fd, off64_t size) {
    if (ours(fd) && counted()) return -1;
    return REAL(ftruncate64)(fd, size);
}

int fdatasync(int fd) {
    if (ours(fd)) { if (counted()) return -1; stalled(); }
    return REAL(fdatasync)(fd);
}

int fsync(int fd) {
    if (ours(fd)) { if (counted()) return -1; stalled(); }
    return REAL(fsync)(fd);
}

int rename(const char *from, const char *to) {
    if (below(to) && counted()) return -1;
    return REAL(rename)(from, to);
}

int unlink(const char *path) {
    if (below(path) && counted()) return -1;
    return REAL(unlink)(path);
}
